"""The rows that a comparison trains and tests on: the same for every model of a repetition."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from raymat.data.checks import logarithms
from raymat.data.crystals import CrystalSet
from raymat.data.facts import DataSource
from raymat.data.leakage import find_leakage
from raymat.data.readers import load_crystals
from raymat.data.splits import Split, make_split
from raymat.properties import Task
from raymat.training.inputs import (
    RunInputs,
    as_classes,
    check_learnable,
    choose_task,
    join_rejected,
)
from raymat.tuning.comparison_cells import ComparisonPlan, PropertyPlan, draw_nested
from raymat.tuning.comparison_plan import check_properties


def load_rows(
    plan: ComparisonPlan, *, max_rejected: float, begun: Mapping[str, str] | None = None
) -> "dict[str, PropertyRows]":
    """Read the crystals of every property of a plan.

    Args:
        plan: the plan.
        max_rejected: share of unusable rows that is tolerated.
        begun: of a comparison that is resumed: property -> the task it was begun with.

    Raises:
        ConfigError: a column that the plan names does not exist, or it asks for too many rows.
        DataError: the data cannot be used.
    """
    tables = {
        source: load_crystals(source, max_rejected=max_rejected).crystals.properties
        for source in {prop.data for prop in plan.properties}
    }
    columns = {name: [*map(str, t.columns), *logarithms(t)] for name, t in tables.items()}
    check_properties(plan, columns)
    tasks = begun or {}
    return {
        p.name: PropertyRows(p, max_rejected=max_rejected, begun=tasks.get(p.name))
        for p in plan.properties
    }


class PropertyRows:
    """The usable crystals of one property of a plan.

    Args:
        plan: the property, its data and its rows.
        max_rejected: share of unusable rows that is tolerated.
        begun: the task that the comparison was begun with, if it is resumed.

    Attributes:
        crystals: those that take part.
        rejected: rows of the data that cannot be used, with reasons.

    Raises:
        ConfigError: the plan asks for more rows than there are.
        DataError: the data cannot be used.
    """

    def __init__(
        self, plan: PropertyPlan, *, max_rejected: float, begun: str | None = None
    ) -> None:
        loaded = load_crystals(plan.data, target=plan.name, max_rejected=max_rejected)
        columns = {name: loaded.crystals.target(name) for name in plan.where}
        rows = plan.choose_rows(loaded.crystals.material_ids, columns)
        self.plan, self.max_rejected = plan, max_rejected
        self.prop, self.classes = choose_task(loaded, plan.classes, begun=begun)
        self.crystals: CrystalSet = loaded.crystals.take(rows)
        self.rejected: pd.DataFrame = loaded.rejected
        self.source: DataSource = loaded.source
        self._spacegroups: dict[int, int] = {}

    @property
    def task(self) -> Task:
        """What a model learns here; a number that is made into classes is one of classes."""
        return self.prop.task if self.classes is None else "classification"

    def leave_out(self, unusable: dict[int, str]) -> None:
        """Drop rows that some model of the plan cannot read, for all models.

        Raises:
            DataError: they are too many.
        """
        none = self.rejected.iloc[:0]  # those of the source have been counted against all its rows
        listed = join_rejected(none, self.crystals, unusable, max_rejected=self.max_rejected)
        self.rejected = pd.concat([self.rejected, listed], ignore_index=True)
        self.crystals = self.crystals.take(
            np.setdiff1d(np.arange(len(self.crystals)), list(unusable)).astype(np.int64)
        )
        self._spacegroups = {}

    def inputs(self, plan: ComparisonPlan, repetition: int, n_train: int | None) -> RunInputs:
        """Give the inputs of one repetition, with all training rows or a subset of them.

        Validation and test rows are those of the repetition, whatever the training size; a smaller
        subset lies in a larger one.

        Raises:
            ConfigError: there are fewer training rows than `n_train`.
            DataError: nothing can be learned from them.
        """
        split = make_split(self.crystals, plan.split_of(repetition))
        if n_train is not None:
            split = _with_training_rows(split, n_train, seed=plan.seed_of(repetition))
        inputs = RunInputs(
            crystals=self.crystals,
            prop=self.prop,
            split=split,
            source=self.source,
            leakage=find_leakage(self.crystals, split, known=self._spacegroups),
            rejected=self.rejected,
        )
        if self.classes is not None:
            inputs = as_classes(inputs, self.classes)
        check_learnable(inputs)
        return inputs

    def fewest_training_rows(self, plan: ComparisonPlan) -> int:
        """Give the number of training rows that every repetition has."""
        counts = (
            len(make_split(self.crystals, plan.split_of(r)).rows("train"))
            for r in range(plan.repetitions)
        )
        return min(counts)


def _with_training_rows(split: Split, n: int, *, seed: int) -> Split:
    rows = split.rows("train")
    chosen = rows[draw_nested(split.material_ids[rows].tolist(), n, seed=seed)]
    return split.without(np.setdiff1d(rows, chosen))
