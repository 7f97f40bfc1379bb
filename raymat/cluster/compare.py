"""`raymat compare`: every cell of a plan on Ray, a few at a time, resumable."""

import math
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import ray
from pydantic import Field
from ray.exceptions import RayTaskError

from raymat.cluster.comparison_cell import WARNING, CellTask, run_cell
from raymat.cluster.comparison_tables import ComparisonTables
from raymat.cluster.connect import cluster_cpus, ray_session
from raymat.cluster.placement_groups import free_groups
from raymat.cluster.resources import trial_resources
from raymat.cluster.shared_storage import check_folder_is_shared
from raymat.cluster.tasks import result_of, start_task
from raymat.config import Concurrency, Config, Gpus, build_config
from raymat.data.limits import MAX_REJECTED
from raymat.data.writers import write_csv
from raymat.errors import RaymatError, RunError
from raymat.tracking.run_directory import Listener, RunDirectory
from raymat.training.inputs import RunInputs, say_odd_size
from raymat.tuning.comparison_cells import Cell, ComparisonPlan
from raymat.tuning.comparison_inputs import PropertyRows, load_rows
from raymat.tuning.comparison_plan import check_training_sizes
from raymat.tuning.request import TuneRequest

CELLS = "cells"  # folder of the cells' own runs
TABLE = "comparison.csv"
CELL_ENDED = "cell_ended"
SEEDS_PER_REPETITION = 1000  # so that no two repetitions train with one seed
# The first columns of the table, in this order; what else is known of a cell follows.
COLUMNS = (
    *("model", "property", "unit", "setting", "repetition", "n_train", "n_test"),
    *("mae", "rmse", "r2", "train_time_s", "featurize_time_s", "n_parameters", "model_bytes"),
    "device",
)


class CompareRequest(Config):
    """A comparison, completely described.

    Attributes:
        plan: what is compared.
        address: a Ray cluster; None for a local Ray.
        concurrency: cells at a time; None leaves it to the cluster.
        gpus: GPUs per trial; None leaves it to the spaces and the machine.
        max_rejected: share of unusable rows that is tolerated.
    """

    plan: ComparisonPlan
    address: str | None = None
    concurrency: Concurrency | None = None
    gpus: Gpus | None = None
    max_rejected: float = Field(MAX_REJECTED, ge=0.0, le=1.0)


def compare(
    request: CompareRequest, out: Path, *, listeners: tuple[Listener, ...] = ()
) -> pd.DataFrame:
    """Run a comparison into a new run directory and give the content of `comparison.csv`.

    Raises:
        ConfigError: the plan does not fit the data.
        DataError: the data cannot be used.
        RunError: the folder cannot be used, or cells failed.
        ClusterError: Ray cannot be reached or can never place a trial.
        KeyboardInterrupt: on Ctrl-C; `resume_compare` continues the run.
    """
    header = {"command": "compare", "arguments": request.model_dump(mode="json")}
    with RunDirectory.create(out, header, listeners=listeners) as run:
        return _run(request, run)


def resume_compare(path: Path, *, listeners: tuple[Listener, ...] = ()) -> pd.DataFrame:
    """Continue an interrupted comparison; no finished cell and no finished trial is done again.

    Raises:
        RunError: the folder is no such run, or another process is at work in it.
    """
    with RunDirectory.reopen(path, listeners=listeners) as run:
        header = run.header
        if header.get("command") != "compare":
            raise RunError(f"{path}: a {header.get('command')} run, not a compare run")
        request = build_config(CompareRequest, header["arguments"], where=f"{path}/run.json")
        return _run(request, run)


