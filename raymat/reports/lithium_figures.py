"""Pictures of interfaces with lithium metal: the stability diagram and the histograms."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymat.reports.drawing import (
    AMBER,
    GREEN,
    NAVY,
    ORANGE,
    PALE,
    SCALE,
    SKY,
    legend,
    number_points,
    plain,
)
from raymat.reports.screening_results import ScreeningResults
from raymat.screening.lithium_interface import (
    HIGH_WAVENUMBER,
    LITHIUM_SHEAR_GPA,
    stability_boundary,
    stability_parameter,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

LITHIUM_COLUMNS = frozenset(
    [
        *("chi_low", "chi_high", "p_s_low", "p_s_high", "lambda_crit_nm", "n_unbounded"),
        *("shear_gpa", "molar_volume_ratio"),
    ]
)
POISSON, POISSON_BAND = 0.33, (0.2, 0.4)  # of the boundaries; most crystals lie in the band
_BARS_UP_TO = 0.82  # of the height of a histogram; the legend has the rest
_TAIL = 0.002  # share of the most unstable candidates that a histogram may leave out
_GRID = 300


def stability_diagram(results: ScreeningResults, highlighted: Sequence[int] = ()) -> "Figure":
    """Draw every candidate by shear modulus and molar volume ratio, in the color of its P_s.

    Two boundaries, below which an interface is stable: of stress alone, which decides at long
    wavelengths, and of stress and surface tension at 1 nm.

    Args:
        results: with the columns `LITHIUM_COLUMNS`.
        highlighted: rows to be numbered and named.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 7.2), layout="constrained")
    axes = figure.subplots()
    ratio = results.numbers("shear_gpa") / LITHIUM_SHEAR_GPA
    volume, share = results.numbers("molar_volume_ratio"), results.numbers("p_s_high")
    _draw_boundaries(axes, float(volume.max()))
    axes.set(yscale="log", xlim=(0, 1.04 * float(volume.max())))
    axes.set_ylim(min(0.3, 0.8 * float(ratio.min())), 1.3 * float(ratio.max()))
    _draw_candidates(axes, np.column_stack([volume, ratio]), share, results)
    axes.set_xlabel("molar volume ratio v of Li⁺ (electrolyte / lithium metal)")
    axes.set_ylabel(r"shear modulus ratio $G_\mathrm{s}/G_\mathrm{Li}$")
    axes.set_title(results.title, fontsize=11, loc="left")
    plain(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    if len(highlighted):
        rows = list(highlighted)
        names = [results.labels[row] for row in rows]
        number_points(axes, np.column_stack([volume, ratio])[rows], names)
    return figure


def boundary_at(volume_ratio: Floats, poisson: float, wavenumber: float) -> Floats:
    """Give G_s/G_Li at which chi(k) = 0, by bisection; below it the interface is stable.

    Args:
        volume_ratio: (n,) v from 0 to below 1.
        poisson: of the electrolyte.
        wavenumber: k, 1/m.
    """
    low, high = np.full(len(volume_ratio), -6.0), np.full(len(volume_ratio), 6.0)
    bulk_per_shear = 2 * (1 + poisson) / (3 * (1 - 2 * poisson))
    for _ in range(60):
        middle = 0.5 * (low + high)
        shear = LITHIUM_SHEAR_GPA * 10.0**middle
        chi = stability_parameter(bulk_per_shear * shear, shear, volume_ratio, wavenumber)
        low, high = np.where(chi < 0, middle, low), np.where(chi < 0, high, middle)
    return np.asarray(10.0**middle)


def _draw_boundaries(axes: "Axes", largest_volume: float) -> None:
    volume = np.linspace(0.0, min(0.999, 1.04 * largest_volume), _GRID)
    band = f"ν = {POISSON} (band {POISSON_BAND[0]} to {POISSON_BAND[1]})"
    ratios = (POISSON, *POISSON_BAND)
    for color, style, name, curves in (
        (NAVY, "-", "long wavelengths", [stability_boundary(volume, nu) for nu in ratios]),
        (GREEN, "--", "1 nm", [boundary_at(volume, nu, HIGH_WAVENUMBER) for nu in ratios]),
    ):
        axes.fill_between(volume, curves[1], curves[2], color=color, alpha=0.2, lw=0, zorder=4)
        look: dict[str, Any] = {"color": color, "linestyle": style, "lw": 1.8, "zorder": 4}
        axes.plot(volume, curves[0], label=f"stable below, {name}: {band}", **look)


def _draw_candidates(
    axes: "Axes", points: Floats, share: Floats, results: ScreeningResults
) -> None:
    """Draw P_s = 0 small and pale; the others above, the surest on top, marked by their kind."""
    zero = share == 0
    x, y = points.T
    axes.scatter(x[zero], y[zero], s=4, color=PALE, lw=0, zorder=1.5, rasterized=True)
    name = f"$P_\\mathrm{{s}}$ = 0 at 1 nm ({zero.sum():,})"
    axes.scatter([], [], s=16, color=PALE, lw=0, label=name)
    kinds = {
        "o": (results.is_inside & ~results.is_dft, "inside the training domain"),
        "^": (~results.is_inside & ~results.is_dft, "outside the training domain"),
        "s": (results.is_dft, "DFT moduli"),
    }
    style: dict[str, Any] = {"cmap": SCALE, "vmin": 0, "vmax": 1}
    for marker, (is_kind, kind) in kinds.items():
        rows = np.flatnonzero(is_kind & (share > 0))
        rows = rows[np.argsort(share[rows], kind="stable")]
        if len(rows):
            look: dict[str, Any] = {"s": 26, "marker": marker, "edgecolor": "black", "lw": 0.3}
            axes.scatter(x[rows], y[rows], c=share[rows], zorder=3, **look, **style)
            label = f"$P_\\mathrm{{s}}$ > 0, {kind} ({len(rows):,})"
            axes.scatter([], [], facecolor="white", label=label, **look)
    _add_scale(axes, style)


def _add_scale(axes: "Axes", style: dict[str, Any]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(style["vmin"], style["vmax"]), style["cmap"])
    label = r"probability of stability $P_\mathrm{s}$ at 1 nm"
    axes.figure.colorbar(scale, ax=axes, label=label, shrink=0.8, location="bottom", aspect=40)


def lithium_histograms(results: ScreeningResults) -> "Figure":
    """Draw how the candidates' mean chi, at both wavenumbers, and critical wavelength spread."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.6, 4.0), layout="constrained")
    figure.suptitle(results.title, fontsize=11, x=0.01, ha="left")
    left, middle, right = figure.subplots(1, 3)
    _draw_chi(left, results.numbers("chi_low"), "k = 10⁸ m⁻¹")
    _draw_chi(middle, results.numbers("chi_high"), "k = 2π/nm")
    _draw_wavelengths(right, results)
    for axes in (left, middle, right):
        axes.set_ylabel("candidates")
        _leave_room_for_legend(axes)
        plain(axes)
    return figure


def _leave_room_for_legend(axes: "Axes") -> None:
    """Give the bars of a histogram the lower part of the axes; one candidate has a bar, too."""
    low, high = 0.7, axes.get_ylim()[1]
    axes.set_ylim(low, low * (high / low) ** (1 / _BARS_UP_TO))


def _draw_chi(axes: "Axes", chi: Floats, wavenumber: str) -> None:
    chi = chi[np.isfinite(chi)]
    bins = _bins_through_zero(float(chi.min()), float(np.quantile(chi, 1 - _TAIL)))
    n_beyond = int((chi > bins[-1]).sum())
    for part, color, name in ((chi < 0, SKY, "stable"), (chi >= 0, NAVY, "unstable")):
        label = f"{name} on average: {int(part.sum()):,}"
        axes.hist(
            chi[part], bins=bins.tolist(), color=color, edgecolor="white", lw=0.3, label=label
        )
    axes.axvline(0.0, ymax=_BARS_UP_TO, color=ORANGE, lw=1.2)
    beyond = f" ({n_beyond:,} beyond the right edge)" if n_beyond else ""
    axes.set(yscale="log", xlabel="mean χ (kJ mol⁻¹ nm⁻¹)", title=f"{wavenumber}{beyond}")
    axes.title.set_fontsize(10)
    legend(axes)


def _bins_through_zero(low: float, high: float) -> Floats:
    """Give bins of equal width with an edge at 0, so that none mixes stable and unstable."""
    width = (max(high, 0.0) - min(low, 0.0) or 1.0) / 50
    return width * np.arange(np.floor(min(low, 0.0) / width), np.ceil(max(high, 0.0) / width) + 1)


def _draw_wavelengths(axes: "Axes", results: ScreeningResults) -> None:
    wavelength = results.numbers("lambda_crit_nm")
    finite = wavelength[np.isfinite(wavelength)]
    n_unbounded = int((results.numbers("n_unbounded") > 0).sum())
    if len(finite):
        bins = np.geomspace(0.999 * finite.min(), 1.001 * finite.max(), 51)
        axes.hist(finite, bins=bins.tolist(), color=NAVY, edgecolor="white", lw=0.3)
        text = f"median {np.median(finite):.2f} nm"
        look: dict[str, Any] = {"color": AMBER, "lw": 1.6, "linestyle": "--", "label": text}
        axes.axvline(float(np.median(finite)), ymax=_BARS_UP_TO, **look)
    axes.axvline(1.0, ymax=_BARS_UP_TO, color=ORANGE, lw=1.2, label="1 nm")
    axes.set(xscale="log", yscale="log", xlabel="mean critical wavelength (nm)")
    n_all = int(np.isposinf(wavelength).sum())
    title = f"without bound: some members in {n_unbounded:,}, all in {n_all:,} (not drawn)"
    axes.set_title(title, fontsize=9)
    legend(axes)
