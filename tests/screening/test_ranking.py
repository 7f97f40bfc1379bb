"""The order of candidates and the short list."""

import numpy as np
import pandas as pd
import yaml
from conftest import PROJECT

from raymat.screening.criterion import parse_criterion, read_criterion
from raymat.screening.ranking import rank, short_list

CRITERION = read_criterion("lithium_metal")
SOFT = yaml.safe_load((PROJECT / "criteria" / "wide_gap_soft.yaml").read_text(encoding="utf-8"))


def table(**columns):
    return pd.DataFrame({"material_id": ["c", "a", "b", "d"], **columns})


def test_longest_wavelength_first_ties_by_id():
    ranked = rank(table(lambda_crit_nm=[1.0, np.inf, 1.0, np.nan]), CRITERION)
    assert ranked["material_id"].tolist() == ["a", "b", "c", "d"]
    assert ranked["rank"].tolist() == [1, 2, 3, 4]
    assert ranked.columns[0] == "rank"


def test_ascending_keeps_ties_by_id():
    criterion = parse_criterion(
        {**SOFT, "rank": {"by": "bulk_gpa", "order": "ascending"}}, path="x.yaml"
    )
    ranked = rank(table(bulk_gpa=[9.0, 5.0, 5.0, 1.0]), criterion)
    assert ranked["material_id"].tolist() == ["d", "a", "b", "c"]


def test_the_order_of_the_shards_does_not_matter():
    rows = table(lambda_crit_nm=[2.0, np.inf, 2.0, np.inf])
    for seed in range(5):
        shuffled = rank(rows.sample(frac=1, random_state=seed), CRITERION)
        pd.testing.assert_frame_equal(shuffled, rank(rows, CRITERION))


def test_ranking_twice_changes_nothing():
    once = rank(table(lambda_crit_nm=[1.0, 3.0, 2.0, 4.0]), CRITERION)
    pd.testing.assert_frame_equal(rank(once, CRITERION), once)


def test_short_list():
    listed = short_list(table(p_s_high=[0.05, 0.051, 1.0, np.nan]), CRITERION)
    assert listed["material_id"].tolist() == ["a", "b"]


def test_short_list_may_ask_for_the_domain():
    criterion = parse_criterion(
        {**SOFT, "list_if": "p_pass > 0.5 and in_domain == 1"}, path="x.yaml"
    )
    in_domain = pd.array([True, True, False, None], dtype="boolean")
    listed = short_list(table(p_pass=[0.9, 0.1, 0.9, 0.9], in_domain=in_domain), criterion)
    assert listed["material_id"].tolist() == ["c"]


def test_without_a_condition_all_are_listed():
    criterion = parse_criterion(
        {key: value for key, value in SOFT.items() if key != "list_if"}, path="x.yaml"
    )
    assert len(short_list(table(p_pass=0.0), criterion)) == 4
