"""The features that the cells of a comparison read, made once for all of them."""

import math
from typing import Any

import ray

from raymat.cluster.features import find_or_build_table
from raymat.cluster.resources import workers_per_machine
from raymat.features.table import FeatureTable, TableConfig
from raymat.models import load_spec
from raymat.tracking.run_directory import RunDirectory
from raymat.training.forecast import slow_fit_warning
from raymat.tuning.comparison_cells import Cell, ComparisonPlan, ModelPlan
from raymat.tuning.comparison_inputs import PropertyRows
from raymat.tuning.forecast import check_memory
from raymat.tuning.space_features import configurations_of, tables_to_build, unusable_rows


class ComparisonTables:
    """The features of every property's crystals for every model, in Ray's object store."""

    def __init__(
        self, plan: ComparisonPlan, rows_of: dict[str, PropertyRows], run: RunDirectory
    ) -> None:
        self.plan, self.rows_of, self.run = plan, rows_of, run
        self._stored: dict[tuple[str, TableConfig], Any] = {}

    def check_memory(self) -> None:
        """Check that the features and networks of every model fit into memory.

        Raises:
            ConfigError: they do not.
        """
        n_workers = workers_per_machine()
        for rows in self.rows_of.values():
            for model in self.plan.models:
                space = model.search_space().decided_by(rows.crystals)
                configs = configurations_of(space)
                check_memory(configs, rows.crystals, rows.task, n_workers=n_workers)

    def leave_out_unusable(self) -> None:
        """Drop crystals that some model cannot read, so that all models have the same rows.

        Raises:
            DataError: they are too many.
        """
        for name, rows in self.rows_of.items():
            unusable: dict[int, str] = {}
            for model in self.plan.models:
                space = model.search_space().decided_by(rows.crystals)
                unusable |= unusable_rows(space, rows.crystals, self._find(name, model))
            if unusable:
                rows.leave_out(unusable)
                first = rows.rejected.iloc[-len(unusable)]
                text = f"{name}: {first['material_id']} {first['reason']}"
                self.run.mention("left_out", count=len(unusable), first=text)

    def warn_of_slow_fits(self, cells: list[Cell]) -> None:
        """Log a warning for every property and model of which one fit will take long."""
        by_size = sorted(cells, key=lambda cell: cell.n_train or math.inf)
        largest = {(cell.property, cell.model): cell for cell in by_size}
        for cell in largest.values():
            model = self.plan.model_plan(cell.model)
            spec = load_spec(cell.model)
            if spec.warn is None:
                continue
            inputs = self.rows_of[cell.property].inputs(self.plan, cell.repetition, cell.n_train)
            space = model.search_space().decided_by(inputs.crystals)
            default = space.configure(space.default()).architecture
            data = inputs.fit_data(*self._find(cell.property, model))
            text = slow_fit_warning(spec, default, data)
            if text is not None:
                self.run.emit("warning", text=f"{cell.property}: {text}")

    def get(self, prop: str, model: ModelPlan) -> list[Any]:
        """Give references to the tables of a model, each put into the store once."""
        return [self._put(prop, config) for config in self._configs(prop, model)]

    def _put(self, prop: str, config: TableConfig) -> Any:
        key = prop, config
        if key not in self._stored:
            self._stored[key] = ray.put(self._build(prop, config))
        return self._stored[key]

    def _find(self, prop: str, model: ModelPlan) -> tuple[FeatureTable, ...]:
        return tuple(self._build(prop, config) for config in self._configs(prop, model))

    def _build(self, prop: str, config: TableConfig) -> FeatureTable:
        return find_or_build_table(self.rows_of[prop].crystals, config, on_progress=self._say)

    def _configs(self, prop: str, model: ModelPlan) -> tuple[TableConfig, ...]:
        return tables_to_build(model.search_space().decided_by(self.rows_of[prop].crystals))

    def _say(self, done: int, total: int) -> None:
        self.run.mention("features", done=done, total=total)
