"""One shard, from crystals to a table: every candidate once, and every number by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_screening import (
    BULK,
    EXCLUDED,
    KNOWN,
    N_MEMBERS,
    SAME_NUMBER,
    SHEAR,
    Study,
    all_candidates,
    assert_same_ranking,
    rock_salt,
    without,
    write_ensemble,
    write_study,
)

from raymat.data.crystals import CrystalSet
from raymat.data.duplicates import KnownCrystals
from raymat.data.scaling import TargetScaling
from raymat.data.shards import iter_shards
from raymat.ensembles.stored import Ensemble, load_ensemble
from raymat.features.lithium_coordination import lithium_coordination
from raymat.screening import shard as shard_module
from raymat.screening.criterion import Criterion, parse_criterion, read_criterion
from raymat.screening.lithium_interface import (
    HIGH_WAVENUMBER,
    LOW_WAVENUMBER,
    critical_wavelength_nm,
    molar_volume_ratio,
    stability_parameter,
)
from raymat.screening.shard import ScreenedShard, screen_shard

LITHIUM_METAL = read_criterion("lithium_metal")
Z_95 = 1.959963984540054  # of the standard normal distribution, both sides 2.5 %
EXACT = 1e-12  # relative; the same sums in another order


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("shard"))


@pytest.fixture(scope="module")
def crystals(study: Study) -> CrystalSet:
    """The candidates that are crystals."""
    (shard,) = iter_shards(str(study.candidates), size=1000)
    return shard.crystals


@pytest.fixture(scope="module")
def whole(study: Study, crystals: CrystalSet) -> ScreenedShard:
    return screen(study, crystals)


def screen(
    study: Study,
    crystals: CrystalSet,
    *,
    criterion: Criterion = LITHIUM_METAL,
    **ensembles: Ensemble,
) -> ScreenedShard:
    used = {**study.ensembles, **ensembles}
    return screen_shard(crystals, criterion, used, cache=study.folder / "cache")


def row_of(screened: ScreenedShard, name: str) -> dict[str, Any]:
    return dict(screened.table.set_index("material_id").loc[name])


def reasons(screened: ScreenedShard) -> dict[str, str]:
    return dict(screened.excluded.set_index("material_id")["reason"])


def with_columns(crystals: CrystalSet, **columns: Any) -> CrystalSet:
    return replace(crystals, properties=crystals.properties.assign(**columns))


# --- who is judged -------------------------------------------------------------------------------


def test_every_candidate_is_judged_or_excluded_once(
    whole: ScreenedShard, crystals: CrystalSet
) -> None:
    judged, excluded = whole.table["material_id"], whole.excluded["material_id"]
    assert not judged.duplicated().any()
    assert not excluded.duplicated().any()
    assert set(judged) | set(excluded) == set(crystals.material_ids)
    assert not set(judged) & set(excluded)
    assert reasons(whole) == {name: EXCLUDED[name] for name in EXCLUDED if name != "nowhere"}
    assert whole.excluded["formula"].tolist() == ["NaCl", "LiF", "LiF", "LiF", "Li"]


def test_members_table_holds_those_that_members_speak_for(whole: ScreenedShard) -> None:
    spoken = whole.table.loc[whole.table["source"] == "ensemble", "material_id"]
    assert whole.members["material_id"].tolist() == spoken.tolist()
    assert list(whole.members) == ["material_id", "bulk", "shear"]
    assert {len(values) for values in whole.members["bulk"]} == {N_MEMBERS}


def test_atoms_are_counted_that_members_evaluate(
    whole: ScreenedShard, crystals: CrystalSet
) -> None:
    asked = np.isin(crystals.material_ids, whole.members["material_id"])
    assert whole.n_member_atoms == crystals.n_sites[asked].sum() * 2 * N_MEMBERS
    assert whole.predict_time_s > 0


def test_columns_stand_as_the_contract_lists_them(
    whole: ScreenedShard, crystals: CrystalSet
) -> None:
    contract = [
        "material_id",
        "formula",
        "chi_low",
        "chi_low_std",
        "p_s_low",
        "p_s_low_lo",
        "p_s_low_hi",
        "chi_high",
        "chi_high_std",
        "p_s_high",
        "p_s_high_lo",
        "p_s_high_hi",
        "lambda_crit_nm",
        "lambda_crit_nm_std",
        "n_members",
        "n_unbounded",
        "bulk_gpa",
        "bulk_gpa_std",
        "shear_gpa",
        "shear_gpa_std",
        "molar_volume_ratio",
        "source",
        "in_domain",
    ]
    assert list(whole.table)[: len(contract)] == contract
    assert set(crystals.properties) <= set(whole.table)


# --- every number, without the criterion ---------------------------------------------------------


def test_numbers_follow_from_the_members_and_the_physics(
    whole: ScreenedShard, crystals: CrystalSet
) -> None:
    ids = crystals.material_ids.tolist()
    for spoken in whole.members.to_dict("records"):
        row = row_of(whole, spoken["material_id"])
        crystal = crystals[ids.index(spoken["material_id"])]
        v = float(molar_volume_ratio(lithium_coordination(crystal).number))
        bulk, shear = 10.0 ** spoken["bulk"], 10.0 ** spoken["shear"]
        low = stability_parameter(bulk, shear, v, LOW_WAVENUMBER)
        high = stability_parameter(bulk, shear, v, HIGH_WAVENUMBER)
        wavelength = critical_wavelength_nm(bulk, shear, v)
        bounded = wavelength[np.isfinite(wavelength)]
        expected = {
            **of_members("chi_low", low),
            **of_members("chi_high", high),
            **of_share("p_s_low", int((low < 0).sum())),
            **of_share("p_s_high", int((high < 0).sum())),
            **of_members("lambda_crit_nm", bounded),
            **of_members("bulk_gpa", bulk),
            **of_members("shear_gpa", shear),
            "molar_volume_ratio": v,
            "n_members": N_MEMBERS,
            "n_unbounded": N_MEMBERS - len(bounded),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=EXACT)
    assert len(set(whole.table["molar_volume_ratio"].round(6))) == 2  # of both structures
    assert whole.table["n_unbounded"].nunique() > 3
    assert whole.table["p_s_high"].nunique() > 3


def of_members(name: str, values: Any) -> dict[str, float]:
    return {name: float(np.mean(values)), f"{name}_std": float(np.std(values, ddof=1))}


def of_share(name: str, k: int, n: int = N_MEMBERS) -> dict[str, float]:
    """Wilson's interval as the roots of (p - k/n)^2 = z^2 p (1 - p) / n."""
    share = k / n
    roots = np.roots([1 + Z_95**2 / n, -(2 * share + Z_95**2 / n), share**2]).real
    return {name: share, f"{name}_lo": float(min(roots)), f"{name}_hi": float(max(roots))}


