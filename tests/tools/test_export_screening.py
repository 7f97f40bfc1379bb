"""What `tools/export_screening.py` writes, from tables made here."""

import json
import math
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from made_ensembles import make_ensemble, sixty_crystals, write_sixty

sys.path.append(str(PROJECT / "tools"))

import export_screening
import screening_text
from ensemble_text import describe_ensemble, ensemble_scores, ensembles_text
from screening_text import (
    PUBLISHED,
    compare_in_words,
    describe_screening,
    jsonable,
    published_beside,
    published_candidates,
    published_text,
    top_text,
)

from raymat.ensembles.stored import load_ensemble
from raymat.errors import DataError, RunError
from raymat.reports.screening_results import ScreeningResults
from raymat.screening.paired_ensembles import find_fingerprint
from raymat.screening.probability import wilson_interval

NAN = math.nan
FOLDER = "/home/somebody/runs"  # must not come out again


def member_row(rank: int, material_id: str, **changed: object) -> dict[str, object]:
    row: dict[str, object] = {"rank": rank, "material_id": material_id, "formula": "LiX"}
    for name, mean, std in (
        ("chi_low", 3.0, 1.0),
        ("chi_high", 20.0, 50.0),
        ("lambda_crit_nm", 1.1, 0.4),
        ("bulk_gpa", 9.0, 2.0),
        ("shear_gpa", 4.0, 1.0),
    ):
        row |= {name: mean, f"{name}_std": std}
    for name, value in (("p_s_low", 0.0), ("p_s_high", 0.4)):
        row |= {name: value, f"{name}_lo": 0.9 * value, f"{name}_hi": value + 0.1}
    row |= {"n_members": 50, "n_unbounded": 0, "molar_volume_ratio": 0.1, "source": "ensemble"}
    return {**row, "in_domain": True, **changed}


def dft_row(rank: int, material_id: str, **changed: object) -> dict[str, object]:
    row = member_row(rank, material_id)
    row |= {key: NAN for key in row if key.endswith(("_std", "_lo", "_hi"))}
    row |= {"p_s_high": 1.0, "n_members": 0, "source": "dft", "in_domain": None}
    return {**row, "bulk_gpa": 6.125, "shear_gpa": 3.875, **changed}


def table() -> pd.DataFrame:
    rows = [
        dft_row(1, "mp-1", lambda_crit_nm=math.inf, n_unbounded=1),
        member_row(2, "mp-2", n_unbounded=3, in_domain=False),
        member_row(3, "mp-3", lambda_crit_nm=0.5, lambda_crit_nm_std=0.1),
        member_row(4, "mp-4"),
    ]
    return pd.DataFrame(rows)


def line_of(text: str, material_id: str, n: int = 0) -> list[str]:
    """Give the cells of the n-th table line that names a candidate."""
    lines = [line for line in text.splitlines() if line.startswith("|") and material_id in line]
    return [cell.strip() for cell in lines[n].strip("|").split(" | ")]


# --- the ranked list -----------------------------------------------------------------------------


def test_top_table_is_short_and_by_rank():
    text = top_text(table().iloc[::-1], "what it was", n=2)
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[1] for line in lines] == ["mp-1", "mp-2"]
    assert text.startswith("# The first 2 of 4 candidates\n\nwhat it was\n")


def test_candidate_of_members_has_spread_and_interval():
    cells = line_of(top_text(table(), ""), "mp-3")
    assert cells[:6] == [
        "3",
        "mp-3",
        "LiX",
        "0.50 ± 0.10",
        "0.40 (0.36 to 0.50)",
        "0 (0.00 to 0.10)",
    ]
    assert cells[6:] == [
        "20 ± 50",
        "3.0 ± 1.0",
        "9.0 ± 2.0",
        "4.0 ± 1.0",
        "0.100",
        "ensemble",
        "yes",
    ]


def test_unbounded_members_are_told():
    assert line_of(top_text(table(), ""), "mp-2")[3] == "1.10 ± 0.40 (3 of 50 ∞)"
    assert line_of(top_text(table(), ""), "mp-1")[3] == "∞"


def test_dft_candidate_has_no_spread_and_its_moduli_stay_in_the_data():
    text = top_text(table(), "")
    cells = line_of(text, "mp-1")
    assert cells[4:6] == ["1", "0"]
    assert cells[8:10] == ["-", "-"]
    assert cells[11:] == ["dft", "-"]
    assert "6.125" not in text
    assert "3.875" not in text


