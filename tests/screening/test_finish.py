"""From shards to the run's files: one ranking, all reasons, and what more members bought."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shards import N_MEMBERS, NO_ROWS, WIDE, candidates, predictions, shards

from raymat.errors import DataError
from raymat.screening import finish as finish_module
from raymat.screening.finish import count_reasons, finish_screening, probability_curve
from raymat.screening.shard_files import write_shard
from raymat.tracking.run_directory import RunDirectory

N = 130


def finished(
    folder: Path, *, n: int = N, size: int = 50, rejected: pd.DataFrame = NO_ROWS
) -> tuple[Path, dict[str, Any]]:
    with RunDirectory.create(folder, {"command": "screen"}) as run:
        for number, shard in enumerate(shards(n, size)):
            write_shard(run.path, number, shard, rejected if number == 0 else NO_ROWS)
        return run.path, finish_screening(WIDE, run, n_members=N_MEMBERS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    rejected = pd.DataFrame({"material_id": ["bad"], "reason": ["not finite: a lattice"]})
    return finished(tmp_path_factory.mktemp("finish") / "run", rejected=rejected)


def test_ranking_is_that_of_all_shards_together(run: tuple[Path, dict[str, Any]]) -> None:
    table = pd.read_parquet(run[0] / "screening.parquet")
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    expected = table.sort_values(["p_wide", "material_id"], ascending=[False, True])
    assert table["material_id"].tolist() == expected["material_id"].tolist()
    in_csv = pd.read_csv(run[0] / "screening.csv")
    pd.testing.assert_frame_equal(in_csv, table, check_dtype=False, rtol=1e-12)


def test_everybody_is_ranked_or_excluded_once(run: tuple[Path, dict[str, Any]]) -> None:
    ranked = pd.read_parquet(run[0] / "screening.parquet")["material_id"].tolist()
    excluded = pd.read_csv(run[0] / "excluded.csv")
    assert list(excluded) == ["material_id", "formula", "reason"]
    assert sorted([*ranked, *excluded["material_id"]]) == sorted(
        [*candidates(N)["material_id"], "bad"]
    )


def test_metrics_count_everybody(run: tuple[Path, dict[str, Any]]) -> None:
    path, metrics = run
    assert json.loads((path / "metrics.json").read_text("utf-8")) == metrics
    table = pd.read_parquet(path / "screening.parquet")
    n_unstable = int((candidates(N)["energy"] > 0.1).sum())
    assert metrics == {
        "criterion": "wide",
        "n_members": N_MEMBERS,
        "candidates": N + 1,
        "ranked": N - n_unstable,
        "listed": int((table["p_wide"] > 0.5).sum()),
        "known": int((table["source"] == "dft").sum()),
        "outside_domain": int((~table["in_domain"]).sum()),
        "excluded": n_unstable + 1,
        "reasons": {"unstable": n_unstable, "not finite": 1},
    }
    assert 0 < metrics["known"] < metrics["listed"] < metrics["ranked"]


@pytest.mark.parametrize("size", [11, 130])
def test_size_of_the_shards_changes_nothing(
    run: tuple[Path, dict[str, Any]], tmp_path: Path, size: int
) -> None:
    path, metrics = finished(tmp_path / "run", size=size, rejected=NO_ROWS)
    tables = [pd.read_parquet(folder / "screening.parquet") for folder in (path, run[0])]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert metrics["ranked"] == run[1]["ranked"]


def test_reasons_are_counted_by_kind() -> None:
    told = [
        "the cell is open: site 3 is not enclosed",
        "the cell is open: site 0 is not enclosed",
        "metallic; too far above the hull",
        "metallic",
        "moduli are not finite (in 3 of 100 members)",
        "moduli are not finite (in 71 of 100 members; missing: v)",
        "moduli are not finite (in the known values)",
    ]
    assert count_reasons(pd.DataFrame({"reason": told})) == [
        ("moduli are not finite", 3),
        ("metallic", 2),
        ("the cell is open", 2),
        ("too far above the hull", 1),
    ]


def test_nobody_left(tmp_path: Path) -> None:
    rejected = pd.DataFrame(
        {"material_id": list("abcd"), "reason": ["kind one", "kind two", "kind two", "kind three"]}
    )
    with RunDirectory.create(tmp_path / "run", {"command": "screen"}) as run:
        (shard,) = shards(4, 4)
        nobody = type(shard)(shard.table.head(0), shard.excluded, shard.members.head(0), 0, 0.0)
        write_shard(run.path, 0, nobody, rejected)
        with pytest.raises(
            DataError,
            match=r"^none of 5 candidates is left to rank: 2 kind two; 1 kind one; 1 kind three;"
            r" and other reasons, see excluded\.csv$",
        ):
            finish_screening(WIDE, run, n_members=N_MEMBERS)
        assert len(pd.read_csv(run.path / "excluded.csv")) == 5


# --- what more members bought --------------------------------------------------------------------


def test_more_members_bring_the_probability_nearer(run: tuple[Path, dict[str, Any]]) -> None:
    curve = pd.read_csv(run[0] / "probability_curve.csv")
    assert curve["n_members"].tolist() == [2, 3, 5, 7, 10, 15, 20, 30]
    assert set(curve["n_draws"]) == {10}
    for name in ("p_wide", "p_soft"):
        mean, largest = curve[f"{name}_deviation"], curve[f"{name}_largest"]
        assert mean.is_monotonic_decreasing
        assert (largest >= mean).all()
        assert largest.iloc[-1] < largest.iloc[0]
    assert curve["p_soft_deviation"].iloc[0] == pytest.approx(0.29, abs=0.06)
    assert curve["p_soft_deviation"].iloc[-1] < 0.06


def test_deviation_is_that_of_draws_without_replacement(
    run: tuple[Path, dict[str, Any]],
) -> None:
    r"""Of m of n members the variance is p(1-p)/m (n-m)/(n-1), and the mean deviation follows."""
    columns = candidates(N)
    asked = (columns["energy"] < 0.1) & columns["band_gap"].isna()
    share = (predictions(N)["bulk"].values[:, asked] < 1.0).mean(axis=0)
    curve = pd.read_csv(run[0] / "probability_curve.csv").set_index("n_members")
    for m in (10, 20, 30):
        variance = share * (1 - share) / m * (N_MEMBERS - m) / (N_MEMBERS - 1)
        expected = np.sqrt(2 / np.pi * variance).mean()
        assert curve.loc[m, "p_soft_deviation"] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("size", [7])
def test_curve_is_of_the_same_candidates_whatever_the_shards(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish_module, "CURVE_CANDIDATES", 20)
    curves = [
        pd.read_csv(finished(tmp_path / str(s), size=s)[0] / "probability_curve.csv")
        for s in (size, N)
    ]
    pd.testing.assert_frame_equal(*curves, rtol=1e-12)
    with RunDirectory.reopen(tmp_path / str(size)) as run:
        members, columns = finish_module._some_candidates(WIDE, run)
    assert members["gap"].n_rows == len(columns) == 18  # every fifth of 89, in all shards


def test_nobody_that_members_speak_for(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", {"command": "screen"}) as run:
        (shard,) = shards(N, N)
        known = shard.table[shard.table["source"] == "dft"]
        write_shard(
            run.path, 0, type(shard)(known, shard.excluded, shard.members.head(0), 0, 0.0), NO_ROWS
        )
        assert finish_screening(WIDE, run, n_members=N_MEMBERS)["known"] == len(known)
        assert len(probability_curve(WIDE, run, N_MEMBERS)) == 0
    assert pd.read_csv(tmp_path / "run" / "probability_curve.csv").columns[0] == "n_members"