def test_members_are_those_of_the_ensembles_alone(
    study: Study, whole: ScreenedShard, crystals: CrystalSet
) -> None:
    chosen = np.isin(crystals.material_ids, whole.members["material_id"])
    some = crystals.take(np.flatnonzero(chosen)).without_properties()
    for name, ensemble in study.ensembles.items():
        table = ensemble.views[0].table_config.build(some)
        alone = np.stack([model.predict(table) for model in ensemble.members], axis=1)
        found = np.stack(whole.members[name].to_list())
        np.testing.assert_allclose(found, alone, rtol=SAME_NUMBER)


def test_pairs_are_by_number(study: Study, whole: ScreenedShard, crystals: CrystalSet) -> None:
    """The members' own order on disk is none: that of their numbers is."""
    few = {1, 4, 6}
    taken = {name: ensemble.take(few) for name, ensemble in study.ensembles.items()}
    found = screen(study, crystals, **taken)
    for name in ("bulk", "shear"):
        all_of_them = np.stack(whole.members[name].to_list())
        np.testing.assert_allclose(
            np.stack(found.members[name].to_list()), all_of_them[:, sorted(few)], rtol=SAME_NUMBER
        )
    assert set(found.table["n_members"]) == {0, 3}


@pytest.mark.parametrize("size", [3, 16])
def test_size_of_the_shards_changes_no_number(
    study: Study, whole: ScreenedShard, size: int
) -> None:
    shards = list(iter_shards(str(study.candidates), size=size))
    found = [screen(study, shard.crystals) for shard in shards]
    tables = [part.table for part in found if len(part.table)]
    assert_same_ranking(pd.concat(tables, ignore_index=True), whole.table)
    excluded = pd.concat([part.excluded for part in found if len(part.excluded)])
    assert excluded.to_dict("records") == whole.excluded.to_dict("records")
    assert sum(part.n_member_atoms for part in found) == whole.n_member_atoms


# --- known values --------------------------------------------------------------------------------


