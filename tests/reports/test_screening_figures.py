"""Pictures of a screening: what is drawn, from the figure itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredText
from screening_run import as_dft, lithium_table, write_screening_run

from raymat.errors import RunError
from raymat.reports import screening_figures
from raymat.reports.lithium_figures import boundary_at, lithium_histograms, stability_diagram
from raymat.reports.screening_figures import (
    passes_figure,
    probability_curve_figure,
    save_screening_figures,
    top_figure,
)
from raymat.reports.screening_results import (
    FLAT_CURVE,
    ScreeningResults,
    read_results,
    say_ranking,
)
from raymat.screening.lithium_interface import LITHIUM_SHEAR_GPA, stability_boundary

VOLUMES = np.linspace(0.0, 0.9, 10)
LONG_WAVE = 1.0  # 1/m; surface tension adds nothing any more
DIGITS = 1e-6


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    found = lithium_table()
    as_dft(found, 2)
    found.loc[0, ["lambda_crit_nm", "lambda_crit_nm_std"]] = [np.inf, np.nan]
    return found


@pytest.fixture(scope="module")
def results(table: pd.DataFrame) -> ScreeningResults:
    return ScreeningResults(table, 7)


def generic(table: pd.DataFrame) -> pd.DataFrame:
    """Give what a criterion of one pass probability writes."""
    kept = ["rank", "material_id", "p_s_high", "p_s_high_lo", "p_s_high_hi", "n_members"]
    return table[kept].rename(columns=lambda name: name.replace("p_s_high", "p_pass"))


def drawn(axes: Axes) -> np.ndarray:
    points = [dots for dots in axes.collections if isinstance(dots, PathCollection)]
    return np.concatenate([np.asarray(dots.get_offsets()).reshape(-1, 2) for dots in points])


def test_boundary_without_surface_tension_is_the_closed_one() -> None:
    for poisson in (0.2, 0.33, 0.4):
        found = boundary_at(VOLUMES, poisson, LONG_WAVE)
        assert found == pytest.approx(stability_boundary(VOLUMES, poisson), rel=DIGITS)
    assert boundary_at(np.array([0.1]), 0.33, LONG_WAVE) == pytest.approx([0.697], abs=5e-4)


def test_stability_diagram(table: pd.DataFrame, results: ScreeningResults) -> None:
    figure = stability_diagram(results)
    axes = figure.axes[0]
    rows = table[table["p_s_high"] == 0]
    pale, *shown = (c for c in axes.collections[2:] if len(c.get_offsets()))
    assert np.asarray(pale.get_offsets())[:, 1] == pytest.approx(
        rows["shear_gpa"].to_numpy() / LITHIUM_SHEAR_GPA
    )
    colors = np.concatenate([np.asarray(c.get_array()) for c in shown])
    assert sorted(colors) == pytest.approx(sorted(table.loc[table["p_s_high"] > 0, "p_s_high"]))
    assert len(drawn(axes)) == len(table)
    x, y = axes.get_lines()[0].get_data()
    assert np.asarray(y) == pytest.approx(stability_boundary(np.asarray(x), 0.33))
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel().startswith("molar volume ratio")
    assert axes.get_title(loc="left") == "400 candidates ranked, 7 excluded"


def test_stability_diagram_names_the_kinds(table: pd.DataFrame, results: ScreeningResults) -> None:
    labels = [t.get_text() for t in stability_diagram(results).legends[0].get_texts()]
    is_dft = table["source"] == "dft"
    outside = (table["p_s_high"] > 0) & (table["in_domain"] == False) & ~is_dft  # noqa: E712
    assert labels[:2] == [
        "stable below, long wavelengths: ν = 0.33 (band 0.2 to 0.4)",
        "stable below, 1 nm: ν = 0.33 (band 0.2 to 0.4)",
    ]
    assert any(t.endswith(f"outside the training domain ({outside.sum()})") for t in labels)
    assert any(t.endswith("DFT moduli (1)") for t in labels)


def test_highlighted_candidates_are_numbered(results: ScreeningResults) -> None:
    axes = stability_diagram(results, [2, 5, 9, 10, 11, 3]).axes[0]
    assert [text.get_text() for text in axes.texts] == [str(n) for n in range(1, 7)]
    listed = next(a for a in axes.artists if isinstance(a, AnchoredText)).txt.get_text()
    assert listed.splitlines()[0].endswith(f"{results.table['material_id'][2]} (DFT)")
    places = axes.transData.transform([text.get_position() for text in axes.texts])
    gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    assert gaps[np.triu_indices(6, 1)].min() > 10  # pixels


def test_histograms_count_every_candidate(table: pd.DataFrame, results: ScreeningResults) -> None:
    figure = lithium_histograms(results)
    for axes, name in zip(figure.axes[:2], ("chi_low", "chi_high"), strict=True):
        labels = [t.get_text() for t in axes.get_legend().get_texts()]
        n_stable = int((table[name] < 0).sum())
        assert labels == [
            f"stable on average: {n_stable}", f"unstable on average: {400 - n_stable}",
        ]  # fmt: skip
        stable = [b for b in axes.patches if b.get_x() + b.get_width() < 1e-9]
        assert sum(b.get_height() for b in stable) == n_stable
        beyond = int(axes.get_title().split("(")[1].split()[0])
        assert sum(b.get_height() for b in axes.patches) == 400 - beyond
        assert axes.get_xlabel() == "mean χ (kJ mol⁻¹ nm⁻¹)"
    wavelengths = figure.axes[2]
    assert sum(b.get_height() for b in wavelengths.patches) == 399
    n_unbounded = int((table["n_unbounded"] > 0).sum())
    assert n_unbounded > 1
    assert wavelengths.get_title() == (
        f"without bound: some members in {n_unbounded}, all in 1 (not drawn)"
    )
    assert [wavelengths.get_xscale(), wavelengths.get_yscale()] == ["log", "log"]


def test_top_candidates(table: pd.DataFrame, results: ScreeningResults) -> None:
    wavelength, probability = top_figure(results, 6).axes
    names = [tick.get_text() for tick in wavelength.get_yticklabels()]
    assert names[1].startswith(f"{table['formula'][1]} {table['material_id'][1]}")
    assert names[2].endswith("(DFT)")
    points = wavelength.containers[0].lines[0].get_xdata()
    assert points == pytest.approx(table["lambda_crit_nm"][1:6].to_numpy())
    assert [text.get_text()[0] for text in wavelength.texts] == ["∞"]
    for bars, name in zip(probability.containers, ("p_s_low", "p_s_high"), strict=True):
        assert bars.lines[0].get_xdata() == pytest.approx(table[name][:6].to_numpy())
        ends = np.array(bars.lines[2][0].get_segments())[:, :, 0]
        assert ends[1] == pytest.approx(table.loc[1, [f"{name}_lo", f"{name}_hi"]].to_list())
        assert ends[2, 0] == ends[2, 1]  # DFT: no interval
    assert probability.get_xlabel() == "share of members that pass, 95 % interval"


def test_another_criterion(table: pd.DataFrame) -> None:
    rows = generic(table)
    figure = passes_figure(ScreeningResults(rows, 0))
    axes = figure.axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == len(table)
    above, zero = (rows["p_pass"] > 0.5).sum(), (rows["p_pass"] == 0).sum()
    assert axes.get_title() == f"{above} above 0.5, {zero} at 0"
    assert axes.get_xlabel() == "p_pass (share of members)"
    assert len(top_figure(ScreeningResults(rows, 0)).axes) == 1


def probability_curve() -> pd.DataFrame:
    """Give what a screening writes beside its table, of two probabilities."""
    sizes = np.array([2, 3, 5, 7, 10, 15, 20, 30])
    curve = pd.DataFrame({"n_members": sizes, "n_draws": 10})
    for name, scale in (("p_s_low", 0.3), ("p_s_high", 0.2)):
        curve[f"{name}_mean"], curve[f"{name}_mean_std"] = scale, 0.1 * scale / np.sqrt(sizes)
        curve[f"{name}_deviation"] = scale / np.sqrt(sizes)
        curve[f"{name}_largest"] = 2 * scale / np.sqrt(sizes)
    return curve


def test_deviation_of_the_probabilities(table: pd.DataFrame) -> None:
    curve = probability_curve()
    left, right = probability_curve_figure(ScreeningResults(table, 7, curve)).axes
    names = ("p_s_low", "p_s_high")
    both = [f"{name}_{end}" for name in names for end in ("deviation", "largest")]
    for axes, columns in ((left, [f"{name}_mean" for name in names]), (right, both)):
        for line, name in zip(axes.get_lines(), columns, strict=True):
            assert np.asarray(line.get_ydata()) == pytest.approx(curve[name].to_numpy())
            assert np.asarray(line.get_xdata()).tolist() == curve["n_members"].tolist()
        assert axes.get_xscale() == "log"
        assert axes.get_ylim()[0] == 0
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels[1::2] == ["largest of a candidate"] * 2
    assert labels[0].endswith("k = 10⁸ m⁻¹: mean")


def test_more_candidates_than_pictures_show(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones are all there, of the others every fourth, and who is asked for by name."""
    write_screening_run(tmp_path, table)
    asked = table["material_id"].iloc[361]
    results = read_results(tmp_path, most=100, keep=[asked])
    expected = sorted({*range(1, 16), *range(1, 401, 4), 362})
    assert results.table["rank"].tolist() == expected
    assert results.title == f"400 candidates ranked ({len(expected)} of them drawn), 7 excluded"
    monkeypatch.setattr(screening_figures, "MOST_DRAWN", 100)
    files = save_screening_figures(tmp_path, highlighted=[asked])
    assert {"top.png", "histograms.png"} <= {file.name for file in files}


