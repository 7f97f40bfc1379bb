"""Numbers as tables show them."""

import math

import pytest

from raymat.reports.number_text import (
    n_decimals,
    number,
    short,
    signed,
    signed_interval,
    size,
    spread,
    with_minus,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (spread(0.07684, 0.00213), "0.0768 ± 0.0021"),
        (spread(0.07684), "0.07684"),
        (spread(80833.0, 0.0), "80,833"),
        (spread(math.nan, math.nan), "-"),
        (spread(12.345, 1.5), "12.3 ± 1.5"),
        (spread(1234.5, 210.0), "1,234 ± 210"),
        (spread(8.372e-12, 3.1e-13), "8.372e-12 ± 3.1e-13"),
        (number(0.0), "0"),
        (number(-0.5), "-0.5000"),
        (number(1e-12), "1e-12"),
        (signed(-0.00592), "-0.00592"),
        (signed(-3.2e-12), "-3.2e-12"),
        (signed(0.0), "+0.00"),
        (signed(math.nan), "-"),
        (signed_interval(-0.0114, -0.0004), "-0.0114 to -0.0004"),
        (signed_interval(-2.5e-12, 1e-13), "-2.5e-12 to +1e-13"),
        (signed_interval(math.nan, 1.0), "-"),
        (size(323_332.0), "323.3 kB"),
        (size(16_801_284.0, 0.0), "16.80 MB"),
        (size(math.nan), "-"),
        (short(0.9), "0.900"),
        (short(202.0), "202"),
        (short(80_833.0), "80.8k"),
        (short(999_900.0), "1.00M"),
        (short(math.nan), "-"),
        (with_minus("-1.5"), "−1.5"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize(
    ("values", "n"),
    [
        ([-3.3, 0.2], 2),
        ([0.10, 0.84], 3),
        ([20.0, 310.0], 0),
        ([1e6, 2e6], 0),
        ([5.0], 2),
        ([0.0, 0.0], 2),
    ],
)
def test_decimals_of_a_table(values: list[float], n: int) -> None:
    assert n_decimals(values) == n