def test_domain_is_told():
    assert [line_of(top_text(table(), ""), f"mp-{k}")[-1] for k in (1, 2, 3)] == ["-", "no", "yes"]


def screening_header() -> dict:
    return {
        "command": "screen",
        "data": {
            "name": "li",
            "path": f"{FOLDER}/li.parquet",
            "sha256": "0123456789abcdef",
            "n_rows": 1234,
        },
        "arguments": {
            "criterion": {"predictions": {"bulk": "log10_K_VRH", "shear": "log10_G_VRH"}}
        },
    }


SCREENING_METRICS = {
    "criterion": "lithium_metal",
    "n_members": 50,
    "candidates": 1234,
    "ranked": 1200,
    "listed": 12,
    "known": 40,
    "outside_domain": 7,
    "excluded": 34,
    "reasons": {f"reason {k}": 20 - k for k in range(10)},
}


def test_description_counts_and_names_no_folder():
    text = describe_screening(screening_header(), SCREENING_METRICS)
    assert "1,200 ranked, of them 40 by DFT moduli and 7 outside the training domain" in text
    assert "34 excluded (20 reason 0; " in text
    assert "13 reason 7; 2 other reasons)" in text
    assert "0123456789ab:" in text
    assert FOLDER not in text


# --- published candidates ------------------------------------------------------------------------


def published_rows(material_id: str, *, ensemble: bool = True, **means: float) -> list[dict]:
    units = {"lambda_crit": "nm", "P_s_low_k": "-", "P_s_high_k": "-"}
    common = {"dataset": f"LiX {material_id}", "n_train": NAN, "source": PUBLISHED}
    common["model"] = "ensemble of 100 CGCNN" if ensemble else "DFT moduli"
    rows = []
    for name, value in means.items():
        line = {**common, "property": name, "unit": units.get(name, "kJ/(mol nm)")}
        has_std = ensemble and not name.startswith("P_s")
        rows.append({**line, "metric": "mean" if has_std else "value", "value": value})
        if has_std:
            rows.append({**line, "metric": "standard deviation", "value": 0.9})
    return rows


def published() -> pd.DataFrame:
    other = {"model": "CGCNN", "dataset": "MP", "property": "band_gap", "unit": "eV"}
    lines = [{**other, "metric": "MAE", "value": 0.388, "source": "a paper"}]
    lines += published_rows("mp-1", ensemble=False, chi_low_k=0.62, chi_high_k=-109.26)
    lines += published_rows("mp-3", chi_low_k=2.7, chi_high_k=116.1, P_s_high_k=0.43)
    lines += published_rows("mp-8", chi_low_k=3.2, lambda_crit=0.85, P_s_high_k=0.17)
    lines += published_rows("mp-9", chi_low_k=3.6, lambda_crit=0.71, P_s_high_k=0.05)
    return pd.DataFrame(lines)


def beside(ensemble_only: pd.DataFrame | None = None) -> pd.DataFrame:
    excluded = pd.DataFrame({"material_id": ["mp-8", "mp-x"], "reason": ["metallic", "no lithium"]})
    candidates = published_candidates(published())
    return published_beside(candidates, table(), excluded, ensemble_only=ensemble_only)


def test_published_values_come_under_our_names():
    found = published_candidates(published()).set_index("material_id")
    assert list(found.index) == ["mp-1", "mp-3", "mp-8", "mp-9"]
    assert found.loc["mp-3", ["formula", "chi_low", "chi_low_std", "p_s_high"]].tolist() == [
        "LiX", 2.7, 0.9, 0.43,
    ]  # fmt: skip
    assert math.isnan(found.loc["mp-1", "chi_low_std"])
    assert found.loc["mp-1", "by"] == "DFT moduli"


def test_published_value_of_another_unit_is_refused():
    rows = published().replace({"unit": {"nm": "Å"}})
    with pytest.raises(DataError, match="mp-8: the published lambda_crit is in 'Å', ours in 'nm'"):
        published_candidates(rows)


def test_published_table_without_candidates_is_refused():
    with pytest.raises(DataError, match=r"no row has the source 'Xie thesis Table 2\.4'"):
        published_candidates(published().iloc[:1])


@pytest.mark.data
def test_the_twelve_published_candidates_are_found(shared):
    found = published_candidates(pd.read_csv(shared / "spec" / "published.csv"))
    assert found["by"].value_counts().to_dict() == {"ensemble of 100 CGCNN": 9, "DFT moduli": 3}
    assert found[["chi_low", "chi_high", "lambda_crit_nm"]].notna().all(axis=None)
    assert found["p_s_high"].notna().sum() == 9


