"""The rows of a comparison: the same for all models, another split in every repetition."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import make_crystal

from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.writers import write_crystals
from raymat.errors import ConfigError, DataError
from raymat.tuning.comparison_inputs import PropertyRows, load_rows
from raymat.tuning.comparison_plan import ComparisonPlan, check_training_sizes, parse_plan

N = 40


def planned(**changes: Any) -> ComparisonPlan:
    content = {
        "data": "delta",
        "properties": ["log10_bulk_modulus"],
        "models": ["soap_svr"],
        "repetitions": 2,
        "first_seed": 5,
        "budget": {"trials": 1},
        **changes,
    }
    return parse_plan(content, path="plan.yaml")


def rows_of(plan: ComparisonPlan) -> PropertyRows:
    (rows,) = load_rows(plan, max_rejected=0.1).values()  # 4 of the 40 crystals have no y
    return rows


def ids(rows: PropertyRows, plan: ComparisonPlan, repetition: int, n_train: int | None) -> Any:
    inputs = rows.inputs(plan, repetition, n_train)
    names = inputs.crystals.material_ids
    return {
        part: set(names[inputs.split.rows(part)].tolist())
        for part in ("train", "validation", "test")
    }


@pytest.fixture
def file(tmp_path: Path) -> str:
    """40 crystals with two columns, of which one has gaps."""
    crystals = []
    for number, scale in enumerate(np.linspace(0.95, 1.05, N)):
        c = make_crystal("CsCl", float(scale))
        crystals.append(Crystal(f"c-{number:02d}", c.lattice, c.atomic_numbers, c.frac_coords))
    table = pd.DataFrame({"y": np.arange(N, dtype=float), "gap": np.arange(N) % 4})
    table.loc[:3, "y"] = np.nan
    path = tmp_path / "crystals.parquet"
    write_crystals(CrystalSet.from_crystals(crystals, table), path)
    return str(path)


def test_a_repetition_has_its_own_split() -> None:
    plan = planned()
    rows = rows_of(plan)
    assert ids(rows, plan, 0, None) == ids(rows, plan, 0, None)
    assert ids(rows, plan, 0, None)["test"] != ids(rows, plan, 1, None)["test"]
    assert rows.inputs(plan, 1, None).split.config.seed == 6


def test_training_subsets_are_nested_and_all_else_stays() -> None:
    plan = planned(training_sizes=[10, 25, "all"])
    rows = rows_of(plan)
    small, middle, whole = (ids(rows, plan, 1, size) for size in (10, 25, None))
    assert [len(part["train"]) for part in (small, middle, whole)] == [10, 25, 57]
    assert small["train"] < middle["train"] < whole["train"]
    for part in ("validation", "test"):
        assert small[part] == middle[part] == whole[part]
    assert not small["train"] & (small["validation"] | small["test"])


def test_what_is_left_of_the_training_rows_is_seen_by_nobody() -> None:
    plan = planned()
    data = rows_of(plan).inputs(plan, 0, 10).fit_data()
    assert np.isfinite(data.targets).sum() == 10 + 7  # training and validation rows
    assert np.isfinite(data.targets[data.train]).all()


def test_rows_are_those_of_the_plan(file: str) -> None:
    plan = planned(
        properties={"y": {"data": file, "rows": 12, "where": {"gap": {"above": 0}}}},
        split={"train": 0.5, "validation": 0.25, "test": 0.25},
    )
    rows = rows_of(plan)
    assert len(rows.crystals) == 12
    assert (rows.crystals.target("gap") > 0).all()
    assert np.isfinite(rows.crystals.target("y")).all()
    again = rows_of(plan)
    assert list(again.crystals.material_ids) == list(rows.crystals.material_ids)


def test_more_rows_than_there_are(file: str) -> None:
    plan = planned(properties={"y": {"data": file, "rows": 37}})
    with pytest.raises(ConfigError, match=r"property y: asks for 37 rows, but 36 of 36 .* usable"):
        rows_of(plan)


def test_columns_that_do_not_exist(file: str) -> None:
    with pytest.raises(ConfigError, match=r"properties: 'z' is not a column"):
        rows_of(planned(properties={"z": {"data": file}}))
    plan = planned(properties={"y": {"data": file, "where": {"gaps": {"above": 0}}}})
    with pytest.raises(ConfigError, match=r"y: where: 'gaps' is not .*did you mean 'gap'"):
        rows_of(plan)


def test_a_property_that_is_computed_is_a_column(file: str) -> None:
    table = pd.read_parquet(file).rename(columns={"y": "G_VRH"})
    table.to_parquet(file)
    rows = rows_of(planned(data=file, properties=["log10_G_VRH"]))
    np.testing.assert_array_equal(rows.crystals.target("log10_G_VRH"), np.log10(np.arange(4, N)))
    assert rows.source.notes == ("log10_G_VRH is computed from column 'G_VRH' (GPa)",)


def test_classes_lie_above_the_median_of_the_training_rows(file: str) -> None:
    plan = planned(
        properties={"y": {"data": file, "classes": "median"}},
        split={"train": 0.5, "validation": 0.25, "test": 0.25},
    )
    rows = rows_of(plan)
    assert rows.task == "classification"
    assert rows_of(planned()).task == "regression"
    inputs = rows.inputs(plan, 0, None)
    values = inputs.crystals.target("y")
    median = np.median(values[inputs.split.rows("train")])
    assert inputs.threshold == median
    np.testing.assert_array_equal(inputs.targets, values > median)
    assert (inputs.prop.task, inputs.prop.unit) == ("classification", "")
    # A subset has a median of its own, known from its own rows alone.
    subset = rows.inputs(plan, 0, 10)
    assert subset.threshold == np.median(values[subset.split.rows("train")])


def test_crystals_that_a_model_cannot_read_are_left_out() -> None:
    plan = planned()
    rows = rows_of(plan)
    names = rows.crystals.material_ids.tolist()
    rows.leave_out({3: "holds no atom", 5: "is too large"})
    assert rows.crystals.material_ids.tolist() == [*names[:3], names[4], *names[6:]]
    assert rows.rejected.to_dict("records") == [
        {"material_id": names[3], "reason": "holds no atom"},
        {"material_id": names[5], "reason": "is too large"},
    ]
    inputs = rows.inputs(plan, 0, None)
    assert len(inputs.crystals) == len(inputs.split.parts) == 69
    rows.leave_out({})
    assert len(rows.crystals) == 69


def test_too_many_crystals_to_leave_out() -> None:
    rows = rows_of(planned())
    unusable = dict.fromkeys(range(8), "no neighbor")
    with pytest.raises(DataError, match=r"8 of 71 crystals cannot be used .*--max-rejected 0\.1"):
        rows.leave_out(unusable)


def test_fewest_training_rows_of_any_repetition() -> None:
    plan = planned(training_sizes=[58])
    fewest = rows_of(plan).fewest_training_rows(plan)
    assert fewest == 57
    with pytest.raises(ConfigError, match=r"58 is more than the 57 training rows of bulk"):
        check_training_sizes(plan, {"bulk": fewest})


def test_a_column_of_0_and_1_is_a_class_unless_the_plan_says_no(file: str) -> None:
    table = pd.read_parquet(file)
    table.assign(gap=np.arange(N) % 2).to_parquet(file)
    for classes, begun, task in [
        ({}, None, "classification"),
        ({"classes": "none"}, None, "regression"),
        ({}, {"gap": "regression"}, "regression"),  # resumed: begun when it was still a number
    ]:
        split = {"train": 0.5, "validation": 0.25, "test": 0.25}
        plan = planned(data=file, properties={"gap": classes}, split=split)
        (rows,) = load_rows(plan, max_rejected=0.1, begun=begun).values()
        assert rows.task == rows.inputs(plan, 0, None).prop.task == task
