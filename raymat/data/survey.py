"""What is wrong with the rows of a source, counted in one pass that holds a few rows at a time."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.checks import decide_task, kind_of
from raymat.data.facts import DataSource
from raymat.data.readers import TooManyRejectedError, rejection_letter
from raymat.data.scaling import refuse_constant
from raymat.data.shards import iter_shards, open_shards
from raymat.data.splits import SplitConfig, fewest_rows
from raymat.errors import DataError
from raymat.properties import Property

SHOWN_ROWS = 20
_ROWS_AT_ONCE = 10_000  # about 10 MB of structures


@dataclass(frozen=True)
class Survey:
    """The verdict on all rows of a source.

    Attributes:
        source: name, path, hash and counts.
        reasons: rejected rows by kind of reason, the most common first.
        first: ``material_id``, ``reason`` of the first rejected rows, at most `SHOWN_ROWS`.
        prop: the target, a class where the usable rows hold two; None without a target.
        unlearnable: why no model can be trained on the usable rows, "" where one can.
    """

    source: DataSource
    reasons: dict[str, int]
    first: pd.DataFrame
    prop: Property | None = None
    unlearnable: str = ""

    def check_share(self, name: str, max_rejected: float) -> None:
        """Refuse a source of which too much cannot be used.

        Args:
            name: what to call the source.
            max_rejected: largest share of unusable rows, 0 to 1.

        Raises:
            TooManyRejectedError: more than that, or all rows, cannot be used.
        """
        n_rows, n_rejected = self.source.n_rows, self.source.n_rejected
        if n_rejected > max_rejected * n_rows or not self.source.n_used:
            listed = "--out DIR lists all of them"
            letter = rejection_letter(name, self.reasons, n_rows, max_rejected, listed=listed)
            raise TooManyRejectedError(letter, rejected=self.first)


def survey(
    source: str, *, target: str | None, on_rejected: Callable[[pd.DataFrame], None]
) -> Survey:
    """Check every row of a source.

    Parquet of any length takes the memory of some ten thousand rows, and 16 bytes for each row.

    Args:
        source: what `iter_shards` reads.
        target: property column that must hold usable numbers; None for structures and ids only.
        on_rejected: called with the rejected rows (``material_id``, ``reason``) as they are found.

    Raises:
        DataError: the source cannot be used as a whole.
    """
    opened, notes = open_shards(source, target), list[str]()
    counts: Counter[str] = Counter()
    first: list[pd.DataFrame] = []
    values, prop = [np.zeros(0)], None
    shards = iter_shards(opened, size=_ROWS_AT_ONCE, target=target, on_note=notes.append)
    for shard in shards:
        if len(shard.rejected):
            on_rejected(shard.rejected)
            counts.update(shard.rejected["reason"].map(kind_of))
            missing = SHOWN_ROWS - sum(map(len, first))
            first.append(shard.rejected.head(missing))
        if target is not None:
            values.append(shard.crystals.target(target))
            prop = shard.prop
    shown = pd.concat(first, ignore_index=True) if first else shard.rejected
    source_facts = opened.facts.counted(counts.total(), *notes)
    joined = np.concatenate(values)
    return Survey(
        source_facts,
        dict(counts.most_common()),
        shown,
        prop if prop is None else decide_task(prop, joined),
        _why_unlearnable(source_facts.n_used, None if prop is None else joined),
    )


def _why_unlearnable(n_used: int, values: NDArray[np.float64] | None) -> str:
    """Return why nothing can be learned of so many rows with these targets."""
    needed = fewest_rows(SplitConfig())
    if n_used < needed:
        return (
            f"{n_used:,} usable rows are too few to train on: the default split needs at least"
            f" {needed}; a trained model can still predict them"
        )
    try:
        if values is not None:
            refuse_constant(values, "usable targets")
    except DataError as problem:
        return str(problem)
    return ""
