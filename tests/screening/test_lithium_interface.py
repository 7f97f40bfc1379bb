"""The stability parameter against published and golden numbers, and what it must obey."""

import numpy as np
import pytest
from conftest import read_reference

from raymat.screening.lithium_interface import (
    HIGH_WAVENUMBER,
    LITHIUM_MOLAR_VOLUME,
    LITHIUM_SHEAR_GPA,
    LITHIUM_SURFACE_TENSION,
    LOW_WAVENUMBER,
    RADIUS_INTERCEPT,
    RADIUS_SLOPE,
    SHANNON_RADII,
    critical_wavelength_nm,
    critical_wavenumber,
    deviatoric_term,
    hydrostatic_term,
    lithium_radius,
    molar_volume_ratio,
    poisson_ratio,
    stability_boundary,
    stability_parameter,
    surface_term,
)

GOLDEN = read_reference("stability_formula.json")
STRUCTURES = read_reference("stability_structures.json")["structures"]
CASES = GOLDEN["cases"]
DFT_ROWS = [row for row in GOLDEN["table_2_4"] if row["source"] == "DFT moduli"]
ENSEMBLE_ROWS = [row for row in GOLDEN["table_2_4"] if row["source"] != "DFT moduli"]
ENSEMBLE = GOLDEN["ensemble_example"]

GOLDEN_TOLERANCE = 1e-6  # relative, as the golden numbers' README says
STRUCTURE_TOLERANCE = 1e-6  # relative; their moduli are given with 8 digits
PRINTED = {"chi_low": 2, "chi_high": 2, "lambda_crit_nm": 2}  # digits in the published table
ROUNDING = 1e-12  # relative, float64
CANCELLATION = 1e-9  # relative; k_crit is itself a difference of two stresses


def bulk_of(shear: float, poisson: float) -> float:
    """K from G and nu: K = 2 G (1 + nu) / (3 (1 - 2 nu))."""
    return 2 * shear * (1 + poisson) / (3 * (1 - 2 * poisson))


def close(found, expected, tolerance=GOLDEN_TOLERANCE):
    return np.allclose(found, expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"G{c['G_GPa']}-v{c['v']:.3g}-k{c['k_per_m']:.2g}"
)
def test_golden_case(case):
    g, nu, v, k = (case[key] for key in ("G_GPa", "nu", "v", "k_per_m"))
    bulk = bulk_of(g, nu)
    assert close(surface_term(v, k), case["surface"])
    assert close(deviatoric_term(g, nu, v, k), case["deviatoric"])
    assert close(hydrostatic_term(g, nu, v, k), case["hydrostatic"])
    assert close(stability_parameter(bulk, g, v, k), case["chi"])
    if "k_crit_per_m" in case:
        assert close(critical_wavenumber(bulk, g, v), case["k_crit_per_m"])
        expected = np.inf if case["lambda_crit_nm"] is None else case["lambda_crit_nm"]
        assert close(critical_wavelength_nm(bulk, g, v), expected)


def test_golden_cases_hold_interfaces_stable_at_every_wavenumber():
    assert sum(case.get("k_crit_per_m", 1) < 0 for case in CASES) == 2


@pytest.mark.parametrize("row", DFT_ROWS, ids=lambda row: row["mp_id"])
def test_published_rows_with_dft_moduli_to_every_printed_digit(row):
    moduli, v = (row["K_GPa"], row["G_GPa"]), molar_volume_ratio(row["cn"])
    assert close(poisson_ratio(*moduli), row["nu"])
    assert close(v, row["v"])
    found = {
        "chi_low": stability_parameter(*moduli, v, LOW_WAVENUMBER),
        "chi_high": stability_parameter(*moduli, v, HIGH_WAVENUMBER),
        "lambda_crit_nm": critical_wavelength_nm(*moduli, v),
    }
    for name, digits in PRINTED.items():
        # The table prints 3.64 for 3.64465, so the digits must agree without help.
        assert f"{found[name]:.{digits}f}" == f"{row['published'][name]:.{digits}f}", name


@pytest.mark.parametrize("row", ENSEMBLE_ROWS, ids=lambda row: row["mp_id"])
def test_published_ensemble_rows_are_consistent(row):
    """Mean chi is linear in the mean of B, so chi at one k gives chi at the other."""
    v, published = molar_volume_ratio(row["cn"]), row["published"]
    assert close(v, row["v"])
    slope = (published["chi_high"] - surface_term(v, HIGH_WAVENUMBER)) / HIGH_WAVENUMBER
    low = slope * LOW_WAVENUMBER + surface_term(v, LOW_WAVENUMBER)
    assert low == pytest.approx(row["chi_low_implied_by_chi_high"], abs=1e-3)
    assert low == pytest.approx(published["chi_low"], abs=0.06)  # both are printed to 0.1