def _run(request: CompareRequest, run: RunDirectory) -> pd.DataFrame:
    plan = request.plan
    inputs = [event for event in run.events() if event["event"] == "inputs"]
    begun = {event["target"]: event["task"] for event in inputs if "task" in event}
    rows_of = load_rows(plan, max_rejected=request.max_rejected, begun=begun)
    _check_same_data(rows_of, run)
    _check_sizes(plan, rows_of)
    with ray_session(request.address):
        check_folder_is_shared(run.path)
        _check_resources(request)
        tables = ComparisonTables(plan, rows_of, run)
        tables.check_memory()
        tables.leave_out_unusable()
        _check_sizes(plan, rows_of)
        _write_rejected(rows_of, run)
        _warn_of_sizes(rows_of, run)
        run.update_header(
            seed=plan.first_seed,
            cells=len(plan.cells()),
            data={name: asdict(rows.source) for name, rows in rows_of.items()},
        )
        for note in dict.fromkeys(n for rows in rows_of.values() for n in rows.source.notes):
            run.emit("warning", text=note)
        results = _Results(plan, run)
        left = results.missing()
        tables.warn_of_slow_fits(left)
        cells = _Cells(request, tables, run)
        cells.check_inputs(left)
        run.emit("comparison_started", cells=len(plan.cells()), done=len(results.rows))
        failed = cells.run(left, results)
    if failed:
        raise RunError(
            f"{len(failed)} of {len(plan.cells())} cells failed (the first: {failed[0]});"
            f" {TABLE} holds the others, `raymat resume` tries the failed ones again"
        )
    return results.table()


class _Results:
    """The rows of finished cells: in the event log, and as a table that is always up to date."""

    def __init__(self, plan: ComparisonPlan, run: RunDirectory) -> None:
        self.plan, self.run_dir = plan, run
        ended = (event for event in run.events() if event["event"] == CELL_ENDED)
        self.rows: dict[str, dict[str, Any]] = {event["cell"]: event["row"] for event in ended}
        self._write()

    def missing(self) -> list[Cell]:
        """Give the cells without a row, in the plan's order."""
        return [cell for cell in self.plan.cells() if cell.name not in self.rows]

    def add(self, cell: Cell, row: dict[str, Any]) -> None:
        """Take the row of a cell that has just ended."""
        self.rows[cell.name] = row
        self.run_dir.emit(CELL_ENDED, durable=True, cell=cell.name, row=row)
        self._write()

    def table(self) -> pd.DataFrame:
        """Give one row per finished cell, in the plan's order."""
        names = [cell.name for cell in self.plan.cells()]
        table = pd.DataFrame([self.rows[name] for name in names if name in self.rows])
        others = [name for name in table if name not in COLUMNS]
        return table.reindex(columns=[*COLUMNS, *others])

    def _write(self) -> None:
        with self.run_dir.replacing(TABLE) as path:
            write_csv(self.table(), path)


