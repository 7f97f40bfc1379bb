"""Criterion files: what is read of them, and what is said of those that cannot be used."""

import copy
import pickle
from pathlib import Path

import pytest
import yaml

import raymat
from raymat.errors import ConfigError
from raymat.screening.criterion import parse_criterion, read_criterion, shipped_criteria
from raymat.screening.criterion_inputs import check_columns, check_ensembles

SHIPPED = Path(raymat.__file__).parents[1] / "criteria"
SOFT = yaml.safe_load((SHIPPED / "wide_gap_soft.yaml").read_text(encoding="utf-8"))
LITHIUM = yaml.safe_load((SHIPPED / "lithium_metal.yaml").read_text(encoding="utf-8"))
TARGETS = {"bulk": "log10_K_VRH", "shear": "log10_G_VRH"}


def parse(content=SOFT, **changes):
    """Parse a criterion, some of its keys replaced, or left out where None."""
    changed = {**copy.deepcopy(content), **changes}
    return parse_criterion({k: v for k, v in changed.items() if v is not None}, path="soft.yaml")


def test_shipped_criteria_can_be_read():
    assert set(shipped_criteria()) == {"lithium_metal", "wide_gap_soft"}
    for name in shipped_criteria():
        criterion = read_criterion(name)
        assert criterion.name == name
        assert read_criterion(f"{name}.yaml") == criterion
        assert parse_criterion(criterion.content, path=criterion.path) == criterion
        assert pickle.loads(pickle.dumps(criterion)) == criterion


def test_a_file_is_read_by_its_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SOFT, "name": "mine"}), encoding="utf-8")
    assert read_criterion(str(path)).name == "mine"


def test_lithium_metal_makes_the_columns_of_the_contract():
    criterion = read_criterion("lithium_metal")
    assert " ".join(criterion.table) == (
        "chi_low chi_low_std p_s_low p_s_low_lo p_s_low_hi chi_high chi_high_std p_s_high"
        " p_s_high_lo p_s_high_hi lambda_crit_nm lambda_crit_nm_std n_members n_unbounded"
        " bulk_gpa bulk_gpa_std shear_gpa shear_gpa_std molar_volume_ratio"
    )
    assert criterion.predictions == TARGETS
    assert criterion.features == {"molar_volume_ratio", "n_lithium"}


def test_without_a_list_the_table_shows_values_passes_counts():
    criterion = parse(counts={"n_hard": "log10_bulk > 2"})
    assert " ".join(criterion.table) == (
        "gap_ev gap_ev_std bulk_gpa bulk_gpa_std p_pass p_pass_lo p_pass_hi n_hard n_members"
    )
    assert criterion.features == set()


def test_features_are_those_that_anything_reads():
    assert parse(exclude={"large cell": "n_sites > 100"}).features == {"n_sites"}
    assert parse(list_if="n_lithium > 0").features == {"n_lithium"}
    assert parse(rank={"by": "n_sites"}).features == {"n_sites"}
    assert parse(table=["molar_volume_ratio"]).features == {"molar_volume_ratio"}