def test_blocks_make_numbers_the_same_bit_by_bit(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever multiple of a block a shard holds, as long as batches end with the blocks."""
    monkeypatch.setattr(shard_module, "BLOCK", 2)

    def members(size: int) -> pd.DataFrame:
        parts = [
            screen_shard(
                shard.crystals,
                LITHIUM_METAL,
                study.ensembles,
                source_rows=shard.rows,
                cache=study.folder / "cache",
            ).members
            for shard in iter_shards(str(study.candidates), size=size)
        ]
        return pd.concat(parts, ignore_index=True)

    whole = members(1000)
    for size in (2, 6):
        found = members(size)
        assert found["material_id"].tolist() == whole["material_id"].tolist()
        for name in ("bulk", "shear"):
            assert np.array_equal(np.stack(found[name]), np.stack(whole[name]))


def test_candidates_fill_the_cache_only_under_a_limit(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard,) = iter_shards(str(study.candidates), size=1000)

    def tables_after(folder: Path) -> int:
        screen_shard(shard.crystals, LITHIUM_METAL, study.ensembles, cache=folder)
        return len(list(folder.glob("*")))

    monkeypatch.delenv("RAYMAT_CACHE_LIMIT", raising=False)
    assert tables_after(tmp_path / "free") == 0
    monkeypatch.setenv("RAYMAT_CACHE_LIMIT", "nonsense")
    assert tables_after(tmp_path / "free") == 0
    monkeypatch.setenv("RAYMAT_CACHE_LIMIT", "1GB")
    assert tables_after(tmp_path / "limited") > 0


def test_rows_are_those_of_the_source(study: Study) -> None:
    (whole,) = iter_shards(str(study.candidates), size=1000)
    ids = dict(zip(whole.crystals.material_ids, whole.rows, strict=True))
    assert len(whole.rows) == len(whole.crystals)
    for shard in iter_shards(str(study.candidates), size=3):
        for name, row in zip(shard.crystals.material_ids, shard.rows, strict=True):
            assert ids[name] == row
            assert row // 3 == shard.number


def test_known_moduli_have_no_spread(whole: ScreenedShard) -> None:
    for name in KNOWN:
        row = row_of(whole, name)
        assert (row["source"], row["n_members"], row["n_unbounded"]) == ("dft", 0, 0)
        missing = [n for n in row if n.endswith(("_std", "_lo", "_hi"))]
        assert len(missing) == 9
        assert all(np.isnan(row[n]) for n in missing)
        assert row["in_domain"] is pd.NA
    first, second = (row_of(whole, name) for name in KNOWN)
    assert (first["p_s_low"], first["p_s_high"], first["lambda_crit_nm"]) == (1.0, 1.0, np.inf)
    assert (second["p_s_low"], second["p_s_high"]) == (0.0, 0.0)
    assert (second["bulk_gpa"], second["shear_gpa"]) == pytest.approx((70.0, 40.0))


def test_known_values_can_be_ignored(study: Study, crystals: CrystalSet) -> None:
    content = {key: value for key, value in LITHIUM_METAL.content.items() if key != "known"}
    found = screen(study, crystals, criterion=parse_criterion(content, path="here.yaml"))
    assert set(found.table["source"]) == {"ensemble"}
    assert set(KNOWN) <= set(found.members["material_id"])
    assert reasons(found)["soft-dft"] == EXCLUDED["soft-dft"]  # a filter, not a known value
    assert row_of(found, "dft-1")["K_VRH"] == 8.0


def test_shard_of_known_values_alone_asks_no_member(study: Study, crystals: CrystalSet) -> None:
    some = crystals.take(np.flatnonzero(np.isin(crystals.material_ids, KNOWN)))
    found = screen(study, some)
    assert found.table["material_id"].tolist() == list(KNOWN)
    assert (len(found.members), found.n_member_atoms) == (0, 0)


def test_no_candidates_at_all(study: Study, crystals: CrystalSet) -> None:
    found = screen(study, crystals.take(np.zeros(0, dtype=np.int64)))
    assert (len(found.table), len(found.excluded), len(found.members)) == (0, 0, 0)


# --- the domain ----------------------------------------------------------------------------------


def test_element_that_no_training_crystal_held(whole: ScreenedShard) -> None:
    for name, element in (("unseen", "Rb"), ("unlabelled", "H")):
        row = row_of(whole, name)
        assert (row["in_domain"], row["unseen_elements"]) == (False, element)
    plain = whole.table[whole.table["note"] == "plain"].query("source == 'ensemble'")
    others = plain[plain["material_id"] != "unseen"]
    assert others["in_domain"].all()
    assert set(others["unseen_elements"]) == {""}
    assert (others["domain_distance"] <= 1).all()


def test_far_from_the_training_crystals_in_either_latent_space(
    study: Study, crystals: CrystalSet
) -> None:
    """The larger distance counts: one ensemble that does not know a crystal is enough."""
    both = study.ensembles
    domain = both["shear"].domain
    assert domain is not None
    narrow = replace(both["shear"], domain=replace(domain, threshold=domain.threshold / 100))
    found = screen(study, crystals, shear=narrow).table.query("source == 'ensemble'")
    assert not found["in_domain"].any()
    assert (found["domain_distance"] > 1).all()
    without_any = screen(
        study,
        crystals,
        shear=replace(narrow, domain=None),
        bulk=replace(both["bulk"], domain=None),
    ).table.query("source == 'ensemble'")
    assert without_any["domain_distance"].isna().all()
    inside = without_any.set_index("material_id")["in_domain"]
    is_known = inside.notna()
    assert inside.index[is_known].tolist() == ["unseen", "unlabelled"]  # by their elements alone
    assert not inside[is_known].any()


def test_candidates_that_an_ensemble_learned_from(study: Study, crystals: CrystalSet) -> None:
    met = {"shear": frozenset(["anti-8-1.0"]), "bulk": frozenset(["salt-9-1.0", "elsewhere"])}
    taught = {name: replace(study.ensembles[name], learned_from=ids) for name, ids in met.items()}
    table = screen(study, crystals, **taught).table.set_index("material_id")
    learned = table["in_training"]
    assert sorted(learned.index[learned]) == ["anti-8-1.0", "salt-9-1.0"]
    one = screen(study, crystals, shear=taught["shear"]).table
    assert one["in_training"].sum() == 1
    assert screen(study, crystals).table["in_training"].isna().all()  # no split beside them
    # A row number of one file says nothing of another file, and a crystal is known by its atoms.
    numbers = np.array([f"row-{row}" for row in range(len(crystals))], dtype=object)
    numbered = replace(crystals, material_ids=numbers)
    assert screen(study, numbered, **taught).table["in_training"].isna().all()
    first = KnownCrystals(crystals.take(np.array([0])))
    knowing = replace(taught["shear"], learned=first)
    alone = screen(study, numbered, bulk=knowing, shear=knowing).table.set_index("material_id")
    expected = {f"row-{k}" for k in np.flatnonzero(first.contains(crystals))}
    assert "row-0" in expected
    assert set(alone.index[alone["in_training"]]) == expected & set(alone.index)
    assert not alone["in_training"].isna().any()


def test_elements_must_be_known_to_every_ensemble(study: Study, crystals: CrystalSet) -> None:
    bulk = study.ensembles["bulk"]
    poorer = replace(bulk, elements=tuple(z for z in bulk.elements if z != 8))
    row = row_of(screen(study, crystals, bulk=poorer), "anti-8-1.0")
    assert (row["in_domain"], row["unseen_elements"]) == (False, "O")


# --- what cannot be judged -----------------------------------------------------------------------


def test_element_that_a_model_cannot_read(study: Study) -> None:
    """MEGNet's table of elements ends before that of CGCNN; the name stands in the reason."""
    folder = write_ensemble(study.folder / "M", BULK, model="megnet", numbers=(0, 1))
    pair = study.ensembles["shear"].take((0, 1))
    fermium = rock_salt("heavy", 3, 100, 6.0)
    both = CrystalSet.from_crystals([fermium, rock_salt("light", 3, 9, 4.03)])
    found = screen(study, both, bulk=load_ensemble(folder), shear=pair)
    assert reasons(found) == {"heavy": "holds Fm, which the model's table of elements lacks"}
    assert found.table["material_id"].tolist() == ["light"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.nan, "prediction 'shear' is not a finite number (in 2 of 8 members)"),
        (np.inf, "prediction 'shear' is not a finite number (in 2 of 8 members)"),
        (400.0, "moduli are not positive and finite (in 2 of 8 members)"),  # 10**400 GPa
        (-400.0, "moduli are not positive and finite (in 2 of 8 members)"),  # 0 GPa
    ],
)
def test_members_that_predict_nonsense(
    study: Study, crystals: CrystalSet, value: float, reason: str, tmp_path: Path
) -> None:
    """A stored model with such numbers is refused; one may still compute them."""
    shear = load_ensemble(write_ensemble(tmp_path / "broken", SHEAR))
    broken = TargetScaling(mean=value)
    members = tuple(
        replace(member, scaling=broken) if number in (2, 5) else member
        for number, member in enumerate(shear.members)
    )
    found = screen(study, crystals, shear=replace(shear, members=members))
    assert found.table["material_id"].tolist() == list(KNOWN)
    others = {name: told for name, told in reasons(found).items() if name not in EXCLUDED}
    assert set(others.values()) == {reason}
    assert len(others) + len(found.table) + len(EXCLUDED) - 1 == len(crystals)
    assert len(found.members) == 0