@pytest.mark.parametrize("name", STRUCTURES)
def test_golden_structure(name):
    golden = STRUCTURES[name]
    moduli, v = (golden["K_GPa_checkpoint"], golden["G_GPa_checkpoint"]), golden["v"]
    nu = poisson_ratio(*moduli)
    terms = [
        surface_term(v, LOW_WAVENUMBER),
        deviatoric_term(moduli[1], nu, v, LOW_WAVENUMBER),
        hydrostatic_term(moduli[1], nu, v, LOW_WAVENUMBER),
    ]
    assert close(lithium_radius(golden["cn_mean"]), golden["r_Li_angstrom"], STRUCTURE_TOLERANCE)
    assert close(molar_volume_ratio(golden["cn_mean"]), v, STRUCTURE_TOLERANCE)
    assert close(nu, golden["nu"], STRUCTURE_TOLERANCE)
    assert close(terms, golden["chi_low_terms"], STRUCTURE_TOLERANCE)
    for k, key in ((LOW_WAVENUMBER, "chi_low"), (HIGH_WAVENUMBER, "chi_high")):
        chi = stability_parameter(*moduli, v, k)
        assert close(chi, golden[f"{key}_kJ_per_mol_nm"], STRUCTURE_TOLERANCE)
    assert close(critical_wavelength_nm(*moduli, v), golden["lambda_crit_nm"], STRUCTURE_TOLERANCE)


@pytest.mark.parametrize(
    "case", GOLDEN["stability_boundary"], ids=lambda c: f"{c['v']}-{c['nu_s']}"
)
def test_golden_boundary(case):
    assert close(stability_boundary(case["v"], case["nu_s"]), case["G_over_GLi_critical"])


def test_boundary_of_the_published_figure():
    assert round(float(stability_boundary(0.1, 0.33)), 3) == 0.697


def test_boundary_is_where_stress_turns():
    rng = np.random.default_rng(3)
    v, nu = rng.uniform(0, 0.99, 300), rng.uniform(-0.9, 0.49, 300)
    shear = stability_boundary(v, nu) * LITHIUM_SHEAR_GPA
    for factor, sign in ((0.999, -1), (1.001, 1)):
        k_crit = critical_wavenumber(bulk_of(factor * shear, nu), factor * shear, v)
        assert (np.sign(k_crit) == sign).all()


def test_boundary_exists_for_volume_ratios_from_zero_to_one():
    found = stability_boundary(np.array([-0.1, 1.0, 1.01, np.nan]), 0.3)
    assert np.array_equal(found, [np.nan, 0.0, np.nan, np.nan], equal_nan=True)


def random_electrolytes(n: int = 2000):
    """K and G over four decades, both signs of k_crit, every allowed v."""
    rng = np.random.default_rng(7)
    bulk, shear = 10 ** rng.uniform(-1, 3, (2, n))
    return bulk, shear, rng.uniform(0.02, 1.5, n)


def test_chi_is_a_parabola_with_its_root_at_the_critical_wavenumber():
    bulk, shear, v = random_electrolytes()
    k_crit = critical_wavenumber(bulk, shear, v)
    assert 100 < (k_crit < 0).sum() < 1900
    a = LITHIUM_SURFACE_TENSION * LITHIUM_MOLAR_VOLUME * (1 + v) / 2  # z = 1
    for k in (1e7, LOW_WAVENUMBER, 1e9, HIGH_WAVENUMBER, 1e11):
        expected = a * k * (k_crit - k) / 1e12
        chi = stability_parameter(bulk, shear, v, k)
        scale = a * k * (np.abs(k_crit) + k) / 1e12  # chi is the difference of two such terms
        assert (np.abs(chi - expected) <= CANCELLATION * scale).all()


def test_chi_vanishes_at_the_critical_wavelength():
    bulk, shear, v = random_electrolytes()
    wavelength = critical_wavelength_nm(bulk, shear, v)
    bounded = np.isfinite(wavelength)
    k = 2 * np.pi / (wavelength[bounded] * 1e-9)
    inputs = [x[bounded] for x in (bulk, shear, v)]
    assert (stability_parameter(*inputs, 0.999 * k) > 0).all()
    assert (stability_parameter(*inputs, 1.001 * k) < 0).all()


def test_critical_wavelength_is_infinite_exactly_where_every_wavenumber_is_stable():
    bulk, shear, v = random_electrolytes()
    wavelength = critical_wavelength_nm(bulk, shear, v)
    always_stable = critical_wavenumber(bulk, shear, v) <= 0
    assert np.array_equal(np.isinf(wavelength), always_stable)
    assert (wavelength > 0).all()
    for k in (1.0, LOW_WAVENUMBER, HIGH_WAVENUMBER):
        chi = stability_parameter(bulk, shear, v, k)
        assert (chi[always_stable] < 0).all()