def test_curve_is_drawn_where_there_is_one(table: pd.DataFrame, tmp_path: Path) -> None:
    """Without a candidate that members speak for it has no rows."""
    write_screening_run(tmp_path, generic(table))
    pd.DataFrame({"n_members": [], "n_draws": []}).to_csv(
        tmp_path / "probability_curve.csv", index=False
    )
    assert "probability_curve.png" not in {p.name for p in save_screening_figures(tmp_path)}
    curve = probability_curve().rename(columns=lambda name: name.replace("p_s_high", "p_pass"))
    curve.to_csv(tmp_path / "probability_curve.csv", index=False)
    files = [file.name for file in save_screening_figures(tmp_path)]
    assert files == [
        *("top.png", "top.svg", "passes.png", "passes.svg"),
        *("probability_curve.png", "probability_curve.svg"),
    ]


# --- nothing to rank -----------------------------------------------------------------------------


def counted(n: int, **ranking: int) -> dict[str, Any]:
    """Give `metrics.json` of a screening whose only probability nobody passes."""
    found = {"by": "p_pass", "first": 1, "distinct": n, "unknown": 0, **ranking}
    return {"ranked": n, "passing": {"p_pass": 0}, "ranking": found}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts if text.get_text()]


def test_a_ranking_in_which_nothing_passes_says_so_and_has_no_bars(table: pd.DataFrame) -> None:
    rows = generic(table).assign(p_pass=0.0, p_pass_lo=0.0, p_pass_hi=0.07, rank=1)
    results = ScreeningResults(rows, 0, metrics=counted(400, first=400, distinct=1))
    figure = top_figure(results)
    assert figure.axes == []
    (said,) = (text for text in texts(figure) if "passes" in text)
    assert said.splitlines() == [
        "No candidate passes: p_pass is 0 for all 400 ranked.",
        "All 400 share rank 1 (equal p_pass): they are listed by id, not ranked.",
    ]


