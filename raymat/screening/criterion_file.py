"""The YAML form of a screening criterion: its keys and what each of them holds."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from raymat.config import Config

Text = Annotated[str, StringConstraints(min_length=1, max_length=1_000, strip_whitespace=True)]
Unit = Annotated[str, StringConstraints(max_length=100)]
_MOST_NAMES = 100  # in one section


class Rank(Config):
    """Which column orders the candidates.

    Attributes:
        by: a column of the table, such as "lambda_crit_nm".
        order: "descending" puts the largest first.
    """

    by: Text
    order: Literal["ascending", "descending"] = "descending"


class CriterionFile(Config):
    """A criterion in its YAML form; every right-hand side but units and targets is an expression.

    Attributes:
        name: what it is called in reports.
        predictions: name in expressions -> target that its ensemble must have learned.
        columns: candidate columns that expressions read -> unit, "" for pure numbers. A filter
            is not applied where its column is missing.
        known: prediction -> expression of columns that replaces the members where all are finite.
        values: numbers computed for every member, in this order; later ones may read earlier ones.
        require: reason -> condition that every member must meet, or the candidate is excluded.
        passes: share of the members for which a condition holds.
        counts: number of the members for which a condition holds.
        exclude: reason -> condition on columns and features; true excludes the candidate.
        rank: what orders the table.
        list_if: condition on the columns of the table: which rows a short list shows.
        table: which columns the table shows first, in this order; the rest follows.
    """

    name: Text
    predictions: dict[str, Text] = Field(min_length=1, max_length=_MOST_NAMES)
    columns: dict[str, Unit] = Field(default_factory=dict, max_length=_MOST_NAMES)
    known: dict[str, Text] = Field(default_factory=dict, max_length=_MOST_NAMES)
    values: dict[str, Text] = Field(default_factory=dict, max_length=_MOST_NAMES)
    require: dict[str, Text] = Field(default_factory=dict, max_length=_MOST_NAMES)
    passes: dict[str, Text] = Field(default_factory=dict, max_length=_MOST_NAMES)
    counts: dict[str, Text] = Field(default_factory=dict, max_length=_MOST_NAMES)
    exclude: dict[str, Text] = Field(default_factory=dict, max_length=_MOST_NAMES)
    rank: Rank
    list_if: Text | None = None
    table: tuple[str, ...] = ()
