"""Standard properties and providers' own fields."""

import math

import pytest

from raymat.errors import ConfigError
from raymat.properties import PROPERTIES, PROVIDER_FIELDS
from raymat.sources.databases.columns import (
    as_text,
    check_names,
    choose_columns,
    common_kind,
    from_text,
    kind_of_value,
    read_value,
    split_names,
)
from raymat.sources.databases.providers import PROVIDERS, find_provider


def test_the_table_names_known_properties_and_providers_once():
    assert {f.property for f in PROVIDER_FIELDS} <= set(PROPERTIES)
    assert {f.provider for f in PROVIDER_FIELDS} <= {p.prefix for p in PROVIDERS.values()}
    keys = [(f.property, f.provider) for f in PROVIDER_FIELDS]
    assert len(set(keys)) == len(keys)
    for f in PROVIDER_FIELDS:
        assert f.method
        assert f.field.startswith(f"_{f.provider}_") or f.interface == "mp-api"
        assert (f.conversion == "log10") == f.property.startswith("log10_")


def value(name: str, prefix: str, document: dict, n_sites: int = 2) -> float | None:
    return read_value(choose_columns([name], prefix, None)[0], document, n_sites)


def test_values_become_the_propertys_unit():
    stability = {"gga_gga+u": {"formation_energy_per_atom": -1.5, "energy_above_hull": 0}}
    assert value("formation_energy_per_atom", "mp", {"_mp_stability": stability}) == -1.5
    assert value("e_above_hull", "mp", {"_mp_stability": stability}) == 0.0
    assert value("e_above_hull", "mp", {"_mp_stability": {"r2scan": {}}}) is None
    assert value("e_above_hull", "mp", {"_mp_stability": None}) is None
    assert value("energy_per_atom", "alexandria", {"_alexandria_energy": -7.0}) == -3.5
    assert value("energy_per_atom", "alexandria", {"_alexandria_energy": -7.0}, 0) is None
    assert value("log10_K_Voigt", "jarvis", {"_jarvis_bulk_modulus_kv": 100.0}) == 2.0
    assert value("log10_K_VRH", "mp", {"bulk_modulus": {"vrh": 50.0}}) == math.log10(50.0)


@pytest.mark.parametrize(
    "missing", [-99999, "na", "", None, float("nan"), True, [1.0], {"a": 1}, -99999.0]
)
def test_what_is_no_number_is_missing(missing):
    assert value("K_Voigt", "jarvis", {"_jarvis_bulk_modulus_kv": missing}) is None


def test_a_logarithm_of_nothing_is_missing():
    assert value("log10_K_Voigt", "jarvis", {"_jarvis_bulk_modulus_kv": 0.0}) is None
    assert value("log10_K_Voigt", "jarvis", {"_jarvis_bulk_modulus_kv": -3.0}) is None


def test_own_fields_stay_as_they_are():
    served = {"_nmd_x": {"unit": "eV"}, "_nmd_tree": {"unit": "inapplicable"}}
    plain, nested = choose_columns(["_nmd_x", "_nmd_tree.a.b"], "nmd", served)
    assert (plain.unit, nested.unit, nested.root) == ("eV", "", "_nmd_tree")
    assert read_value(plain, {"_nmd_x": "word"}, 1) == "word"
    assert read_value(nested, {"_nmd_tree": {"a": {"b": [1]}}}, 1) == [1]
    assert read_value(nested, {"_nmd_tree": {"a": 3}}, 1) is None


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([1, 2, None], "integer", [1, 2, None]),
        ([1, 2.5], "number", [1.0, 2.5]),
        ([True, None], "boolean", [True, None]),
        (["a", "b"], "text", ["a", "b"]),
        (["a", 1.5, True], "text", ["a", "1.5", "true"]),
        ([2**70], "text", [str(2**70)]),
        ([[1], "a"], "json", ["[1]", '"a"']),
        ([{"b": 1, "a": 2}], "json", ['{"a": 2, "b": 1}']),
    ],
)
def test_a_column_has_one_kind(values, kind, read):
    found = common_kind(k for v in values if (k := kind_of_value(v)))
    assert found == kind
    assert [from_text(as_text(v), kind) for v in values] == read


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("a,a", "'a' stands twice"),
        (" , ", "no name; expected names, separated by commas"),
    ],
)
def test_lists_of_names(names, words):
    with pytest.raises(ConfigError, match=words):
        split_names(names)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bandgap", "no property of that name; did you mean 'band_gap'"),
        ("heat_all", "no provider carries it"),
        ("_a..b", "no property of that name"),
    ],
)
def test_names_that_nobody_has(name, words):
    with pytest.raises(ConfigError, match=words):
        check_names([name])


def test_names_that_this_provider_does_not_have():
    with pytest.raises(ConfigError, match="not carried here; provider 'oqmd' carries: band_gap"):
        choose_columns(["K_VRH"], "oqmd", None)
    with pytest.raises(ConfigError, match="does not know this field; did you mean '_x_band_gap'"):
        choose_columns(["_x_bandgap"], "x", {"_x_band_gap": {}})
    with pytest.raises(ConfigError, match=r"does not know this field \('_oqmd_delta_e'\)"):
        choose_columns(["formation_energy_per_atom"], "oqmd", {"_oqmd_x": {}})


def test_providers_by_name_and_by_url():
    assert find_provider("nomad").prefix == "nmd"
    assert find_provider("https://oqmd.org/optimade/v1/structures").name == "oqmd"
    other = find_provider("http://localhost:5000/base/v1/")
    assert (other.base_url, other.title, other.prefix) == (
        "http://localhost:5000/base",
        "localhost",
        "",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("oqmdd", "is no provider; did you mean 'oqmd'"),
        ("", "'' is no provider"),
        ("ftp://host/x", "is no base URL"),
        ("http://", "is no base URL"),
        ("http://host:port/x", "is no base URL"),
        ("http://host/x?filter=1", "without user, query or fragment"),
    ],
)
def test_providers_that_are_none(text, words):
    with pytest.raises(ConfigError, match=words):
        find_provider(text)


def test_a_password_in_a_url_is_not_repeated():
    with pytest.raises(ConfigError, match="'https://host/x' is no base URL") as error:
        find_provider("https://me:secret@host/x")
    assert "secret" not in str(error.value)
