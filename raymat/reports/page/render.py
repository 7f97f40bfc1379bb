"""Views in, HTML out: one file that carries style, script, numbers and the library that draws."""

import base64
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.reading import TEXT_BYTES, read_bytes
from raymat.reports.page.parts import Chart, Note, Part, Picture, RunView, Table

FIRST_WORDS = b"<!doctype html>"  # of every page
_ASSETS = Path(__file__).parent / "assets"
_VEGA_LITE = "6.4"  # that of Altair
_DIGITS = 6  # of a number in the page; files have them all


def render(views: list[RunView], title: str) -> str:
    """Give the HTML of some views."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(_ASSETS), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["kind"] = lambda part: type(part).__name__.lower()
    environment.filters["image"] = _image
    environment.filters["identity"] = id
    numbered = _number_parts(views)
    has_charts = any(isinstance(part, Chart) for part in numbered.values())
    return environment.get_template("page.html").render(
        title=title,
        views=views,
        ids={id(part): key for key, part in numbered.items()},
        data=_as_script({key: _content(part) for key, part in numbered.items()}),
        style=(_ASSETS / "page.css").read_text(encoding="utf-8"),
        script=(_ASSETS / "page.js").read_text(encoding="utf-8"),
        vega=_vega() if has_charts else "",
    )


def _vega() -> str:
    """Give the script that draws Vega-Lite charts."""
    import vl_convert

    everything = "window.vegaEmbed = vegaEmbed;"
    return str(vl_convert.javascript_bundle(everything, vl_version=_VEGA_LITE))


def _number_parts(views: list[RunView]) -> dict[str, Part]:
    parts = (part for view in views for section in view.sections for part in section.parts)
    return {f"part-{number}": part for number, part in enumerate(parts)}


def _content(part: Part) -> dict[str, Any]:
    """Give what the script needs of a part."""
    if isinstance(part, Note):
        return {}
    rows = getattr(part, "rows", None)
    content = {} if rows is None else _rows(rows, _in_table if isinstance(part, Table) else _plain)
    if isinstance(part, Chart):
        return {**content, "title": part.title, "spec": _bounded(part.spec)}
    return {**content, "title": part.title, "table": isinstance(part, Table)}


def _rows(table: pd.DataFrame, say: Callable[[Any], Any]) -> dict[str, Any]:
    """Give a table as columns and rows; what JSON has no word for becomes null."""
    return {
        "columns": [str(name) for name in table],
        "rows": [[say(value) for value in row] for row in table.itertuples(index=False)],
    }


def _in_table(value: Any) -> Any:
    """Give a value as a table has it: what has no bound is told from what is not known."""
    is_infinite = isinstance(value, float) and math.isinf(value)
    return f"{value:g}" if is_infinite else _plain(value)


def _plain(value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if value is pd.NaT or value is pd.NA:
        return None
    return str(value)


def _bounded(spec: Any) -> Any:
    """Leave out the ends of axes that are no numbers, so that the chart finds its own."""
    if isinstance(spec, Mapping):
        return {key: _bounded(value) for key, value in spec.items() if not _is_endless(value)}
    return [_bounded(value) for value in spec] if isinstance(spec, list | tuple) else spec


def _is_endless(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(one, float) and not math.isfinite(one) for one in values)


def _as_script(content: Any) -> str:
    """Give JSON that may stand inside a script element: no text can end it."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _image(part: Picture) -> str:
    try:
        content = read_bytes(part.file, at_most=TEXT_BYTES)
    except (OSError, ValueError):  # it has gone since the run was looked at: its title remains
        return "data:,"
    data = base64.b64encode(content).decode("ascii")
    kind = "png" if part.file.suffix == ".png" else "svg+xml"
    return f"data:image/{kind};base64,{data}"
