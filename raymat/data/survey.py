"""What is wrong with the rows of a source, counted in one pass that holds a few rows at a time."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from raymat.data.checks import kind_of
from raymat.data.facts import DataSource
from raymat.data.readers import TooManyRejectedError, rejection_letter
from raymat.data.shards import iter_shards, open_shards

SHOWN_ROWS = 20
_ROWS_AT_ONCE = 10_000  # about 10 MB of structures


@dataclass(frozen=True)
class Survey:
    """The verdict on all rows of a source.

    Attributes:
        source: name, path, hash and counts.
        reasons: rejected rows by kind of reason, the most common first.
        first: ``material_id``, ``reason`` of the first rejected rows, at most `SHOWN_ROWS`.
    """

    source: DataSource
    reasons: dict[str, int]
    first: pd.DataFrame

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

    Parquet of any length takes the memory of some ten thousand rows, and 8 bytes for each row.

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
    shards = iter_shards(opened, size=_ROWS_AT_ONCE, target=target, on_note=notes.append)
    for shard in shards:
        if len(shard.rejected):
            on_rejected(shard.rejected)
            counts.update(shard.rejected["reason"].map(kind_of))
            missing = SHOWN_ROWS - sum(map(len, first))
            first.append(shard.rejected.head(missing))
    shown = pd.concat(first, ignore_index=True) if first else shard.rejected
    source_facts = opened.facts.counted(counts.total(), *notes)
    return Survey(source_facts, dict(counts.most_common()), shown)
