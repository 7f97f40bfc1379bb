"""The order of judged candidates, and the short list."""

import numpy as np
import pandas as pd

from raymat.screening.candidates import numbers_of
from raymat.screening.criterion import Criterion


def rank(table: pd.DataFrame, criterion: Criterion) -> pd.DataFrame:
    """Order judged candidates as the criterion says, ties by id; ``rank`` counts from 1.

    Candidates without a number to be ranked by come last.
    """
    ordered = table.drop(columns="rank", errors="ignore").sort_values(
        [criterion.rank.by, "material_id"],
        ascending=[criterion.rank.order == "ascending", True],
        ignore_index=True,
    )
    ordered.insert(0, "rank", np.arange(1, len(ordered) + 1))
    return ordered


def short_list(table: pd.DataFrame, criterion: Criterion) -> pd.DataFrame:
    """Give the rows that the criterion lists; all of them where it does not say."""
    if criterion.list_if is None:
        return table
    values = {name: numbers_of(table, name) for name in criterion.list_if.names}
    listed = np.broadcast_to(criterion.list_if.evaluate(values) == 1, len(table))
    return table[listed].reset_index(drop=True)