def test_moduli_below_zero(study: Study, crystals: CrystalSet, tmp_path: Path) -> None:
    """An ensemble of the modulus itself can predict what cannot be."""
    content = {key: value for key, value in LITHIUM_METAL.content.items() if key != "known"}
    content["predictions"] = {"bulk": BULK, "shear": "G_VRH"}
    content["values"] = {**content["values"], "shear_gpa": "shear"}
    below = {3: TargetScaling(mean=-5.0, std=1e-3)}
    folder = write_ensemble(tmp_path / "gpa", "G_VRH", scalings=below)
    found = screen(
        study,
        crystals,
        criterion=parse_criterion(content, path="gpa.yaml"),
        shear=load_ensemble(folder),
    )
    counts = found.excluded["reason"].str.extract(r"positive and finite \(in (\d) of 8 members\)")
    assert counts[0].dropna().astype(int).min() >= 1
    assert len(found.table) == 0


def test_text_among_the_numbers(study: Study, crystals: CrystalSet) -> None:
    gaps = crystals.properties["band_gap"].astype(object)
    gaps.iloc[7] = "wide"
    name = str(crystals.material_ids[7])
    found = screen(study, with_columns(crystals, band_gap=gaps))
    assert reasons(found)[name] == "column 'band_gap' holds 'wide', a number is needed"
    nobody = screen(study, with_columns(crystals, band_gap="wide"))  # other shards may hold numbers
    assert len(nobody.table) == 0
    told = "column 'band_gap' holds 'wide', a number is needed"
    assert all(reason.startswith(told) for reason in reasons(nobody).values())
    assert len(reasons(nobody)) == len(crystals)