BROKEN = {
    "unknown key": (
        {"pass": {"p": "gap > 1"}},
        r"^soft\.yaml: 'pass' is not a field of CriterionFile; did you mean 'passes'",
    ),
    "missing key": ({"predictions": None}, r"^soft\.yaml: 'predictions' is missing"),
    "no prediction": ({"predictions": {}}, "'predictions'"),
    "number for text": (
        {"values": {"gap_ev": 3}},
        r"'values\.gap_ev' must be text \(found 3\)",
    ),
    "unknown order": (
        {"rank": {"by": "p_pass", "order": "down"}},
        "'rank.order' must be one of 'ascending', 'descending'",
    ),
    "unknown name": (
        {"passes": {"p_pass": "gpa > 0.5"}},
        r"^soft\.yaml: passes: p_pass: unknown name 'gpa' at character 1; did you mean 'gap'",
    ),
    "unknown column": (
        {"exclude": {"unstable": "e_above_hul > 0.1"}},
        r"exclude: unstable: unknown name 'e_above_hul' .*did you mean 'e_above_hull'",
    ),
    "unknown name in the list": (
        {"list_if": "p_past > 0.5"},
        r"list_if: unknown name 'p_past' .*did you mean 'p_pass'",
    ),
    "unknown column to rank by": (
        {"rank": {"by": "p_past"}},
        r"rank: by: 'p_past' is not a column of the table; did you mean 'p_pass'",
    ),
    "unknown column in the table": (
        {"table": ["p_past"]},
        r"table: unknown name 'p_past'; did you mean 'p_pass'",
    ),
    "column in the table twice": ({"table": ["p_pass", "p_pass"]}, "'p_pass' stands there twice"),
    "number where a condition is needed": (
        {"passes": {"p_pass": "gap"}},
        "passes: p_pass: 'gap' is a number, a condition is needed",
    ),
    "condition where a number is needed": (
        {"values": {"gap_ev": "gap > 1"}},
        "values: gap_ev: 'gap > 1' is a condition, a number is needed",
    ),
    "value before its definition": (
        {"values": {"a": "b + 1", "b": "gap"}, "rank": {"by": "a"}},
        "values: a: 'b' at character 1 is defined further down; move 'b' above it",
    ),
    "cycle": (
        {"values": {"a": "b", "b": "a"}, "rank": {"by": "a"}},
        "values: a: 'b' at character 1 is defined further down; .* none depend on itself",
    ),
    "value of itself": (
        {"values": {"a": "a + 1"}, "rank": {"by": "a"}},
        "values: a: 'a' at character 1 reads itself",
    ),
    "share in a member's value": (
        {"values": {"a": "p_pass * gap"}, "rank": {"by": "a"}},
        "'p_pass' at character 1 stands under 'passes', which is told over all members",
    ),
    "prediction in a filter": (
        {"exclude": {"metal": "gap < 0.1"}},
        "exclude: metal: 'gap' at character 1 stands under 'predictions', which members tell",
    ),
    "value in a filter": (
        {"exclude": {"hard": "bulk_gpa > 100"}},
        "'bulk_gpa' at character 1 stands under 'values', which members tell",
    ),
    "prediction in the list": (
        {"list_if": "gap > 1"},
        "'gap' at character 1 is a prediction, which no column shows; give it a name under 'valu",
    ),
    "prediction to rank by": (
        {"rank": {"by": "gap"}},
        "rank: by: 'gap' is a prediction, which no column shows",
    ),
    "name defined twice": (
        {"values": {"gap": "10 ** log10_bulk"}},
        "values: 'gap' is taken: 'gap' stands under 'predictions'; rename it",
    ),
    "value named like a column": (
        {"values": {"band_gap": "gap"}},
        "values: 'band_gap' is taken: 'band_gap' stands under 'columns'; rename it",
    ),
    "value named like a function": (
        {"values": {"log10": "gap"}},
        "values: 'log10' is taken: it is a function or constant of expressions",
    ),
    "column named like a feature": (
        {"columns": {"n_sites": ""}},
        "columns: 'n_sites' is taken: it is a feature of the candidate's structure",
    ),
    "value named like a column of every table": (
        {"values": {"rank": "gap"}},
        "values: 'rank' is taken: the table has such a column anyway",
    ),
    "two columns of one name": (
        {"values": {"p": "gap", "p_std": "gap"}},
        "values: 'p_std' is taken: 'p' stands under 'values'",
    ),
    "a column hides another": (
        {"columns": {**SOFT["columns"], "gap_ev_std": "eV"}},
        "values: 'gap_ev' gives a column 'gap_ev_std', which is taken: 'gap_ev_std' stands under",
    ),
    "name with a space": (
        {"columns": {**SOFT["columns"], "band gap": "eV"}},
        "columns: 'band gap' is not a plain name: letters, digits and _, a letter first",
    ),
    "look-alike name": ({"values": {"\u0445": "gap"}}, "is not a plain name"),
    "dunder": ({"values": {"__class__": "gap"}}, "'__class__' is not a plain name"),
    "keyword": ({"values": {"lambda": "gap"}}, "'lambda' is a word of the expressions' grammar"),
    "known of something else": (
        {"known": {"gpa": "band_gap"}},
        "known: 'gpa' is not a prediction; did you mean 'gap'",
    ),
    "known of one only": (
        {"known": {"gap": "band_gap"}},
        "known: 'log10_bulk' is missing; known values replace the members only together",
    ),
    "code": (
        {"values": {"gap_ev": "__import__('os').system('id')"}},
        r"^soft\.yaml: values: gap_ev: '__import__\('os'\)\.system' at character 1 cannot stand",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_says_what_is_wrong_and_where(case):
    changes, told = BROKEN[case]
    with pytest.raises(ConfigError, match=told) as refused:
        parse(**changes)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("soft.yaml: ")


def test_a_key_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\nvalues:\n  x: '1'\n  x: '2'\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 4: 'x' stands in line 3 already"):
        read_criterion(str(path))


def test_unknown_criterion():
    with pytest.raises(
        ConfigError, match="lithium_metl: neither a file nor a shipped criterion; did you mean 'li"
    ):
        read_criterion("lithium_metl")


def test_ensembles_that_fit():
    check_ensembles(read_criterion("lithium_metal"), TARGETS)


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (
            {"bulk": "log10_G_VRH", "shear": "log10_K_VRH"},
            "the ensembles for 'bulk' and 'shear' are swapped: 'bulk' was given one that learned "
            "log10_G_VRH, 'shear' one that learned log10_K_VRH; exchange them",
        ),
        (
            {"bulk": "log10_G_VRH", "shear": "log10_G_VRH"},
            r"'bulk' needs an ensemble that learned log10_K_VRH, the one given learned "
            r"log10_G_VRH \(that is what 'shear' needs\)",
        ),
        (
            {"bulk": "log10_K_VRH", "shear": "band_gap"},
            "'shear' needs an ensemble that learned log10_G_VRH, the one given learned band_gap$",
        ),
        ({"bulk": "log10_K_VRH"}, r"no ensemble was given for 'shear' \(target log10_G_VRH\)"),
        ({**TARGETS, "sheer": "x"}, "it has no prediction 'sheer'; did you mean 'shear'"),
    ],
)
def test_ensembles_that_do_not_fit(targets, told):
    with pytest.raises(ConfigError, match=f"^criterion lithium_metal .*{told}"):
        check_ensembles(read_criterion("lithium_metal"), targets)