def test_ensemble_is_averaged_over_chi_and_not_over_moduli():
    bulk, shear = (10 ** np.array(ENSEMBLE[key]) for key in ("log10K", "log10G"))
    v = ENSEMBLE["v"]
    low, high = (stability_parameter(bulk, shear, v, k) for k in (LOW_WAVENUMBER, HIGH_WAVENUMBER))
    wavelength = critical_wavelength_nm(bulk, shear, v)
    expected = [np.inf if nm is None else nm for nm in ENSEMBLE["lambda_crit_nm"]]
    assert close(poisson_ratio(bulk, shear), ENSEMBLE["nu"])
    assert close(low, ENSEMBLE["chi_low"])
    assert close(high, ENSEMBLE["chi_high"])
    assert close(critical_wavenumber(bulk, shear, v), ENSEMBLE["k_crit_per_m"])
    assert close(wavelength, expected)
    assert (low < 0).mean() == ENSEMBLE["P_s_low"]
    assert (high < 0).mean() == ENSEMBLE["P_s_high"]
    assert np.isinf(wavelength).sum() == ENSEMBLE["n_stable_at_every_k"]
    assert close(wavelength[np.isfinite(wavelength)].mean(), ENSEMBLE["lambda_mean_over_finite"])
    assert close(high.mean(), ENSEMBLE["chi_high_mean"])
    assert close(high.std(ddof=1), ENSEMBLE["chi_high_std_ddof1"])
    of_mean = stability_parameter(bulk.mean(), shear.mean(), v, HIGH_WAVENUMBER)
    assert close(of_mean, ENSEMBLE["chi_high_of_mean_moduli"])
    assert abs(of_mean - high.mean()) > 6


def test_members_broadcast_against_candidates():
    rng = np.random.default_rng(1)
    bulk, shear, v = (
        rng.uniform(5, 50, (7, 4)),
        rng.uniform(2, 30, (7, 4)),
        rng.uniform(0.1, 0.9, 4),
    )
    for function, rest in (
        (stability_parameter, (v, LOW_WAVENUMBER)),
        (critical_wavenumber, (v,)),
        (critical_wavelength_nm, (v,)),
    ):
        found = function(bulk, shear, *rest)
        assert found.shape == (7, 4)
        one = function(float(bulk[5, 2]), float(shear[5, 2]), float(v[2]), *rest[1:])
        assert close(found[5, 2], one, ROUNDING)


@pytest.mark.parametrize("bad", [np.nan, 0.0, -3.0, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("which", [0, 1])
def test_impossible_modulus_of_one_member_gives_nan_for_it_alone(bad, which):
    """Without a warning: warnings are errors here."""
    moduli = np.array([[20.0, 30.0], [10.0, 12.0]])
    moduli[which, 1] = bad
    found = [
        poisson_ratio(*moduli),
        stability_parameter(*moduli, 0.1, LOW_WAVENUMBER),
        critical_wavenumber(*moduli, 0.1),
        critical_wavelength_nm(*moduli, 0.1),
    ]
    for values in found:
        assert np.array_equal(np.isnan(values), [False, True])


@pytest.mark.parametrize("bad", [np.nan, -1.0, -0.1, np.inf])
def test_impossible_volume_ratio_gives_nan(bad):
    v = np.array([0.1, bad])
    for values in (
        stability_parameter(20.0, 10.0, v, LOW_WAVENUMBER),
        critical_wavelength_nm(20.0, 10.0, v),
    ):
        assert np.array_equal(np.isnan(values), [False, True])


@pytest.mark.parametrize("bad", [np.nan, -1.1, 0.51, np.inf])
def test_impossible_poisson_ratio_gives_nan(bad):
    assert np.isnan(deviatoric_term(3.4, bad, 0.1, LOW_WAVENUMBER))
    assert np.isnan(hydrostatic_term(3.4, bad, 0.1, LOW_WAVENUMBER))
    assert np.isnan(stability_boundary(0.1, bad))


def test_poisson_ratio_stays_in_its_range():
    bulk, shear, _ = random_electrolytes()
    assert (np.abs(poisson_ratio(bulk, shear) + 0.25) < 0.75).all()
    assert poisson_ratio(1e12, 1e-12) == pytest.approx(0.5)
    assert poisson_ratio(1e-12, 1e12) == pytest.approx(-1.0)
    for extreme in ((1e12, 1e-12), (1e-12, 1e12)):
        assert np.isfinite(stability_parameter(*extreme, 0.1, LOW_WAVENUMBER))


def test_radius_is_the_least_squares_line_through_shannons_radii():
    line = np.polyfit(list(SHANNON_RADII), list(SHANNON_RADII.values()), 1)
    assert close([RADIUS_SLOPE, RADIUS_INTERCEPT], line, ROUNDING)
    assert lithium_radius(6) == pytest.approx(0.75667, abs=5e-6)  # not Shannon's 0.76
    assert lithium_radius(3) < lithium_radius(4) < lithium_radius(12)
