"""Which columns a fetch gives: standard names by the table of properties, and a provider's own."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raymat.errors import ConfigError, did_you_mean
from raymat.properties import (
    PROPERTIES,
    PROVIDER_FIELDS,
    Conversion,
    Interface,
    fields_of,
    find_property,
)

_LARGEST_INTEGER = 2**63  # a column of int64 holds no larger one
Kind = str  # of the values of a provider's own field: integer, number, boolean, text, json


@dataclass(frozen=True)
class Column:
    """One property to fetch.

    Attributes:
        name: of the column in the file.
        field: where the provider keeps it; dots lead into nested fields.
        unit: of the column; "" for none, or unknown.
        method: how the provider computes it; "" for its own fields, whose words are its own.
        conversion: from the field's value to the column's.
        interface: who is asked for it.
        missing: a number that stands for "not computed".
        is_standard: named in raymat's table, so a float; else the provider's own field.
    """

    name: str
    field: str
    unit: str = ""
    method: str = ""
    conversion: Conversion = "as given"
    interface: Interface = "optimade"
    missing: float | None = None
    is_standard: bool = True

    @property
    def root(self) -> str:
        """The provider's field that must be asked for."""
        return self.field.split(".", 1)[0]


def split_names(text: str | None) -> tuple[str, ...]:
    """Give the names of a comma-separated list, each once.

    Raises:
        ConfigError: a name is there twice, or none is there.
    """
    if text is None:
        return ()
    names = [name.strip() for name in text.split(",") if name.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        what = f"'{twice[0]}' stands twice" if twice else "no name"
        raise ConfigError(f"--properties: {what}; expected names, separated by commas")
    return tuple(names)


def check_names(names: Iterable[str]) -> None:
    """Refuse names that no provider has, before anything is asked.

    Raises:
        ConfigError: neither a standard property that some provider carries nor a field ``_...``.
    """
    carried = {f.property for f in PROVIDER_FIELDS}
    for name in names:
        if name in carried or is_own_field(name):
            continue
        what = "no provider carries it" if name in PROPERTIES else "no property of that name"
        hint = did_you_mean(name, carried)
        table = "`raymat data properties` lists them"
        raise ConfigError(f"--properties {name}: {what}{hint} ({table}, or give a field _...)")


def is_own_field(name: str) -> bool:
    """Tell whether a name is a provider's own field, ``_prefix_name``, perhaps with dots."""
    return name.startswith("_") and all(part for part in name.split("."))


def choose_columns(
    names: Iterable[str], prefix: str, served: Mapping[str, Mapping[str, Any]] | None
) -> tuple[Column, ...]:
    """Give the columns for one provider.

    Args:
        names: standard properties and the provider's own fields.
        prefix: the provider's prefix.
        served: the server's description of its fields, of ``/info/structures``; None if unknown.

    Raises:
        ConfigError: this provider does not carry a property, or its server does not know a field.
    """
    carried = fields_of(prefix)
    columns = []
    for name in names:
        if is_own_field(name):
            columns.append(_own_column(name, served))
        elif name in carried:
            columns.append(_standard_column(name, prefix, served))
        else:
            raise ConfigError(_not_carried(name, prefix, carried))
    return tuple(columns)


def _standard_column(
    name: str, prefix: str, served: Mapping[str, Mapping[str, Any]] | None
) -> Column:
    found = fields_of(prefix)[name]
    column = Column(
        name,
        found.field,
        find_property(name).unit,
        found.method,
        found.conversion,
        found.interface,
        found.missing,
    )
    if column.interface == "optimade":
        _check_served(name, column.root, served)
    return column


def _own_column(name: str, served: Mapping[str, Mapping[str, Any]] | None) -> Column:
    root = name.split(".", 1)[0]
    _check_served(name, root, served)
    unit = str((served or {}).get(root, {}).get("unit") or "") if root == name else ""
    return Column(name, name, unit if unit != "inapplicable" else "", is_standard=False)


def _check_served(name: str, root: str, served: Mapping[str, Mapping[str, Any]] | None) -> None:
    if served is None or root in served:
        return
    own = [field for field in served if field.startswith("_")]
    where = "" if name == root else f" ('{root}')"
    hint = did_you_mean(root, own)
    raise ConfigError(f"--properties {name}: the server does not know this field{where}{hint}")


def _not_carried(name: str, prefix: str, carried: Iterable[str]) -> str:
    others = sorted({f.provider for f in PROVIDER_FIELDS if f.property == name})
    known = ", ".join(sorted(carried)) or "none"
    here = f"provider '{prefix}' carries: {known}"
    elsewhere = f"'{name}' is carried by {', '.join(others)}"
    return f"--properties {name}: not carried here; {here}; {elsewhere}"


def read_value(column: Column, document: Mapping[str, Any], n_sites: int) -> Any:
    """Give a column's value in one entry; None where there is none.

    Standard properties become finite floats in the column's unit. A provider's own field stays
    as it is.
    """
    value: Any = document
    for part in column.field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return _convert(column, value, n_sites) if column.is_standard else value


def _convert(column: Column, value: Any, n_sites: int) -> float | None:
    number = _number(value)
    if number is None or number == column.missing:
        return None
    if column.conversion == "per atom of the cell":
        return number / n_sites if n_sites else None
    if column.conversion == "log10":
        return math.log10(number) if number > 0 else None
    return number


def _number(value: Any) -> float | None:
    """Give a finite number; databases write missing ones as text, too."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def kind_of_value(value: Any) -> Kind | None:
    """Give the kind of a value of a provider's own field; None for none."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if abs(value) < _LARGEST_INTEGER else "text"
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) else "json"


def common_kind(kinds: Iterable[Kind]) -> Kind:
    """Give the kind that a whole column has: numbers with text among them are text."""
    found = set(kinds)
    if len(found) == 1:
        return found.pop()
    if found == {"integer", "number"}:
        return "number"
    return "json" if "json" in found else "text"


def as_text(value: Any) -> str | None:
    """Give a value of a provider's own field as JSON, the form in which pages keep it."""
    return None if value is None else json.dumps(value, sort_keys=True)


def from_text(text: str | None, kind: Kind) -> Any:
    """Give back such a value as the column's kind wants it."""
    if text is None or kind == "json":
        return text
    value = json.loads(text)
    if kind == "number":
        return float(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half characters cannot be stored
    return value if kind in ("integer", "boolean") else text