class _Cells:
    """Runs cells as Ray tasks, as many at a time as keep the cluster busy."""

    def __init__(
        self, request: CompareRequest, tables: ComparisonTables, run: RunDirectory
    ) -> None:
        self.request, self.plan, self.tables, self.run_dir = request, request.plan, tables, run
        self._inputs: dict[tuple[str, int, int | None], Any] = {}

    def check_inputs(self, cells: list[Cell]) -> None:
        """Check that something can be learned in every cell, before the first one runs.

        Raises:
            DataError: nothing can be learned from the rows of one.
        """
        for prop, repetition, n_train in {(c.property, c.repetition, c.n_train) for c in cells}:
            self.tables.rows_of[prop].inputs(self.plan, repetition, n_train)

    def run(self, cells: list[Cell], results: "_Results") -> list[str]:
        """Run cells and add their rows to the results; give what failed and why.

        Raises:
            RunError: the log cannot be written.
        """
        waiting, running, failed = deque(cells), dict[Any, Cell](), list[str]()
        while waiting or running:
            while waiting and len(running) < self._at_once():
                cell = waiting.popleft()
                self.run_dir.emit("cell_started", cell=cell.name)
                running[self._start(cell)] = cell
            ready, _ = ray.wait(list(running), num_returns=1)
            cell = running.pop(ready[0])
            try:
                row = result_of(ready[0], self.run_dir)
                text = row.pop(WARNING, None)
                results.add(cell, row)
                if text is not None:
                    self.run_dir.emit("warning", text=f"{cell.name}: {text}")
            except (RaymatError, RayTaskError) as error:
                failed.append(self._end_failed(cell, error))
        return failed

    def _end_failed(self, cell: Cell, error: Exception) -> str:
        """Write down why a cell failed, free what it occupied, and say it in one line."""
        free_groups(str(self._folder(cell)))
        reason = str(error)
        if isinstance(error, RayTaskError):
            name = f"errors/{cell.name}.txt"
            (self.run_dir.path / "errors").mkdir(exist_ok=True)
            self.run_dir.write_text(name, f"{reason}\n")
            reason = f"{type(error.cause).__name__}: {error.cause} (see {name})"
        reason = " ".join(reason.split())
        self.run_dir.emit("cell_failed", cell=cell.name, error=reason)
        return f"{cell.name}: {reason}"

    def _folder(self, cell: Cell) -> Path:
        return self.run_dir.path / CELLS / cell.name

    def _at_once(self) -> int:
        """One cell more than fills the cluster: a search ends with fewer trials than it began."""
        if self.request.concurrency is not None:
            return self.request.concurrency
        fewest = min(model.trials for model in self.plan.models)
        return math.ceil(cluster_cpus() / fewest) + 1

    def _start(self, cell: Cell) -> Any:
        model = self.plan.model_plan(cell.model)
        task = CellTask(
            cell=cell,
            model=model,
            seed=SEEDS_PER_REPETITION * self.plan.seed_of(cell.repetition),
            folder=self._folder(cell),
            gpus=self.request.gpus,
        )
        tables = self.tables.get(cell.property, model)
        inputs = self._inputs_of(cell)
        return start_task(run_cell, task, inputs, *tables, cpu=0.0, own_process=True)

    def _inputs_of(self, cell: Cell) -> Any:
        key = cell.property, cell.repetition, cell.n_train
        if key not in self._inputs:
            rows = self.tables.rows_of[cell.property]
            inputs = rows.inputs(self.plan, cell.repetition, cell.n_train)
            self._check_same_split(cell, inputs)
            self._inputs = {key: ray.put(inputs)}  # cells of one group stand together
        return self._inputs[key]

    def _check_same_split(self, cell: Cell, inputs: RunInputs) -> None:
        """Log the rows of a group of cells; after a resume they must be the same."""
        for event in self.run_dir.events():
            is_same = event["event"] == "inputs" and event.get("group") == _group(cell)
            if is_same and event["split"]["sha256"] == inputs.split.sha256:
                return
            if is_same:
                raise RunError(
                    f"{self.run_dir.path}: the rows of {_group(cell)} are no longer those that the"
                    " run began with (another version of raymat?); start a new run"
                )
        self.run_dir.emit(
            "inputs",
            group=_group(cell),
            repetition=cell.repetition,
            **inputs.facts(),
            leakage_line=inputs.leakage.line(),
        )


def _group(cell: Cell) -> str:
    size = "all rows" if cell.n_train is None else f"{cell.n_train:,} training rows"
    return f"{cell.property}, repetition {cell.repetition}, {size}"


def _check_same_data(rows_of: dict[str, PropertyRows], run: RunDirectory) -> None:
    known = {e["target"]: e["data"]["sha256"] for e in run.events() if e["event"] == "inputs"}
    for name, rows in rows_of.items():
        now = rows.source.sha256
        if known.get(name, now) != now:
            raise RunError(
                f"{rows.plan.data}: the data have changed since the run began (SHA-256"
                f" {now[:12]}, was {known[name][:12]}); start a new run"
            )


def _check_resources(request: CompareRequest) -> None:
    """Check that a trial of every model finds a place, before features are made."""
    for model in request.plan.models:
        asked = TuneRequest(
            space=model.space,
            space_path=model.space_path,
            data="",
            target="",
            split=request.plan.split,
            gpus=request.gpus,
        )
        trial_resources(asked, model.search_space())


def _check_sizes(plan: ComparisonPlan, rows_of: dict[str, PropertyRows]) -> None:
    if plan.training_sizes != (None,):
        check_training_sizes(plan, {n: r.fewest_training_rows(plan) for n, r in rows_of.items()})


def _warn_of_sizes(rows_of: dict[str, PropertyRows], run: RunDirectory) -> None:
    for rows in rows_of.values():
        prop = replace(rows.prop, task=rows.task)
        text = say_odd_size(prop, rows.crystals.target(prop.name))
        if text is not None:
            run.emit("warning", text=text)


def _write_rejected(rows_of: dict[str, PropertyRows], run: RunDirectory) -> None:
    listed = [rows.rejected.assign(property=name) for name, rows in rows_of.items()]
    with run.replacing("rejected.csv") as path:
        write_csv(pd.concat(listed, ignore_index=True), path)
