"""Judging candidates: averages over members, filters, known values, and nobody lost."""

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import PROJECT, read_reference
from scipy.stats import binomtest

from raymat.ensembles.predictions import MemberPredictions
from raymat.errors import DataError
from raymat.screening.candidates import check_numbers, filter_candidates, needs_members
from raymat.screening.criterion import parse_criterion, read_criterion
from raymat.screening.evaluate import evaluate
from raymat.screening.lithium_interface import stability_parameter

GOLDEN = read_reference("stability_formula.json")
TEN = GOLDEN["ensemble_example"]
CRITERION = read_criterion("lithium_metal")
SOFT = yaml.safe_load((PROJECT / "criteria" / "wide_gap_soft.yaml").read_text(encoding="utf-8"))
GOLDEN_TOLERANCE = 1e-6  # relative, as golden/README.md says


def soft(**changes):
    return parse_criterion({**SOFT, **changes}, path="soft.yaml")


def members(values, weights=None):
    values = np.asarray(values, dtype=float)
    if weights is None:
        return MemberPredictions.equal(values)
    return MemberPredictions(values, None, np.asarray(weights, dtype=float))


def candidates(n, **columns):
    ids = [f"mp-{i}" for i in range(n)]
    base = {"n_lithium": 1, "molar_volume_ratio": 0.08}
    return pd.DataFrame({"material_id": ids, "formula": "LiX", **base, **columns})


def random_moduli(n, n_members=20, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "bulk": members(rng.normal(0.9, 0.2, (n_members, n))),
        "shear": members(rng.normal(0.5, 0.2, (n_members, n))),
    }


def lithium(columns, predictions=None):
    return evaluate(CRITERION, predictions or random_moduli(len(columns)), columns)


def only_row(evaluated):
    assert len(evaluated.table) == 1
    return evaluated.table.iloc[0]


def test_ensemble_of_the_golden_values():
    predictions = {
        "bulk": members(np.array(TEN["log10K"])[:, None]),
        "shear": members(np.array(TEN["log10G"])[:, None]),
    }
    row = only_row(lithium(candidates(1, molar_volume_ratio=TEN["v"]), predictions))
    expected = {
        "chi_low": np.mean(TEN["chi_low"]),
        "chi_low_std": np.std(TEN["chi_low"], ddof=1),
        "p_s_low": TEN["P_s_low"],
        "chi_high": TEN["chi_high_mean"],
        "chi_high_std": TEN["chi_high_std_ddof1"],
        "p_s_high": TEN["P_s_high"],
        "lambda_crit_nm": TEN["lambda_mean_over_finite"],
        "lambda_crit_nm_std": np.std([x for x in TEN["lambda_crit_nm"] if x], ddof=1),
        "bulk_gpa": np.mean(10 ** np.array(TEN["log10K"])),
        "shear_gpa_std": np.std(10 ** np.array(TEN["log10G"]), ddof=1),
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=GOLDEN_TOLERANCE), name
    assert (row["n_members"], row["n_unbounded"]) == (10, TEN["n_stable_at_every_k"])
    assert row["source"] == "ensemble"


def test_averages_are_not_values_of_the_average():
    """The wrong order of averaging is far outside the tolerance of the test above."""
    wrong = stability_parameter(
        np.mean(10 ** np.array(TEN["log10K"])),
        np.mean(10 ** np.array(TEN["log10G"])),
        TEN["v"],
        2 * np.pi / 1e-9,
    )
    assert wrong == pytest.approx(TEN["chi_high_of_mean_moduli"], rel=GOLDEN_TOLERANCE)
    assert wrong != pytest.approx(TEN["chi_high_mean"], rel=0.05)


def test_interval_is_wilsons():
    predictions = {
        "bulk": members(np.array(TEN["log10K"])[:, None]),
        "shear": members(np.array(TEN["log10G"])[:, None]),
    }
    row = only_row(lithium(candidates(1, molar_volume_ratio=TEN["v"]), predictions))
    oracle = binomtest(8, 10).proportion_ci(method="wilson")
    assert row["p_s_high_lo"] == pytest.approx(oracle.low)
    assert row["p_s_high_hi"] == pytest.approx(oracle.high)


@pytest.mark.parametrize("case", GOLDEN["table_2_4"][:3], ids=lambda case: case["mp_id"])
def test_published_rows_with_known_moduli(case):
    columns = candidates(1, molar_volume_ratio=case["v"], K_VRH=case["K_GPa"], G_VRH=case["G_GPa"])
    nothing = {name: members(np.full((100, 1), np.nan)) for name in ("bulk", "shear")}
    row = only_row(lithium(columns, nothing))
    for name, printed in case["published"].items():
        if name in ("chi_low", "chi_high", "lambda_crit_nm"):
            assert round(row[name], 2) == printed, name
    assert row["source"] == "dft"
    assert (row["p_s_low"], row["p_s_high"]) == (0.0, 1.0)
    assert (row["n_members"], row["n_unbounded"]) == (0, 0)
    spreads = [n for n in row.index if n.endswith(("_std", "_lo", "_hi"))]
    assert len(spreads) == 9
    assert row[spreads].isna().all()


