"""What the log of a comparison says of its rows, and the results that stand in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.data.leakage import Leakage
from raymat.data.writers import read_own_csv
from raymat.tracking.events import Event, read_events
from raymat.tuning.comparison_cells import ComparisonPlan

LOG = "events.jsonl"
REJECTED = "rejected.csv"


@dataclass(frozen=True)
class DataFacts:
    """What a run's log says of the rows of every property.

    Attributes:
        sources: property -> name, row counts and hash of its data.
        left_out: property -> usable rows of the plan that some model cannot read.
        repetitions: property -> one line for each repetition that has begun: rows, leakage,
            elements that only test rows have.
    """

    sources: Mapping[str, str]
    left_out: Mapping[str, int]
    repetitions: Mapping[str, Sequence[str]]


def read_data_facts(plan: ComparisonPlan, run: Path) -> DataFacts:
    """Read what a run's log and its `rejected.csv` say of the rows; nothing of what has not begun.

    Args:
        plan: of the comparison.
        run: its run directory.
    """
    begun = _read_inputs(run)
    n_listed = _count_rejected(run)
    sources, left_out, repetitions = {}, {}, {}
    for prop in plan.properties:
        own = {r: event for (name, r), event in begun.items() if name == prop.name}
        repetitions[prop.name] = tuple(_describe_repetition(r, own[r]) for r in sorted(own))
        if own:
            data = next(iter(own.values()))["data"]
            sources[prop.name] = _describe_source(data)
            left_out[prop.name] = max(0, n_listed.get(prop.name, 0) - data["n_rejected"])
        else:
            sources[prop.name] = f"`{Path(prop.data).name}`"
    return DataFacts(sources, left_out, repetitions)


def read_rows(plan: ComparisonPlan, run: Path) -> pd.DataFrame:
    """Give the rows of `comparison.csv` as far as the log has them, in the order of the plan.

    Args:
        plan: of the comparison, which may be unfinished.
        run: its run directory.
    """
    done = {
        event["cell"]: event["row"]
        for event in read_events(run / LOG)
        if event["event"] == "cell_ended"
    }
    return pd.DataFrame([done[cell.name] for cell in plan.cells() if cell.name in done])


def _read_inputs(run: Path) -> dict[tuple[str, int], Event]:
    """Give the event of each property and repetition; of several training sizes, of the largest."""
    found: dict[tuple[str, int], Event] = {}
    for event in read_events(run / LOG):
        if event["event"] != "inputs":
            continue
        key = event["target"], event["repetition"]
        if key not in found or _n_train(event) >= _n_train(found[key]):
            found[key] = event
    return found


def _n_train(event: Event) -> int:
    return int(event["split"]["rows"]["train"])


def _count_rejected(run: Path) -> dict[str, int]:
    """Give property -> rows that `rejected.csv` lists, nothing without the file."""
    path = run / REJECTED
    if not path.exists():
        return {}
    listed = read_own_csv(path, usecols=["property"])["property"].astype(str)
    return {str(name): int(n) for name, n in listed.value_counts().items()}


def _describe_source(data: Mapping[str, Any]) -> str:
    rejected = f"{data['n_rejected']:,} of them rejected" if data["n_rejected"] else "none rejected"
    return f"`{data['name']}` ({data['n_rows']:,} rows, {rejected}, SHA-256 {data['sha256'][:12]})"


def _describe_repetition(repetition: int, event: Event) -> str:
    rows = event["split"]["rows"]
    counts = f"{rows['train']:,} training, {rows['validation']:,} validation, {rows['test']:,} test"
    unseen = [f"{symbol} in {n:,}" for symbol, n in event["unseen_elements"].items()]
    elements = (
        f"test rows with an element that no training row has: {', '.join(unseen)}"
        if unseen
        else "training rows have every element of the test rows"
    )
    leakage = Leakage(**event["leakage"]).line()
    threshold = event["threshold"]
    classes = "" if threshold is None else f"; class 1 lies above {threshold:g}"
    return f"repetition {repetition}: {counts} rows; {leakage}; {elements}{classes}"
