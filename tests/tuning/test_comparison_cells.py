"""Cells, rows and ranges of a comparison, and what its plan remarks on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plans import OTHER_SPACE, planned, refused

from raymat.data.readers import load_crystals
from raymat.data.splits import make_split
from raymat.errors import ConfigError
from raymat.tuning.comparison_cells import Cell, Range, draw_nested, slug

# --- a search that ends before TPE begins --------------------------------------------------------


def remarks(tmp_path: Path, *, trials: int, n_first: int, **changes: Any) -> list[str]:
    first = "".join(f"  - training.lr: {0.002 + 0.001 * k}\n" for k in range(n_first))
    text = OTHER_SPACE + (f"try_first:\n{first}" if first else "")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    own = {"space": str(tmp_path / "mine.yaml")}
    return planned(
        models={"cgcnn": own}, budget={"trials": trials, "epochs": 2}, **changes
    ).remarks()


@pytest.mark.parametrize(
    ("trials", "n_first", "startup", "expected"),
    [
        (6, 2, 10, "of 6 trials, 1 is the default, 2 are configurations that the space tries"
                   " first, 3 are random: TPE begins after 10 besides the default"),
        (11, 2, 10, "of 11 trials, 1 is the default, 2 are configurations that the space tries"
                    " first, 8 are random: TPE begins after 10 besides the default"),
        (3, 1, 4, "of 3 trials, 1 is the default, 1 is a configuration that the space tries"
                  " first, 1 is random: TPE begins after 4 besides the default"),
        (2, 3, 1, "of 2 trials, 1 is the default, 1 is a configuration that the space tries"
                  " first: TPE begins after 3 besides the default"),
        (5, 0, 10, "of 5 trials, 1 is the default, 4 are random: TPE begins after 10 besides"
                   " the default"),
        (1, 0, 10, "of 1 trial, 1 is the default: TPE begins after 10 besides the default"),
    ],
)  # fmt: skip
def test_tpe_that_never_proposes_is_remarked(
    tmp_path: Path, trials: int, n_first: int, startup: int, expected: str
) -> None:
    search = {"startup_trials": startup}
    found = remarks(tmp_path, trials=trials, n_first=n_first, search=search)
    assert found == [f"cgcnn: {expected}"]


def test_nothing_is_remarked_where_tpe_proposes_or_is_not_asked(tmp_path: Path) -> None:
    search = {"startup_trials": 4}
    assert remarks(tmp_path, trials=6, n_first=2, search=search) == []
    assert len(remarks(tmp_path, trials=5, n_first=2, search=search)) == 1
    assert remarks(tmp_path, trials=5, n_first=2, search=search, settings=["default"]) == []
    assert remarks(tmp_path, trials=5, n_first=2, search={"name": "random"}) == []


def test_every_model_has_a_remark_of_its_own() -> None:
    found = planned(models=["cgcnn", "soap_svr"]).remarks()
    assert [remark.split(":")[0] for remark in found] == ["cgcnn", "soap_svr"]


# --- cells ---------------------------------------------------------------------------------------


def test_cells_of_a_repetition_come_before_the_next_and_all_rows_first() -> None:
    plan = planned(training_sizes=[1000, "all", 50], settings=["default"], properties=["y"])
    assert [(c.repetition, c.n_train) for c in plan.cells()] == [
        (0, None), (0, 50), (0, 1000), (1, None), (1, 50), (1, 1000),
    ]  # fmt: skip


def test_every_cell_has_a_name_of_its_own() -> None:
    plan = planned(properties=["a/b", "a b", "a_b", "K", "../up", "é"], training_sizes=[9, "all"])
    names = [cell.name for cell in plan.cells()]
    assert len(set(names)) == len(names) == 6 * 2 * 2 * 2
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzK_-0123456789") for name in names)


def test_the_name_of_a_cell() -> None:
    cell = Cell("log10_K_VRH", 0, 1000, "cgcnn", "tuned")
    assert cell.name == "log10_K_VRH-r0-n1000-cgcnn-tuned"
    assert replace(cell, n_train=None, repetition=2).name == "log10_K_VRH-r2-nall-cgcnn-tuned"
    assert len(Cell("x" * 300, 0, None, "cgcnn", "tuned").name) < 120


def test_the_seed_of_a_repetition() -> None:
    plan = planned(first_seed=10, split={"kind": "formula", "train": 0.6})
    assert [plan.split_of(r).seed for r in (0, 1)] == [10, 11]
    assert plan.split_of(1).kind == "formula"


def test_repetitions_of_a_kfold_split_test_the_folds_of_one_shuffle() -> None:
    plan = planned(first_seed=10, repetitions=3, split={"kind": "kfold", "n_folds": 3})
    splits = [plan.split_of(r) for r in range(3)]
    assert [(s.seed, s.fold) for s in splits] == [(10, 0), (10, 1), (10, 2)]
    assert [plan.seed_of(r) for r in range(3)] == [10, 11, 12]  # of search and training
    crystals = load_crystals("delta").crystals
    tested = [set(make_split(crystals, split).rows("test").tolist()) for split in splits]
    assert sum(len(rows) for rows in tested) == len(set().union(*tested)) == len(crystals)


def test_more_repetitions_than_folds() -> None:
    match = r"repetitions: 4 are more than the 3 folds, .*lower it, or raise split\.n_folds"
    refused(match, repetitions=4, split={"kind": "kfold", "n_folds": 3})
    assert planned(repetitions=6, split={"kind": "random"}).repetitions == 6


def test_names_of_files() -> None:
    assert slug("log10_K_VRH") == "log10_K_VRH"
    assert slug("energy (eV/atom)").startswith("energy_eV_atom__")
    assert slug("a/b") != slug("a b") != slug("a_b")


# --- rows ----------------------------------------------------------------------------------------


def test_a_smaller_draw_lies_in_a_larger_whatever_the_order() -> None:
    ids = [f"mp-{k}" for k in range(200)]
    small, large = draw_nested(ids, 20, seed=1), draw_nested(ids, 60, seed=1)
    assert set(small) < set(large)
    assert list(large) == sorted(large)
    turned = draw_nested(ids[::-1], 20, seed=1)
    assert {ids[::-1][k] for k in turned} == {ids[k] for k in small}
    assert set(draw_nested(ids, 20, seed=2)) != set(small)
    with pytest.raises(ConfigError, match=r"cannot draw 201 of 200 crystals"):
        draw_nested(ids, 201, seed=0)


def test_a_draw_is_uniform() -> None:
    """Each of 40 ids is in half of the draws; 6 standard deviations are allowed."""
    ids = [f"mp-{k}" for k in range(40)]
    counts = np.zeros(40)
    for seed in range(400):
        counts[draw_nested(ids, 20, seed=seed)] += 1
    assert np.abs(counts - 200).max() < 6 * np.sqrt(400 * 0.25)


def test_rows_are_chosen_among_those_in_range() -> None:
    gap = {"rows": 2, "where": {"gap": {"above": 0}, "n": {"at_most": 5}}}
    prop = planned(properties={"gap": gap}).properties[0]
    columns = {"gap": [0.0, 1.0, 2.0, np.nan, 3.0], "n": [1, 6, 5, 1, 2]}
    assert prop.choose_rows(list("abcde"), columns).tolist() == [2, 4]
    with pytest.raises(ConfigError, match=r"gap: asks for 2 rows, but 1 of 4 of elastic\.parquet"):
        prop.choose_rows(list("abcd"), {name: v[:4] for name, v in columns.items()})


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ({"above": 1}, [False, False, True]),
        ({"at_least": 1}, [False, True, True]),
        ({"below": 1}, [True, False, False]),
        ({"at_most": 1, "above": 0}, [False, True, False]),
    ],
)
def test_ranges(bounds: dict[str, float], kept: list[bool]) -> None:
    assert Range(**bounds).keeps([0.0, 1.0, 2.0]).tolist() == kept


@pytest.mark.parametrize(
    ("bounds", "is_above"),
    [
        ({"above": 0}, True),
        ({"above": 1}, True),
        ({"at_least": 0.1}, True),
        ({"at_least": 0}, False),
        ({"above": -1, "below": 5}, False),
        ({"at_most": 3}, False),
    ],
)
def test_ranges_above_zero(bounds: dict[str, float], is_above: bool) -> None:
    assert Range(**bounds).lies_above(0.0) is is_above


def test_empty_ranges() -> None:
    def where(**bounds: float) -> dict[str, Any]:
        return {"K": {"where": {"gap": bounds}}}

    start = r"properties: K: where: gap: no number is "
    refused(start + r"above 5 and below 1; swap or widen", properties=where(above=5, below=1))
    refused(start + r"above 2 and at most 2", properties=where(above=2, at_most=2))
    refused(start + r"at least 2 and below 2", properties=where(at_least=2, below=2))
    single = where(at_least=2, at_most=2)
    assert planned(properties=single).properties[0].where["gap"].keeps([1, 2, 3]).sum() == 1