def test_stable_at_every_k_is_infinite_and_never_averaged():
    soft_modulus, hard_modulus = 0.05, 0.6  # log10(GPa); the first is stable at every k
    shear = np.array([[soft_modulus, soft_modulus], [soft_modulus, hard_modulus]])
    predictions = {"bulk": members(np.full((2, 2), 0.9)), "shear": members(shear)}
    table = lithium(candidates(2), predictions).table
    assert table["lambda_crit_nm"].iloc[0] == np.inf
    assert np.isfinite(table["lambda_crit_nm"].iloc[1])
    assert table["lambda_crit_nm_std"].isna().all()
    assert table["n_unbounded"].tolist() == [2, 1]


def test_columns_stand_in_the_order_of_the_contract():
    columns = candidates(1, in_domain=True, band_gap=1.5, bulk_gpa=7.0)
    assert list(lithium(columns).table) == [
        "material_id",
        "formula",
        *CRITERION.table,
        "source",
        "in_domain",
        "n_lithium",
        "band_gap",
        "candidate_bulk_gpa",
    ]
    both = lithium(columns.assign(candidate_bulk_gpa=1.0)).table
    assert list(both)[-2:] == ["candidate_candidate_bulk_gpa", "candidate_bulk_gpa"]
    assert both[list(both)[-2:]].to_numpy().tolist() == [[7.0, 1.0]]


def test_every_candidate_is_judged_or_excluded_once():
    rng = np.random.default_rng(1)
    columns = candidates(
        200,
        band_gap=rng.choice([0.0, 1.0, np.nan], 200),
        e_above_hull=rng.choice([0.0, 0.3, np.nan], 200),
        molar_volume_ratio=rng.choice([0.1, 1.2], 200),
        n_lithium=rng.choice([0, 2], 200),
        K_VRH=rng.choice([np.nan, 20.0], 200),
        G_VRH=rng.choice([np.nan, 10.0, -3.0], 200),
    )
    found = lithium(columns)
    ids = [*found.table["material_id"], *found.excluded["material_id"]]
    assert sorted(ids) == sorted(columns["material_id"])
    assert set(found.table["source"]) == {"ensemble", "dft"}
    order = columns["material_id"].tolist()
    for part in (found.table, found.excluded):
        places = [order.index(name) for name in part["material_id"]]
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("n_lithium", 0, "contains no lithium"),
        ("band_gap", 0.0, "metallic (band gap 0)"),
        ("e_above_hull", 0.1, "energy above hull of 0.1 eV/atom or more"),
        ("molar_volume_ratio", 1.01, "molar volume ratio above 1"),
        ("G_VRH", -2.0, "elastic moduli of DFT not positive"),
    ],
)
def test_filters(column, value, reason):
    columns = candidates(2)
    columns[column] = columns[column].astype(float) if column in columns else np.nan
    columns.loc[1, column] = value
    found = lithium(columns)
    assert found.table["material_id"].tolist() == ["mp-0"]
    assert found.excluded.to_dict("records") == [
        {"material_id": "mp-1", "formula": "LiX", "reason": reason}
    ]


def test_the_edge_of_every_filter_belongs_to_the_right_side():
    columns = candidates(1, band_gap=1e-6, e_above_hull=0.0999, molar_volume_ratio=1.0)
    assert len(lithium(columns).table) == 1


def test_several_reasons_are_all_told():
    found = lithium(candidates(1, band_gap=0.0, n_lithium=0))
    assert found.excluded["reason"].tolist() == ["contains no lithium; metallic (band gap 0)"]


def test_known_values_count_only_together():
    """A candidate with one modulus of two is judged by the members."""
    found = lithium(candidates(3, K_VRH=[6.0, 6.0, np.nan], G_VRH=[3.0, np.nan, 3.0]))
    assert found.table["source"].tolist() == ["dft", "ensemble", "ensemble"]


