"""What axes say: names with their units, and ticks of whole numbers on a logarithm."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from raymat.reports.drawing import with_unit

_ROUND_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_CHI = "kJ mol⁻¹ nm⁻¹"
# Columns of the lithium-metal criterion, in the words of its papers.
_NAMES = {
    "chi_low": f"mean χ at k = 10⁸ m⁻¹ ({_CHI})",
    "chi_high": f"mean χ at k = 2π/nm ({_CHI})",
    "p_s_low": "probability of stability P_s at k = 10⁸ m⁻¹",
    "p_s_high": "probability of stability P_s at k = 2π/nm",
    "lambda_crit_nm": "mean critical wavelength (nm)",
    "bulk_gpa": "bulk modulus (GPa)",
    "shear_gpa": "shear modulus (GPa)",
    "molar_volume_ratio": "molar volume ratio v of Li⁺",
}
# Ending of a column's name -> its unit.
_UNITS = {"gpa": "GPa", "nm": "nm", "ev": "eV", "k": "K", "ev_per_atom": "eV/atom"}


def column_label(column: str, units: Mapping[str, str] | None = None) -> str:
    """Say what a column of a screening holds.

    Args:
        column: its name.
        units: column -> unit, as the criterion file tells them.
    """
    if column in _NAMES:
        return _NAMES[column]
    if units and column in units:
        return with_unit(column, units[column])
    ending = next((e for e in _UNITS if column.lower().endswith(f"_{e}")), "")
    name = column[: len(column) - len(ending) - 1] if ending else column
    return with_unit(name, _UNITS.get(ending, ""))


def member_axis(column: str, largest: int) -> alt.X:
    """Give the channel of a number of members, a logarithm ticked at round numbers."""
    ticks = [*(n for n in _ROUND_SIZES if 1.4 * n < largest), largest]
    return alt.X(
        f"{column}:Q",
        title="members",
        scale=alt.Scale(type="log", domain=[0.9, 1.15 * largest]),
        axis=alt.Axis(values=ticks, format=",d", grid=False),
    )


def colors(column: str, palette: Mapping[str, str]) -> dict[str, Any]:
    """Give the color channel of a few names, each in its own color."""
    scale = alt.Scale(domain=list(palette), range=list(palette.values()))
    legend = alt.Legend(title=None, labelLimit=340, columns=2, symbolOpacity=1)
    return {"color": alt.Color(f"{column}:N", scale=scale, legend=legend)}
