"""The periodic table as a picture: a number for every element that has one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from raymat.data.composition import SYMBOLS
from raymat.reports.drawing import color_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

_NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)  # Z at the end of each period
_F_BLOCK = {6: range(57, 71), 7: range(89, 103)}
_F_ROW_SHIFT = 2.4  # rows between the f block and the period it belongs to
_DARK_TEXT, _PALE_TEXT, _EMPTY = "#4a4a4a", "#b5b5b5", "#f1f1f1"


def table_position(atomic_number: int) -> tuple[float, float]:
    """Give (column, row) of an element in the 18-column table, both from 1; f blocks below."""
    period = next(p for p, end in enumerate(_NOBLE) if atomic_number <= end)
    if atomic_number in _F_BLOCK.get(period, ()):
        return 3.0 + atomic_number - _F_BLOCK[period].start, period + _F_ROW_SHIFT
    from_start = atomic_number - _NOBLE[period - 1]
    if from_start <= (1 if period == 1 else 2):
        return float(from_start), float(period)
    return float(18 - (_NOBLE[period] - atomic_number)), float(period)


def draw_periodic_table(
    axes: "Axes",
    values: Mapping[str, float],
    scale: "ScalarMappable",
    *,
    label: str,
    texts: Mapping[str, str],
) -> None:
    """Draw the elements of Z = 1 to 100 and a color bar; those without a value are pale.

    Args:
        axes: where to; it becomes the whole table.
        values: symbol -> number.
        scale: number -> color.
        label: of the color bar, with the unit.
        texts: symbol -> the few characters that stand below it.
    """
    for z, symbol in enumerate(SYMBOLS, start=1):
        face = scale.to_rgba(np.asarray(values[symbol])) if symbol in values else None
        _draw_element(axes, z, face, texts.get(symbol, ""))
    axes.set(xlim=(0.4, 18.6), ylim=(10.1, 0.4), aspect="equal")
    axes.axis("off")
    color_bar([axes], scale, list(values.values()), label=label, shrink=0.6)


def _draw_element(axes: "Axes", z: int, face: Any, text: str) -> None:
    from matplotlib.patches import Rectangle

    column, row = table_position(z)
    corner, fill = (column - 0.47, row - 0.47), _EMPTY if face is None else face
    axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=fill))
    color = _PALE_TEXT if face is None else _text_on(face)
    centered: dict[str, Any] = {"ha": "center", "va": "center", "color": color}
    shift = 0.12 if text else 0.0
    axes.text(column, row - shift, SYMBOLS[z - 1], fontsize=9, weight="bold", **centered)
    if text:
        axes.text(column, row + 0.27, text, fontsize=6, **centered)


def _text_on(face: Any) -> str:
    is_dark = float(np.dot(face[:3], (0.299, 0.587, 0.114))) < 0.55
    return "white" if is_dark else _DARK_TEXT
