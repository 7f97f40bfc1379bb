"""Text that is not ours: safe in a terminal, bounded, and no formula in a spreadsheet."""

import pytest

from raymat.text import csv_cell, plain, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mp-149", "mp-149"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nb\tc", r"a\x0ab\x09c"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202eevil", r"\u202eevil"),
        ("\ud800", r"\ud800"),
        ("Å × é 水", "Å × é 水"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert plain(text) == shown
    plain(text).encode("utf-8")


def test_long_text_is_cut():
    assert plain("x" * 500, at_most=10) == "xxxxxxx..."


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("it's", '"it\'s"'),
        ("\x1b[1m", r"'\x1b[1m'"),
        ("x" * 500, "'" + "x" * 57 + "...'"),
        (3.5, "3.5"),
        (True, "True"),
        (list(range(1000)), "list of 1000 items"),
        (10**400, "a whole number of 401 digits"),
        ({"a": "\x1b[1m"}, r"{'a': '\x1b[1m'}"),
    ],
)
def test_quoted_values_are_short_and_plain(value, shown):
    assert quoted(value) == shown


def test_quoted_survives_nesting_beyond_reason():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    assert quoted(nested) == "a list"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("-1.5e-3", "-1.5e-3"),
        ("+7", "+7"),
        ("mp-149", "mp-149"),
        ("", ""),
    ],
)
def test_text_cells_are_no_formulas(text, cell):
    assert csv_cell(text) == cell
