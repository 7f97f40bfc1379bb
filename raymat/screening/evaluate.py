"""The table of a screening: candidates judged by a criterion, and those that are excluded."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.ensembles.predictions import MemberPredictions
from raymat.screening.candidates import column_values, filter_candidates, known_values
from raymat.screening.criterion import Criterion
from raymat.screening.criterion_names import IN_DOMAIN
from raymat.screening.judge import judge
from raymat.screening.plain_columns import rename_candidates
from raymat.screening.voices import Voices, known_voice, pair_members

_IDENTITY = ("material_id", "formula")
_SOURCE = "source"


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Candidates judged by a criterion.

    Attributes:
        table: one row per candidate that was not excluded, in the order given, without ranks:
            ``material_id, formula``, the columns of `Criterion.table`, ``source`` ("ensemble", or
            "dft" where known values spoke in place of the members), ``in_domain`` and every other
            column that the candidate was given; one named like a column of the table comes as
            ``candidate_<name>``.
        excluded: ``material_id, formula, reason``.
    """

    table: pd.DataFrame
    excluded: pd.DataFrame


def evaluate(
    criterion: Criterion, predictions: Mapping[str, MemberPredictions], columns: pd.DataFrame
) -> Evaluated:
    """Judge candidates.

    Member n of every ensemble is paired with member n of the others. Noise that members predict
    takes no part: what passes is told by the members' means. Known values have no spread, no
    interval and no members: their share is 0 or 1.

    Args:
        criterion: what is screened by.
        predictions: prediction -> members' predictions, a column per candidate; those of a
            candidate for which `needs_members` is false are not looked at and may be NaN.
        columns: one row per candidate: ``material_id``, its columns, `Criterion.features`, and
            ``formula`` and ``in_domain`` where they are known.

    Raises:
        DataError: predictions do not fit each other or the candidates.
    """
    columns = columns.reset_index(drop=True)
    reasons = filter_candidates(criterion, columns)
    known = known_values(criterion, columns)
    is_known = ~np.isnan(next(iter(known.values()), np.full(len(columns), np.nan)))
    members = pair_members(
        {name: predictions[name] for name in criterion.predictions}, n_candidates=len(columns)
    )
    parts = [_judged(criterion, members, columns, np.flatnonzero(~is_known & (reasons == "")))]
    if known:
        rows = np.flatnonzero(is_known & (reasons == ""))
        parts.append(_judged(criterion, known_voice(known), columns, rows))
    for part in parts:
        reasons[part.index] = part.pop("reason")
    return _divided(criterion, parts, columns, reasons)


def _judged(
    criterion: Criterion, voices: Voices, columns: pd.DataFrame, rows: NDArray[np.intp]
) -> pd.DataFrame:
    """Give the columns that the criterion makes, and ``reason``, indexed by row number."""
    read = {name: values[rows] for name, values in column_values(criterion, columns).items()}
    made, reasons = judge(criterion, voices.take(rows), read)
    return pd.DataFrame({**made, _SOURCE: voices.source, "reason": reasons}, index=rows)


def _divided(
    criterion: Criterion,
    parts: list[pd.DataFrame],
    columns: pd.DataFrame,
    reasons: NDArray[np.object_],
) -> Evaluated:
    """Divide the candidates into those judged and those excluded, each in the order given."""
    judged = pd.concat([part for part in parts if len(part)] or parts[:1]).sort_index()
    judged = judged[reasons[judged.index] == ""]
    given = columns.loc[judged.index]
    listed = [name for name in criterion.table if name in judged or name in given]
    head = [name for name in _IDENTITY if name in given]
    made = [judged[name] if name in judged else given[name] for name in (*listed, _SOURCE)]
    domain = [name for name in (IN_DOMAIN,) if name in given]
    rest = given.drop(columns=[*head, *domain, *(n for n in listed if n not in judged)])
    rest = rename_candidates(rest, [n for n in rest if n in judged or n == "rank"])
    table = pd.concat([given[head], *made, given[domain], rest], axis=1)
    is_out = reasons != ""
    excluded = columns.loc[is_out, head].assign(reason=reasons[is_out])
    return Evaluated(table.reset_index(drop=True), excluded.reset_index(drop=True))