def test_wavelengths_still_rank_candidates_of_which_none_passes(table: pd.DataFrame) -> None:
    metrics = {**counted(400), "passing": {"p_s_low": 0, "p_s_high": 0}}
    figure = top_figure(ScreeningResults(table, 7, metrics=metrics))
    (wavelengths,) = figure.axes
    assert wavelengths.get_xlabel().startswith("critical wavelength")
    assert "p_s_low and p_s_high are 0 for all 400 ranked" in texts(figure)[0]


@pytest.mark.parametrize(
    ("ranking", "expected"),
    [
        ({}, []),
        ({"first": 40, "distinct": 9}, ["The first 40 share rank 1 (equal p_pass); they are ordered"
         " by id."]),
        ({"unknown": 12}, ["12 have no p_pass and come last."]),
        ({"first": 400, "unknown": 400}, ["All 400 share rank 1 (none has a p_pass): they are"
         " listed by id, not ranked."]),
    ],
)  # fmt: skip
def test_what_a_ranking_does_not_tell(ranking: dict[str, int], expected: list[str]) -> None:
    assert say_ranking({**counted(400, **ranking), "passing": {"p_pass": 3}}) == expected
    assert say_ranking({"ranked": 400}) == []  # of an earlier raymat


def test_a_single_candidate_shares_no_rank() -> None:
    assert say_ranking({**counted(1), "passing": {"p_pass": 1}}) == []