def test_members_are_asked_only_where_they_decide():
    columns = candidates(3, K_VRH=[6.0, np.nan, np.nan], G_VRH=[3.0, np.nan, np.nan])
    columns["n_lithium"] = [1, 0, 1]
    needed = needs_members(CRITERION, columns)
    assert needed.tolist() == [False, False, True]
    full = random_moduli(3)
    holes = {
        name: members(np.where(needed, predicted.values, np.nan))
        for name, predicted in full.items()
    }
    pd.testing.assert_frame_equal(lithium(columns, holes).table, lithium(columns, full).table)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_member_without_a_prediction_excludes_with_its_count(bad):
    predictions = random_moduli(2)
    predictions["shear"].values[[3, 7], 1] = bad
    found = lithium(candidates(2), predictions)
    assert found.table["material_id"].tolist() == ["mp-0"]
    assert found.excluded["reason"].tolist() == [
        "prediction 'shear' is not a finite number (in 2 of 20 members)"
    ]


def test_moduli_that_are_not_positive_exclude_with_their_count():
    """An ensemble of the modulus itself, as people have them too, can predict what cannot be."""
    content = {**CRITERION.content, "known": {}}
    content["predictions"] = {"bulk": "K_VRH", "shear": "G_VRH"}
    content["values"] = {**content["values"], "bulk_gpa": "bulk", "shear_gpa": "shear"}
    criterion = parse_criterion(content, path="gpa.yaml")
    shear = np.array([[3.0, 3.0, 3.0], [4.0, 0.0, -1.0], [5.0, 5.0, -2.0]])
    predictions = {"bulk": members(np.full((3, 3), 6.0)), "shear": members(shear)}
    found = evaluate(criterion, predictions, candidates(3))
    assert found.table["material_id"].tolist() == ["mp-0"]
    assert found.excluded["reason"].tolist() == [
        "moduli are not positive and finite (in 1 of 3 members)",
        "moduli are not positive and finite (in 2 of 3 members)",
    ]


def test_moduli_that_overflow_are_not_screened():
    predictions = {"bulk": members([[0.9], [400.0]]), "shear": members([[0.5], [0.5]])}
    found = lithium(candidates(1), predictions)
    assert found.excluded["reason"].tolist() == [
        "moduli are not positive and finite (in 1 of 2 members)"
    ]


def test_an_unknown_volume_ratio_is_named():
    found = lithium(candidates(2, molar_volume_ratio=[0.1, np.nan]))
    assert found.excluded["reason"].tolist() == [
        "'chi_low' is not a number (in 20 of 20 members; missing: molar_volume_ratio)"
    ]


def test_a_share_that_cannot_be_told_is_not_zero():
    criterion = soft(passes={"p_pass": "gap > 0.5 and e_above_hull < 0.1"}, exclude={})
    predictions = {"gap": members(np.ones((4, 2))), "log10_bulk": members(np.ones((4, 2)))}
    found = evaluate(criterion, predictions, candidates(2, e_above_hull=[0.0, np.nan]))
    assert found.table["p_pass"].tolist() == [1.0]
    assert found.excluded["reason"].tolist() == [
        "'p_pass' cannot be told (in 4 of 4 members; missing: e_above_hull)"
    ]


def test_any_screening_not_only_of_lithium():
    gap = np.array([[0.4, 1.0], [0.6, 1.1], [0.7, 1.2], [0.9, 1.3]])
    log10_bulk = np.array([[1.0, 1.5], [1.9, 1.5], [1.2, 1.5], [1.3, 1.5]])
    predictions = {"gap": members(gap), "log10_bulk": members(log10_bulk)}
    table = evaluate(soft(), predictions, candidates(2)).table
    assert table["p_pass"].tolist() == [0.5, 1.0]
    assert table["gap_ev"].tolist() == pytest.approx([0.65, 1.15])
    assert table["bulk_gpa"].tolist() == pytest.approx((10**log10_bulk).mean(axis=0).tolist())


def test_a_candidate_does_not_depend_on_its_shard():
    """To the last digit: the same ranking whatever the size of the shards."""
    columns, predictions = candidates(37), random_moduli(37, n_members=100)
    whole = lithium(columns, predictions).table
    for size in (1, 7):
        shards = [
            lithium(
                columns.iloc[start : start + size],
                {
                    name: p.take(np.arange(start, min(start + size, 37)))
                    for name, p in predictions.items()
                },
            ).table
            for start in range(0, 37, size)
        ]
        pd.testing.assert_frame_equal(pd.concat(shards, ignore_index=True), whole, rtol=0, atol=0)


def test_members_that_agree_have_no_spread():
    predictions = {"bulk": members(np.full((7, 1), 0.93)), "shear": members(np.full((7, 1), 0.51))}
    row = only_row(lithium(candidates(1), predictions))
    assert row["chi_high_std"] == 0.0
    assert row["chi_high"] == stability_parameter(10**0.93, 10**0.51, 0.08, 2 * np.pi / 1e-9)