def test_published_values_stand_as_printed_above_ours():
    text = published_text(beside())
    theirs, ours = (line_of(text, "mp-3", n) for n in (0, 1))
    assert theirs[1:4] == ["ensemble of 100 CGCNN", "2.7 ± 0.9", "116.1 ± 0.9"]
    assert theirs[6:] == ["0.43", "-", "-", PUBLISHED]
    assert ours[1:4] == ["ours, ensemble of 50", "3.0 ± 1.0", "20 ± 50"]
    assert ours[6:] == ["0.40 (0.36 to 0.50)", "3 of 4", "yes", "this study"]
    assert line_of(text, "mp-1", 0)[1:4] == ["DFT moduli", "0.62", "-109.26"]


def test_missing_candidates_say_why():
    text = published_text(beside())
    assert line_of(text, "mp-8", 1)[1] == "ours: excluded: metallic"
    assert line_of(text, "mp-9", 1)[1] == "ours: not among the candidates"


def test_members_speak_beside_dft_and_for_excluded_candidates_only():
    members = pd.DataFrame([member_row(k, f"mp-{k}", in_domain=False) for k in (1, 3, 8)])
    found = beside(members)
    assert found["material_id"].value_counts().to_dict() == {
        "mp-1": 3, "mp-3": 2, "mp-8": 3, "mp-9": 2,
    }  # fmt: skip
    text = published_text(found)
    assert line_of(text, "mp-1", 1)[1] == "ours, DFT moduli"
    assert line_of(text, "mp-1", 2)[1] == "ours, ensemble of 50"
    assert line_of(text, "mp-1", 2)[7:9] == ["1 of 3", "no"]


def test_agreement_is_counted():
    said = compare_in_words(beside())
    assert "Of 4 published candidates, 2 are ranked by us, at 1 to 3 (median 2) of 4" in said
    assert "2 of them have P_s above 0.05" in said
    # mp-3 alone: |2.7 - 3| <= 1, |116.1 - 20| > 50, no published wavelength, 0.43 and 0.40.
    assert "For 1 candidates both have ensembles" in said
    assert "1 (χ low), 0 (χ high), 0 (λ) of them" in said
    assert said.endswith("no more than the draw of so few members explains for 1.")


@pytest.mark.parametrize(("ours", "expected"), [(0.43, 1), (0.31, 1), (0.29, 0), (0.6, 0)])
def test_shares_of_a_hundred_members_each(ours, expected):
    """0.43 of 100 against others of 100: Newcombe's interval of the difference."""
    low, high = wilson_interval(np.array([100 * ours]), 100)
    own = {"p_s_high": ours, "p_s_high_lo": low[0], "p_s_high_hi": high[0]}
    pair = pd.DataFrame([{"p_s_high_theirs": 0.43, **own}])
    assert screening_text._n_same_share(pair) == expected


def test_excluded_candidate_is_not_counted_as_ranked():
    said = compare_in_words(beside(pd.DataFrame([member_row(1, "mp-8")])))
    assert "2 are ranked by us" in said
    assert "For 2 candidates both have ensembles" in said


def test_rows_become_json_without_gaps():
    rows = pd.DataFrame([{"a": math.inf, "b": NAN, "c": None, "d": np.int64(3), "e": "x"}])
    (found,) = jsonable(rows)
    assert found == {"a": "inf", "d": 3, "e": "x"}
    assert json.loads(json.dumps(jsonable(beside()), allow_nan=False))


# --- ensembles -----------------------------------------------------------------------------------


def ensemble_header() -> dict:
    rows = {"train": 800, "validation": 100, "test": 100}
    config = {"model": "cgcnn", "config": {"training.epochs": 30}}
    data = {"name": "elastic", "path": f"{FOLDER}/e.parquet", "sha256": "f" * 64, "n_used": 1000}
    return {
        "command": "ensemble",
        "data": data,
        "split": {"kind": "random", "seed": 0, "sha256": "a" * 64, "rows": rows},
        "arguments": {
            "configs": [config],
            "config_path": f"{FOLDER}/best.yaml",
            "data": f"{FOLDER}/e.parquet",
            "fraction": 0.6,
            "weights": "equal",
            "seed": 0,
        },
    }


