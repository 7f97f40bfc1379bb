"""The order of candidates and the short list."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import PROJECT

from raymat.errors import RunError
from raymat.screening import ranking
from raymat.screening.criterion import Criterion, parse_criterion, read_criterion
from raymat.screening.plain_columns import common_schema
from raymat.screening.ranking import first_listed, ranked_candidates, short_list

CRITERION = read_criterion("lithium_metal")
SOFT = yaml.safe_load((PROJECT / "criteria" / "wide_gap_soft.yaml").read_text(encoding="utf-8"))


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"material_id": ["c", "a", "b", "d"], **columns})


def ranked(folder: Path, criterion: Criterion, *tables: pd.DataFrame) -> pd.DataFrame:
    schema = common_schema(pa.Table.from_pandas(t, preserve_index=False).schema for t in tables)
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    with ranked_candidates(tables, schema, criterion, scratch=folder) as batches:
        return pa.Table.from_batches(batches, schema).to_pandas()


def test_longest_wavelength_first_ties_by_id(tmp_path: Path) -> None:
    found = ranked(tmp_path, CRITERION, table(lambda_crit_nm=[1.0, np.inf, 1.0, np.nan]))
    assert found["material_id"].tolist() == ["a", "b", "c", "d"]
    assert found["lambda_crit_nm"].tolist()[:3] == [np.inf, 1.0, 1.0]


def test_ascending_keeps_ties_by_id(tmp_path: Path) -> None:
    criterion = parse_criterion(
        {**SOFT, "rank": {"by": "bulk_gpa", "order": "ascending"}}, path="x.yaml"
    )
    found = ranked(tmp_path, criterion, table(bulk_gpa=[9.0, 5.0, 5.0, 1.0]))
    assert found["material_id"].tolist() == ["d", "a", "b", "c"]


def test_order_and_number_of_the_shards_do_not_matter(tmp_path: Path) -> None:
    rows = table(lambda_crit_nm=[2.0, np.inf, 2.0, np.inf])
    expected = ranked(tmp_path, CRITERION, rows)
    for seed in range(3):
        shuffled = rows.sample(frac=1, random_state=seed)
        found = ranked(tmp_path, CRITERION, shuffled.iloc[:1], shuffled.iloc[1:])
        pd.testing.assert_frame_equal(found, expected)


def test_every_number_comes_back_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=500), 10.0 ** rng.uniform(-300, 300, 500)])
    rows = pd.DataFrame(
        {
            "material_id": [f"mp-{row}" for row in range(1000)],
            "lambda_crit_nm": values,
            "n_members": np.arange(1000),
            "in_domain": pd.array([True, None, False, True] * 250, dtype="boolean"),
            'text, "quoted"': "ä;\n",
            "list": [[1.0, np.inf]] * 1000,
        }
    )
    shards = [rows.iloc[start : start + 90] for start in range(0, 1000, 90)]
    found = ranked(tmp_path, CRITERION, *shards)
    expected = rows.sort_values("lambda_crit_nm", ascending=False, ignore_index=True)
    assert list(found) == list(expected)
    for name in expected:
        assert found[name].map(_text).tolist() == expected[name].map(_text).tolist()


def _text(value: Any) -> str:
    return "none" if value is None or value is pd.NA else str(np.array(value))


def test_names_may_differ_in_case_only_and_numbers_be_text(tmp_path: Path) -> None:
    order = {"by": "bulk_gpa", "order": "descending"}
    criterion = parse_criterion({**SOFT, "rank": order}, path="x.yaml")
    rows = table(Bulk_GPa=[9, 8, 7, 6], bulk_gpa=["9", "none", "10", "8.5"])
    found = ranked(tmp_path, criterion, rows)
    assert list(found) == ["material_id", "Bulk_GPa", "bulk_gpa"]
    assert found["material_id"].tolist() == ["b", "c", "d", "a"]


def test_more_than_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """90 MB of candidates with 70 MB for them."""
    monkeypatch.setattr(ranking, "_MEMORY", "70MB")
    rng = np.random.default_rng(0)

    def shard(number: int) -> pd.DataFrame:
        columns = {f"column_{k}": rng.random(10_000) for k in range(17)}
        ids = [f"mp-{number}-{row}" for row in range(10_000)]
        return pd.DataFrame({"material_id": ids, "lambda_crit_nm": rng.random(10_000), **columns})

    schema = pa.Table.from_pandas(shard(0).head(0), preserve_index=False).schema
    schema = schema.set(0, pa.field("material_id", pa.string()))
    last, n_rows = np.inf, 0
    with ranked_candidates(map(shard, range(50)), schema, CRITERION, scratch=tmp_path) as batches:
        for batch in batches:
            wavelength = batch.column("lambda_crit_nm").to_numpy()
            assert wavelength[0] <= last
            assert (np.diff(wavelength) <= 0).all()
            last, n_rows = wavelength[-1], n_rows + len(batch)
    assert n_rows == 500_000


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    rows = table(lambda_crit_nm=[1.0, 2.0, 3.0, 4.0])
    schema = pa.Table.from_pandas(rows, preserve_index=False).schema
    with (
        pytest.raises(RunError, match=r"nowhere: the candidates cannot be ranked \(IO Error"),
        ranked_candidates([rows], schema, CRITERION, scratch=tmp_path / "nowhere"),
    ):
        pass


def test_first_of_the_short_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "ROWS_AT_ONCE", 2)
    share = [0.0, 0.9, 0.0, 0.0, 0.8, 0.0, 0.7, 0.6]
    rows = pd.DataFrame({"rank": np.arange(1, 9), "p_s_high": share})
    pq.write_table(pa.Table.from_pandas(rows), tmp_path / "ranking.parquet")
    for n, expected in ((1, [2]), (3, [2, 5, 7]), (9, [2, 5, 7, 8])):
        found = first_listed(tmp_path / "ranking.parquet", CRITERION, n)
        assert found["rank"].tolist() == expected
    pq.write_table(pa.Table.from_pandas(rows.assign(p_s_high=0.0)), tmp_path / "nobody.parquet")
    nobody = first_listed(tmp_path / "nobody.parquet", CRITERION, 5)
    assert list(nobody) == ["rank", "p_s_high"]
    assert len(nobody) == 0


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