def test_weighted_members_count_by_their_weight():
    """Weight 2 of 4 is the member twice, but for the n - 1 of the spread."""
    values = np.array([[0.2], [0.8], [0.9]])
    weights = [0.5, 0.25, 0.25]
    log10_bulk = members(np.ones((3, 1)))
    predictions = {"gap": members(values, weights), "log10_bulk": log10_bulk}
    row = only_row(evaluate(soft(), predictions, candidates(1)))
    assert row["p_pass"] == pytest.approx(0.5)
    assert row["gap_ev"] == pytest.approx(0.525)
    assert row["gap_ev_std"] == pytest.approx(members(values, weights).epistemic[0])
    few, many = (binomtest(k, n).proportion_ci(method="wilson") for k, n in ((1, 2), (2, 4)))
    assert few.low < row["p_pass_lo"] < many.low  # effective number of members: 2.67


def test_members_without_weight_take_no_part():
    predictions = {
        "gap": members([[np.nan], [0.8], [0.9]], [0.0, 0.5, 0.5]),
        "log10_bulk": members(np.ones((3, 1))),
    }
    row = only_row(evaluate(soft(), predictions, candidates(1)))
    assert (row["n_members"], row["p_pass"]) == (2, 1.0)


def test_no_candidates_give_empty_tables():
    found = lithium(candidates(0))
    assert len(found.table) == len(found.excluded) == 0
    assert "lambda_crit_nm" in found.table
    assert list(found.excluded) == ["material_id", "formula", "reason"]


def test_all_excluded():
    found = lithium(candidates(2, n_lithium=0))
    assert len(found.table) == 0
    assert len(found.excluded) == 2


def test_a_boolean_column_can_be_asked():
    criterion = soft(
        columns={**SOFT["columns"], "is_toxic": ""}, exclude={"toxic": "is_toxic == 1"}
    )
    columns = candidates(3, is_toxic=pd.array([True, False, None], dtype="boolean"))
    assert filter_candidates(criterion, columns).tolist() == ["toxic", "", ""]


def test_text_in_a_column_of_numbers():
    """A cell costs its candidate only, and is not taken for a value that is missing."""
    columns = candidates(4, band_gap=["1.5", "wide", None, 0.0], e_above_hull=[0, [1], 0, "?" * 90])
    found = lithium(columns)
    assert found.table["material_id"].tolist() == ["mp-0", "mp-2"]
    assert dict(zip(found.excluded["material_id"], found.excluded["reason"], strict=True)) == {
        "mp-1": "column 'band_gap' holds 'wide', a number is needed; "
        "column 'e_above_hull' holds [1], a number is needed",
        "mp-3": f"column 'e_above_hull' holds '{'?' * 39}..., a number is needed; "
        "metallic (band gap 0)",
    }
    assert needs_members(CRITERION, columns).tolist() == [True, False, True, False]


def test_text_throughout_a_column_of_numbers():
    told = "mp-1: column 'band_gap' holds 'wide', a number is needed, and none of the first 3 cells"
    with pytest.raises(DataError, match=told):
        check_numbers(CRITERION, candidates(3, band_gap=[None, "wide", "narrow"]))
    for cells in ([None, "wide", "0.5"], [None, "wide", None], [None] * 3):
        check_numbers(CRITERION, candidates(3, band_gap=cells))


def test_gap_of_another_source_where_ours_is_unknown():
    columns = candidates(4, band_gap=[np.nan, np.nan, 1.0, np.nan])
    columns["matbench_band_gap"] = [0.0, 1.0, 0.0, np.nan]
    reason = "metallic (matbench_band_gap 0, band_gap unknown)"
    assert filter_candidates(CRITERION, columns).tolist() == [reason, "", "", ""]
    alone = columns.drop(columns="band_gap")
    assert filter_candidates(CRITERION, alone).tolist() == [reason, "", reason, ""]


def test_a_feature_that_nobody_computed():
    columns = candidates(1).drop(columns="n_lithium")
    with pytest.raises(DataError, match="reads 'n_lithium', which was not computed"):
        lithium(columns)


def test_ensembles_of_different_size():
    predictions = {**random_moduli(1), "bulk": members(np.ones((3, 1)))}
    with pytest.raises(
        DataError, match=r"paired by position, .* \(bulk 3, shear 20\); use the fir"
    ):
        lithium(candidates(1), predictions)


def test_predictions_of_other_crystals():
    with pytest.raises(
        DataError, match="bulk: predictions of 2 crystals were given for 1 candidat"
    ):
        lithium(candidates(1), random_moduli(2))


def test_ensembles_without_a_common_member():
    predictions = {
        "gap": members(np.ones((2, 1)), [1.0, 0.0]),
        "log10_bulk": members(np.ones((2, 1)), [0.0, 1.0]),
    }
    with pytest.raises(DataError, match="no pair of members has a weight in every ensemble"):
        evaluate(soft(), predictions, candidates(1))