def ensemble_metrics(task: str = "regression") -> dict:
    test = {"mae": 0.08, "mae_ci95": [0.07, 0.09], "rmse": 0.12, "r2": 0.9, "n": 100}
    members = {"planned": 50, "trained": 49, "retried": 2, "failed": [7]}
    return {
        "target": "log10_G_VRH", "unit": "log10(GPa)", "task": task,
        "members": {**members, "test_mae_mean": 0.1, "test_mae_std": 0.002},
        "test": test, "validation": test, "baselines": {"composition": {"mae": 0.15}},
        "leakage": {"n_test": 100},
    }  # fmt: skip


def calibration() -> dict:
    scores = {"nll": 3.0, "miscalibration_area": 0.2, "coverage_50": 0.3, "coverage_90": 0.6}
    before = {**scores, "coverage_95": 0.7, "sharpness": 0.05, "spearman": 0.4}
    after = {**before, "nll": -0.5, "miscalibration_area": 0.0312}
    fitted = {"kind": "std_scaling", "factor": 2.125}
    isotonic = {"scores": {**after, "nll": None}, "fitted": {"kind": "isotonic", "residuals": [1]}}
    methods = {"std_scaling": {"scores": after, "fitted": fitted}, "isotonic": isotonic}
    return {"before": before, "after": after, "methods": methods}


def test_ensemble_stands_beside_its_average_member():
    scores = ensemble_scores(ensemble_header(), ensemble_metrics(), calibration())
    text = ensembles_text([scores])
    assert line_of(text, "log10_G_VRH") == [
        "log10_G_VRH (log10(GPa))", "random", "0.0800", "0.0700 to 0.0900", "0.1200", "0.900",
        "0.1000 ± 0.0020", "20.0 %", "0.1500",
    ]  # fmt: skip


def test_calibration_stands_before_and_after():
    text = ensembles_text([ensemble_scores(ensemble_header(), ensemble_metrics(), calibration())])
    before, scaled, isotonic = (line_of(text, "log10_G_VRH", n) for n in (1, 2, 3))
    assert before[1:5] == ["random", "as predicted", "3", "0.2000"]
    assert scaled[1:5] == ["random", "std scaling", "-0.5000", "0.03120"]
    assert isotonic[2:4] == ["isotonic", "-"]  # no density, no NLL


def test_ensembles_of_another_split_are_named_by_it():
    scores = ensemble_scores(ensemble_header(), ensemble_metrics(), calibration())
    other = {**scores, "split": {**scores["split"], "kind": "chemical_system"}}
    assert export_screening.name_of(other) == "log10_G_VRH_chemical_system"
    text = ensembles_text([scores, other])
    assert "split chemical system, seed" in text
    assert text.count("| chemical system |") == 1 + len(scores["calibration"])


def test_ensemble_is_described_without_its_folders():
    scores = ensemble_scores(ensemble_header(), ensemble_metrics(), calibration())
    said = describe_ensemble(scores)
    assert "49 of 50 members (cgcnn; 1 configuration; 2 tried twice)" in said
    assert "60% of the training rows" in said
    assert "scaled by 2.125" in said
    assert FOLDER not in json.dumps(scores)
    assert "residuals" not in json.dumps(scores)  # of validation rows


def test_spread_that_was_not_recalibrated_has_one_line():
    bare = {"before": calibration()["before"], "after": None, "methods": {}}
    scores = ensemble_scores(ensemble_header(), ensemble_metrics(), bare)
    assert list(scores["calibration"]) == ["before"]
    assert "scaled" not in describe_ensemble(scores)


def test_ensemble_of_classes_is_refused():
    with pytest.raises(DataError, match="an ensemble of classes; expected one of a modulus"):
        ensemble_scores(ensemble_header(), ensemble_metrics("classification"), {})


# --- files ---------------------------------------------------------------------------------------


def test_swapped_ensembles_are_refused():
    right = {"bulk": "log10_K_VRH", "shear": "log10_G_VRH"}
    export_screening.check_targets(screening_header(), right)
    swapped = {"bulk": "log10_G_VRH", "shear": "log10_K_VRH"}
    with pytest.raises(DataError, match="given as bulk learned log10_G_VRH"):
        export_screening.check_targets(screening_header(), swapped)


def test_other_ensembles_than_those_of_the_screening_are_refused(ensemble_of_sixty, tmp_path):
    run = ensemble_of_sixty[0].path
    for sha, is_same in ((find_fingerprint(run), True), ("0" * 64, False)):
        header = {"ensemble_sha256": {"bulk": sha}}
        (tmp_path / "run.json").write_text(json.dumps(header), encoding="utf-8")
        with nullcontext() if is_same else pytest.raises(DataError, match="not the bulk ensemble"):
            export_screening.check_same_members(tmp_path, {"bulk": run, "shear": run})


