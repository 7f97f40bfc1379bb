"""A screening criterion: what members' predictions mean, what a candidate must pass, and its rank.

A criterion is a YAML file of expressions. Reading it checks every name and every expression, so
that no member predicts anything before the criterion can be used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymat.config import build_config, read_yaml
from raymat.errors import ConfigError, did_you_mean
from raymat.screening.criterion_file import CriterionFile, Rank
from raymat.screening.criterion_names import (
    FEATURES,
    IN_DOMAIN,
    check_definitions,
    sections_of,
    table_order,
)
from raymat.screening.expression import Expression, parse_expression
from raymat.screening.operations import Kind
from raymat.shipped import find_yaml, shipped_files, shown_path

__all__ = ["Criterion", "Rank", "parse_criterion", "read_criterion", "shipped_criteria"]

FOLDER = "criteria"  # of those that travel with raymat
Expressions = Mapping[str, Expression]
_SECTIONS: dict[str, Kind] = {
    "known": "number",
    "values": "number",
    "require": "condition",
    "passes": "condition",
    "counts": "condition",
    "exclude": "condition",
}


@dataclass(frozen=True)
class Criterion:
    """A checked criterion; what the fields mean stands in `CriterionFile`.

    Attributes:
        table: the columns that the criterion makes, in the order of the table.
        path: where it was read from, as messages show it.
        content: its YAML form; `parse_criterion` gives an equal criterion.
    """

    name: str
    predictions: Mapping[str, str]
    columns: Mapping[str, str]
    known: Expressions
    values: Expressions
    require: Expressions
    passes: Expressions
    counts: Expressions
    exclude: Expressions
    rank: Rank
    list_if: Expression | None
    table: tuple[str, ...]
    path: str
    content: Mapping[str, Any]

    @property
    def features(self) -> frozenset[str]:
        """Features of a candidate's structure that must be computed for it."""
        listed = self.list_if.names if self.list_if else frozenset()
        used = self.names_in(*_SECTIONS) | listed | {self.rank.by, *self.table}
        return used & frozenset(FEATURES)

    def names_in(self, *sections: str) -> frozenset[str]:
        """Give every name that the expressions of some sections read."""
        found = (expression for s in sections for expression in getattr(self, s).values())
        return frozenset[str]().union(*(expression.names for expression in found))


def read_criterion(path_or_name: str) -> Criterion:
    """Read a criterion from a file, or a shipped one by its name (``lithium_metal``).

    Raises:
        ConfigError: there is no such file or shipped criterion, or something in it cannot be
            used; the message names the file and the key.
    """
    path = find_yaml(path_or_name, FOLDER, what="criterion")
    return parse_criterion(read_yaml(path), path=shown_path(path))


def shipped_criteria() -> dict[str, Path]:
    """Give the criteria that travel with raymat, by name."""
    return shipped_files(FOLDER)


def parse_criterion(content: Mapping[str, Any], *, path: str) -> Criterion:
    """Check a criterion in its YAML form.

    Args:
        content: the keys and values of the file.
        path: what messages call the file.

    Raises:
        ConfigError: a key, name or expression cannot be used.
    """
    form = build_config(CriterionFile, dict(content), where=path)
    check_definitions(form, path)
    criterion = Criterion(
        name=form.name,
        predictions=form.predictions,
        columns=form.columns,
        **{section: _read(form, section, kind, path) for section, kind in _SECTIONS.items()},
        rank=form.rank,
        list_if=_read_list_if(form, path),
        table=table_order(form, path),
        path=path,
        content=dict(content),
    )
    _check_names(criterion, dict(sections_of(form)))
    return criterion


def _read(form: CriterionFile, section: str, kind: Kind, path: str) -> dict[str, Expression]:
    return {
        name: parse_expression(text, where=f"{path}: {section}: {name}", gives=kind)
        for name, text in getattr(form, section).items()
    }


def _read_list_if(form: CriterionFile, path: str) -> Expression | None:
    if form.list_if is None:
        return None
    return parse_expression(form.list_if, where=f"{path}: list_if", gives="condition")


def _check_names(criterion: Criterion, sections: Mapping[str, str]) -> None:
    base = {*criterion.columns, *FEATURES}
    _check_candidate_names(criterion, base, sections)
    _check_member_names(criterion, base, sections)
    _check_table_names(criterion, base, sections)


def _check_candidate_names(
    criterion: Criterion, base: set[str], sections: Mapping[str, str]
) -> None:
    """What is asked once of a candidate cannot read what every member says differently."""
    hint = "stands under '{}', which members tell; use it under 'require' or 'list_if'"
    instead = {n: hint.format(s) for n, s in sections.items() if n not in base}
    for expression in (*criterion.known.values(), *criterion.exclude.values()):
        expression.check_names(base, instead)


def _check_member_names(criterion: Criterion, base: set[str], sections: Mapping[str, str]) -> None:
    hint = "stands under '{}', which is told over all members; use it in 'rank' or 'list_if'"
    instead = {n: hint.format(s) for n, s in sections.items() if s in ("passes", "counts")}
    known = {*base, *criterion.predictions}
    below = {
        name: f"is defined further down; move '{name}' above it, and let none depend on itself"
        for name in criterion.values
    }
    for name, expression in criterion.values.items():
        expression.check_names(known, {**instead, **below, name: "reads itself; rename one"})
        known.add(name)
    for section in (criterion.require, criterion.passes, criterion.counts):
        for expression in section.values():
            expression.check_names(known, instead)


def _check_table_names(criterion: Criterion, base: set[str], sections: Mapping[str, str]) -> None:
    known = {*base, *criterion.table, IN_DOMAIN}
    hint = "is a prediction, which no column shows; give it a name under 'values'"
    instead = {n: hint for n, s in sections.items() if s == "predictions"}
    if criterion.list_if:
        criterion.list_if.check_names(known, instead)
    by = criterion.rank.by
    if by not in known:
        problem = instead.get(by, f"is not a column of the table{did_you_mean(by, known)}")
        raise ConfigError(f"{criterion.path}: rank: by: '{by}' {problem}")