def test_a_curve_without_deviations_is_said(table: pd.DataFrame) -> None:
    curve = probability_curve()
    zero = curve.assign(**{c: 0.0 for c in curve if str(c).startswith("p_s")})
    figure = probability_curve_figure(ScreeningResults(table, 7, zero))
    assert figure.axes == []
    assert FLAT_CURVE in texts(figure)


def test_tied_candidates_are_read_by_their_place(table: pd.DataFrame, tmp_path: Path) -> None:
    """Not by their rank, which all of them may share."""
    write_screening_run(tmp_path, table.assign(rank=1))
    results = read_results(tmp_path, most=100)
    assert results.table["material_id"].tolist() == [
        table["material_id"][k] for k in sorted({*range(15), *range(0, 400, 4)})
    ]


def test_files_of_the_lithium_criterion(table: pd.DataFrame, tmp_path: Path) -> None:
    write_screening_run(tmp_path, table.sample(frac=1.0, random_state=0))
    (tmp_path / "figures").mkdir()
    files = save_screening_figures(
        tmp_path, folder=tmp_path / "figures", highlighted=[table["material_id"][0]]
    )
    assert [file.name for file in files] == [
        "top.png", "top.svg", "stability_diagram.png", "stability_diagram.svg",
        "histograms.png", "histograms.svg",
    ]  # fmt: skip
    assert sorted((tmp_path / "figures").iterdir()) == sorted(files)
    assert table["material_id"][0] in files[1].read_text("utf-8")  # the first of the ranking


def test_files_of_another_criterion(table: pd.DataFrame, tmp_path: Path) -> None:
    write_screening_run(tmp_path, generic(table))
    files = save_screening_figures(tmp_path)
    assert [file.name for file in files] == ["top.png", "top.svg", "passes.png", "passes.svg"]


def test_nothing_to_rank(table: pd.DataFrame, tmp_path: Path) -> None:
    write_screening_run(tmp_path, table.head(0))
    assert save_screening_figures(tmp_path) == []


def test_all_wavelengths_without_bound(table: pd.DataFrame) -> None:
    rows = table.head(3).assign(lambda_crit_nm=np.inf, lambda_crit_nm_std=np.nan, p_s_high=1.0)
    results = ScreeningResults(rows, 0)
    assert len(top_figure(results).axes[0].texts) == 3
    assert lithium_histograms(results).axes[2].get_title().endswith("all in 3 (not drawn)")
    assert len(drawn(stability_diagram(results).axes[0])) == 3


def test_what_cannot_be_drawn(table: pd.DataFrame, tmp_path: Path) -> None:
    write_screening_run(tmp_path, table)
    with pytest.raises(RunError, match="'mp-x' is not ranked by this screening"):
        save_screening_figures(tmp_path, highlighted=["mp-x"])
    (tmp_path / "excluded.csv").unlink()
    with pytest.raises(RunError, match=r"no excluded\.csv; the run is not finished"):
        save_screening_figures(tmp_path)
    (tmp_path / "excluded.csv").write_text("material_id,reason\n", encoding="utf-8")
    (tmp_path / "screening.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match="its results cannot be read"):
        save_screening_figures(tmp_path)
    (tmp_path / "run.json").write_text('{"command": "tune"}', encoding="utf-8")
    with pytest.raises(RunError, match="a tune run, not a screening run"):
        save_screening_figures(tmp_path)