def test_classes_of_a_number_are_no_numbers():
    criterion = read_criterion("lithium_metal")
    with pytest.raises(
        ConfigError,
        match=r"'bulk' needs an ensemble that learned the number log10_K_VRH, the one given learned"
        r" its classes \(above 1\.9 or not\) and predicts probabilities; train one without",
    ):
        check_ensembles(criterion, TARGETS, {"bulk": 1.9})


def test_columns_that_only_filters_read_may_be_absent():
    criterion = read_criterion("lithium_metal")
    assert check_columns(criterion, ["band_gap"]) == (
        *("matbench_band_gap", "e_above_hull", "K_VRH", "G_VRH"),
    )


def test_columns_that_values_read_may_not():
    criterion = parse(values={"score": "gap - 10 * e_above_hull"}, rank={"by": "score"})
    with pytest.raises(
        ConfigError,
        match=r"reads the column 'e_above_hull', which .* not have; did you mean 'e_hull'",
    ):
        check_columns(criterion, ["band_gap", "e_hull"])
    listed = parse(
        list_if="p_wide > 0.5 and e_above_hull < 0.05",
        passes={"p_wide": "gap > 1"},
        rank={"by": "p_wide"},
    )
    with pytest.raises(ConfigError, match="reads the column 'e_above_hull'"):
        check_columns(listed, [])
    by_column = parse(rank={"by": "e_above_hull"})
    with pytest.raises(ConfigError, match="reads the column 'e_above_hull'"):
        check_columns(by_column, [])
