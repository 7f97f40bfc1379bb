import numpy as np
import pytest

from raymat.data.target_shape import find_shape

RNG = np.random.default_rng(1)
NORMAL = RNG.normal(size=4000)
SKEWED = {
    "normal": NORMAL,
    "exponential": RNG.exponential(size=4000),
    "lognormal": np.exp(0.7 * NORMAL),
    "heavy tails": RNG.standard_t(3, size=4000),
    "uniform": RNG.uniform(size=4000),
    "far outlier": np.append(NORMAL, 200.0),
}


@pytest.mark.parametrize("name", SKEWED)
def test_one_mode(name: str) -> None:
    shape = find_shape(SKEWED[name])
    assert shape.modes is not None
    assert not shape.modes.is_bimodal
    assert "the values have one mode" in shape.lines("eV")[0]


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_two_modes(share: float) -> None:
    """-2.5 and -0.5 eV, as of formation energies; in another unit it is the same."""
    n = int(4000 * share)
    values = np.concatenate([RNG.normal(-2.5, 0.4, n), RNG.normal(-0.5, 0.4, 4000 - n)])
    for unit in (1.0, 96.485):
        modes = find_shape(values * unit).modes
        assert modes is not None
        assert modes.is_bimodal
        np.testing.assert_allclose(modes.means, [-2.5 * unit, -0.5 * unit], atol=0.05 * unit)
        np.testing.assert_allclose(modes.weights, [share, 1 - share], atol=0.03)
        assert modes.valley < 0.6
    assert find_shape(values) == find_shape(values)


def test_a_few_values_apart_are_no_mode() -> None:
    modes = find_shape(np.concatenate([NORMAL, RNG.normal(12.0, 1.0, 80)])).modes
    assert modes is not None
    assert not modes.is_bimodal  # 2 %


def test_a_peak_at_exactly_zero() -> None:
    gaps = np.concatenate([np.zeros(1000), np.abs(RNG.normal(3.0, 0.8, 3000))])
    shape = find_shape(gaps)
    assert shape.has_zero_peak
    lines = shape.lines("eV")
    assert lines[0] == "peak at exactly zero: 1,000 of 4,000 values (25.0%)"
    assert lines[1].startswith("the other values have one mode")
    assert not find_shape(np.append(NORMAL, 0.0)).has_zero_peak


def test_too_few_values_tell_nothing() -> None:
    assert find_shape(np.arange(49.0)).modes is None
    assert find_shape(np.tile([1.0, 2.0], 500)).modes is None
    mostly_one = np.concatenate([np.ones(1000), np.linspace(2.0, 3.0, 60)])
    assert find_shape(mostly_one).modes is not None  # half of them equal: no quartiles apart
    assert find_shape(np.zeros(100)).lines("") == [
        "peak at exactly zero: 100 of 100 values (100.0%)"
    ]