# --- columns of the candidates -------------------------------------------------------------------


def test_given_columns_are_kept_under_another_name_where_ours_stands(
    study: Study, whole: ScreenedShard, crystals: CrystalSet
) -> None:
    """Such as when the table of one screening is the file of the next one's candidates."""
    n = np.arange(float(len(crystals)))
    names = ("molar_volume_ratio", "in_domain", "domain_distance", "chi_low", "rank", "source")
    found = screen(study, with_columns(crystals, **dict.fromkeys(names, n), n_sites=n)).table
    pd.testing.assert_frame_equal(found[list(whole.table)], whole.table)
    place = {name: float(row) for row, name in enumerate(crystals.material_ids)}
    for name in names:
        given = dict(zip(found["material_id"], found[f"candidate_{name}"], strict=True))
        assert given == {name: place[name] for name in given}


def test_candidates_without_any_column(study: Study, crystals: CrystalSet) -> None:
    """Filters whose columns are missing are not applied: nothing is known of these."""
    bare = without(crystals, "no-lithium", "open").without_properties()
    found = screen(study, bare)
    assert found.table["material_id"].tolist() == bare.material_ids.tolist()
    assert set(found.table["source"]) == {"ensemble"}


# --- another criterion ---------------------------------------------------------------------------

STIFF = {
    "name": "stiff",
    "predictions": {"log10_bulk": BULK},
    "passes": {"p_stiff": "log10_bulk > 0.9"},
    "rank": {"by": "p_stiff", "order": "descending"},
}


def test_criterion_of_one_ensemble(study: Study, whole: ScreenedShard) -> None:
    """Nothing of lithium is computed or asked for, and so no candidate is excluded by it."""
    crystals = without(all_candidates(), "nowhere")
    ensembles = {"log10_bulk": study.ensembles["bulk"]}
    criterion = parse_criterion(STIFF, path="stiff.yaml")
    found = screen_shard(crystals, criterion, ensembles, cache=study.folder / "cache")
    assert len(found.table) == len(crystals) - 1
    assert reasons(found) == {"open": "no atom has a neighbor within 8 Å"}  # a lone atom
    assert "molar_volume_ratio" not in found.table
    log10_bulk = np.stack(found.members["log10_bulk"].to_list())
    assert found.table["p_stiff"].tolist() == (log10_bulk > 0.9).mean(axis=1).tolist()
    assert 0 < found.table["p_stiff"].mean() < 1
    shown = found.table.set_index("material_id")
    assert shown.loc["no-lithium", "unseen_elements"] == "Na"
    assert len(whole.table) < len(found.table)
