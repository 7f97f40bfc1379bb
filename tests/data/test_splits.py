import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from builders import elements_set
from hypothesis import given, settings
from hypothesis import strategies as st

from raymat.config import build_config
from raymat.data.composition import chemical_systems, reduced_formulas
from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.splits import (
    PARTS,
    SplitConfig,
    make_split,
    read_split,
    reference_split,
    write_split,
)
from raymat.errors import ConfigError, DataError

KINDS = ("random", "formula", "chemical_system", "kfold")


def many(n: int, seed: int = 0, n_formulas: int = 40) -> CrystalSet:
    """Give n crystals with a few common and many rare formulas."""
    rng = np.random.default_rng(seed)
    kinds = np.minimum(rng.geometric(0.05, n), n_formulas).tolist()
    return elements_set([[1 + k % 90] * (1 + k % 3) + [8] * (k // 8) + [99] for k in kinds])


def sizes(crystals: CrystalSet, config: SplitConfig) -> list[int]:
    split = make_split(crystals, config)
    return [len(split.rows(part)) for part in PARTS]


def test_rows_left_over_by_rounding_train() -> None:
    assert sizes(many(29), SplitConfig()) == [25, 2, 2]
    assert sizes(many(30), SplitConfig()) == [24, 3, 3]


def test_fractions_below_one_leave_rows_unused() -> None:
    config = SplitConfig(train=0.5, validation=0.1, test=0.1)
    split = make_split(many(100), config)
    assert [len(split.rows(part)) for part in PARTS] == [50, 10, 10]
    assert int(np.sum(split.parts == "unused")) == 30
    assert sizes(
        elements_set([[z] for z in range(1, 101)]), config.model_copy(update={"kind": "formula"})
    ) == [50, 10, 10]


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 300), st.integers(0, 1000), st.sampled_from(KINDS))
def test_every_crystal_has_one_part_and_the_order_of_rows_is_no_matter(
    n: int, seed: int, kind: str
) -> None:
    crystals = many(n, seed)
    config = SplitConfig(kind=kind, seed=seed)  # type: ignore[arg-type]
    try:
        split = make_split(crystals, config)
    except DataError:
        assert kind in ("formula", "chemical_system")  # a few large groups cannot fill all parts
        return
    assert set(split.parts) <= set(PARTS)
    assert sum(len(split.rows(part)) for part in PARTS) == n
    order = np.random.default_rng(1).permutation(n)
    other = make_split(crystals.take(order), config)
    assert other.parts.tolist() == split.parts[order].tolist()
    assert other.sha256 == split.sha256


@settings(max_examples=40, deadline=None)
@given(st.integers(60, 400), st.integers(0, 1000), st.booleans())
def test_groups_stay_together(n: int, seed: int, by_formula: bool) -> None:
    crystals = many(n, seed)
    kind = "formula" if by_formula else "chemical_system"
    names = reduced_formulas(crystals) if by_formula else chemical_systems(crystals)
    try:
        split = make_split(crystals, SplitConfig(kind=kind, seed=seed))  # type: ignore[arg-type]
    except DataError:
        return
    for name in set(names):
        assert len(set(split.parts[names == name])) == 1


def test_group_parts_come_close_to_their_fractions() -> None:
    crystals = many(1000, n_formulas=60)
    _, counts = np.unique(reduced_formulas(crystals).astype(str), return_counts=True)
    assert counts.max() > 30  # groups are large compared with the tolerance below
    for seed in range(10):
        _, n_val, n_test = sizes(crystals, SplitConfig(kind="formula", seed=seed))
        assert abs(n_val - 100) <= counts.min() + 1
        assert abs(n_test - 100) <= counts.min() + 1


def test_one_group_too_many_if_that_comes_closer() -> None:
    crystals = elements_set([[11]] * 12 + [[12]] * 12 + [[13]] * 12 + [[14]] * 64)
    config = SplitConfig(kind="formula", train=0.8, validation=0.1, test=0.1)
    assert sorted(sizes(crystals, config)) == [12, 12, 76]


def test_numpy_global_state_and_seed() -> None:
    crystals = many(100)
    np.random.seed(1)  # noqa: NPY002
    first = make_split(crystals, SplitConfig(seed=3))
    np.random.seed(2)  # noqa: NPY002
    assert make_split(crystals, SplitConfig(seed=3)).parts.tolist() == first.parts.tolist()
    assert make_split(crystals, SplitConfig(seed=4)).parts.tolist() != first.parts.tolist()


def test_folds_cover_every_row_once() -> None:
    crystals = many(53)
    splits = [make_split(crystals, SplitConfig(kind="kfold", fold=i)) for i in range(5)]
    tests = np.concatenate([split.rows("test") for split in splits])
    assert sorted(tests.tolist()) == list(range(53))
    assert [len(split.rows("test")) for split in splits] == [11, 11, 11, 10, 10]
    assert [len(split.rows("validation")) for split in splits] == [4] * 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": 0.9}, r"train \+ validation \+ test is 1\.1, expected at most 1"),
        ({"kind": "kfold", "fold": 5}, "fold 5 does not exist, expected 0 to 4"),
        (
            {"kind": "formulas"},
            "'kind' must be one of 'random', 'formula', 'chemical_system', 'kfold' ",
        ),
        ({"test": 0.0}, "'test' must be above 0: a run selects on validation rows and is scored"),
        ({"kind": "formula", "validation": 0}, "'validation' must be above 0"),
        ({"kind": "kfold", "validation": 0}, "'validation' must be above 0"),
        ({"test": -0.1}, r"'test' must be at least 0 \(found -0.1\)"),
        ({"seeds": 1}, "'seeds' is not a field of SplitConfig; did you mean 'seed'"),
    ],
)
def test_impossible_configurations(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config(SplitConfig, values, where="split")


def test_folds_need_no_share_of_test_rows() -> None:
    assert sizes(many(50), SplitConfig(kind="kfold", test=0.0)) == [36, 4, 10]


def test_an_empty_part_is_an_error() -> None:
    with pytest.raises(DataError, match="random split of 5 crystals leaves no validation rows"):
        make_split(many(5), SplitConfig())
    with pytest.raises(DataError, match="formula split of 9 crystals leaves no"):
        make_split(elements_set([[8]] * 9), SplitConfig(kind="formula"))


def test_split_file_round_trip(tmp_path: Path) -> None:
    split = make_split(many(60), SplitConfig(kind="formula", seed=7))
    path = tmp_path / "split.parquet"
    write_split(split, path)
    table = pq.read_table(path)
    assert table.column_names == ["material_id", "part"]
    again = read_split(path)
    assert again.config == split.config
    assert again.parts.tolist() == split.parts.tolist()
    assert again.sha256 == split.sha256
    assert [p.name for p in tmp_path.iterdir()] == ["split.parquet"]


def test_a_changed_split_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.parquet"
    write_split(make_split(many(60), SplitConfig()), path)
    table = pq.read_table(path)
    parts = table["part"].to_pylist()
    parts[parts.index("test")] = "train"
    changed = table.set_column(1, "part", [parts]).replace_schema_metadata(table.schema.metadata)
    pq.write_table(changed, path)
    with pytest.raises(DataError, match="changed since it was written"):
        read_split(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(DataError, match="not a split that raymat wrote"):
        read_split(path)
    with pytest.raises(DataError, match="no such split file"):
        read_split(tmp_path / "none.parquet")


def test_hash_depends_on_parts_and_configuration() -> None:
    crystals = many(60)
    hashes = {make_split(crystals, SplitConfig(seed=s)).sha256 for s in range(3)}
    hashes |= {make_split(crystals.take(np.arange(59)), SplitConfig()).sha256}
    assert len(hashes) == 4


def test_reference_order() -> None:
    """The order of the public CGCNN code (Python `random`, seed 123), golden."""
    golden = json.loads((Path(__file__).parent.parent / "reference/split_order.json").read_text())
    for n, order in ((10, golden["10"]), (25, golden["25"])):
        parts = reference_split(n, 0.6, 0.2, 0.2)
        n_train, n_other = int(0.6 * n), int(0.2 * n)
        assert parts["train"].tolist() == order[:n_train]
        assert parts["validation"].tolist() == order[n - 2 * n_other : n - n_other]
        assert parts["test"].tolist() == order[n - n_other :]


def test_reference_sizes_drop_what_rounding_leaves() -> None:
    sizes_ = {p: len(rows) for p, rows in reference_split(3399, 0.6, 0.2, 0.2).items()}
    assert sizes_ == {"train": 2039, "validation": 679, "test": 679}


@pytest.mark.data
def test_sizes_on_the_elastic_set(shared: Path) -> None:
    crystals = load_crystals(str(shared / "data" / "elastic.parquet")).crystals
    for kind in ("random", "formula", "chemical_system"):
        assert sizes(crystals, SplitConfig(kind=kind)) == [7185, 898, 898]
    assert sizes(crystals, SplitConfig(kind="kfold")) == [6466, 718, 1797]