def write_screening(folder: Path, rows: pd.DataFrame) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(screening_header()), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(SCREENING_METRICS), encoding="utf-8")
    rows.to_parquet(folder / "screening.parquet", index=False)
    gone = pd.DataFrame({"material_id": ["mp-8"], "formula": ["LiX"], "reason": ["metallic"]})
    gone.to_csv(folder / "excluded.csv", index=False)
    return folder


def test_tables_and_numbers_hold_no_path_and_no_moduli_of_the_data(tmp_path):
    run = write_screening(tmp_path / "run", table().assign(K_VRH=6.125, label="secret"))
    results = export_screening.read_lithium_screening(run)
    scores = {"shear": ensemble_scores(ensemble_header(), ensemble_metrics(), calibration())}
    export_screening.write_tables(run, results, scores, beside(), tmp_path)
    written = [tmp_path / name for name in ("top.md", "ensembles.md", "metrics.json")]
    text = "".join(path.read_text(encoding="utf-8") for path in written)
    for word in (FOLDER, str(tmp_path), "6.125", "secret"):
        assert word not in text
    content = json.loads(written[2].read_text(encoding="utf-8"))
    assert content["screening"]["ranked"] == 1200
    assert content["ensembles"]["shear"]["test"]["mae"] == 0.08
    assert content["published"][1]["by"] == "ours, DFT moduli"
    assert content["published"][1]["lambda_crit_nm"] == "inf"


def test_screening_by_another_criterion_is_refused(tmp_path):
    run = write_screening(tmp_path / "run", table().drop(columns="chi_high"))
    with pytest.raises(DataError, match="no column 'chi_high'; expected a lithium-metal"):
        export_screening.read_lithium_screening(run)


def test_screening_of_members_only_may_hold_no_dft(tmp_path):
    run = write_screening(tmp_path / "run", table())
    results = export_screening.read_lithium_screening(run)
    published().to_csv(tmp_path / "published.csv", index=False)
    with pytest.raises(RunError, match="DFT moduli took part; screen with --ignore-known"):
        export_screening.read_beside(run, results, tmp_path / "published.csv", run)


@pytest.fixture(scope="module")
def ensemble_of_sixty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    data = write_sixty(folder / "sixty.parquet")
    made = make_ensemble(folder / "run", data, members=(0, 1))
    source = {"name": "sixty", "path": str(data), "sha256": made.inputs.source.sha256}
    run = folder / "screening"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"data": source}), encoding="utf-8")
    return made, run


def test_latents_follow_the_ids_and_match_the_training_rows(ensemble_of_sixty):
    """Candidates that are training crystals get the very latents the domain was fitted to."""
    made, run = ensemble_of_sixty
    ensemble = load_ensemble(made.path)
    rows = made.rows("train")[::-1]
    ids = sixty_crystals().material_ids[rows].tolist()
    latents = export_screening.candidate_latents(ensemble, run, ids)
    domain = ensemble.domain
    stored = domain.training * domain.scale + domain.center
    np.testing.assert_allclose(latents[::-1], stored, rtol=1e-5, atol=1e-6)  # float32 networks


def test_changed_candidates_are_refused(ensemble_of_sixty, tmp_path):
    made, run = ensemble_of_sixty
    header = json.loads((run / "run.json").read_text(encoding="utf-8"))
    header["data"]["sha256"] = "0" * 64
    (tmp_path / "run.json").write_text(json.dumps(header), encoding="utf-8")
    with pytest.raises(DataError, match="the candidates have changed since the screening"):
        export_screening.candidate_latents(load_ensemble(made.path), tmp_path, ["Si-0"])


def test_latent_map_is_drawn(ensemble_of_sixty, tmp_path):
    made, run = ensemble_of_sixty
    ids = sixty_crystals().material_ids[:20].tolist()
    rows = pd.DataFrame([member_row(k + 1, name) for k, name in enumerate(ids)])
    rows["in_domain"] = pd.array([True] * 10 + [None] * 10, dtype="boolean")
    results = ScreeningResults(rows, 0)
    highlighted = [ids[3], "not there"]
    export_screening.draw_latent_map(made.path, run, results, tmp_path, highlighted=highlighted)
    assert (tmp_path / "latent_map.png").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["latent_map.png"]
