"""From shards to the run's files: one ranking, all reasons, and what more members bought."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shards import N_MEMBERS, NO_ROWS, WIDE, candidates, predictions, shards

from raymat.ensembles.curves import member_draws
from raymat.errors import DataError, RunError
from raymat.screening import member_curve as curve_module
from raymat.screening import ranking as ranking_module
from raymat.screening.finish import count_reasons, finish_screening, most_frequent
from raymat.screening.shard import ScreenedShard
from raymat.screening.shard_files import SHARD_ENDED, TABLE, StoredShards, shard_path, write_shard
from raymat.tracking.run_directory import RunDirectory

N = 130
EQUAL = np.full(N_MEMBERS, 1 / N_MEMBERS)


def log_shard(
    run: RunDirectory, number: int, shard: ScreenedShard, rejected: pd.DataFrame = NO_ROWS
) -> None:
    run.emit(SHARD_ENDED, shard=number, **write_shard(run.path, number, shard, rejected))


def finish(
    run: RunDirectory,
    n_shards: int,
    *,
    weights: np.ndarray = EQUAL,
    max_rejected: float = 0.05,
) -> dict[str, Any]:
    both = {"gap": weights, "bulk": weights}
    return finish_screening(WIDE, run, n_shards=n_shards, weights=both, max_rejected=max_rejected)


def finished(
    folder: Path,
    *,
    n: int = N,
    size: int = 50,
    rejected: pd.DataFrame = NO_ROWS,
    weights: np.ndarray = EQUAL,
) -> tuple[Path, dict[str, Any]]:
    with RunDirectory.create(folder, {"command": "screen"}) as run:
        parts = shards(n, size)
        for number, shard in enumerate(parts):
            log_shard(run, number, shard, rejected if number == 0 else NO_ROWS)
        return run.path, finish(run, len(parts), weights=weights)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    rejected = pd.DataFrame({"material_id": ["bad"], "reason": ["not finite: a lattice"]})
    return finished(tmp_path_factory.mktemp("finish") / "run", rejected=rejected)


def test_ranking_is_that_of_all_shards_together(run: tuple[Path, dict[str, Any]]) -> None:
    table = pd.read_parquet(run[0] / "screening.parquet")
    ranks = table["p_wide"].rank(method="min", ascending=False)  # equal ones share the first
    assert table["rank"].tolist() == ranks.tolist()
    assert table["rank"].duplicated().any()
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
        "in_training": 0,  # these shards do not say
        "training_unknown": 0,
        "filter_unknown": {"unstable": 0},
        "passing": {name: int((table[name] > 0).sum()) for name in ("p_wide", "p_soft")},
        "ranking": {
            "by": "p_wide",
            "first": int((table["p_wide"] == table["p_wide"].max()).sum()),
            "distinct": table["p_wide"].nunique(),
            "unknown": 0,
        },
        "excluded": n_unstable + 1,
        "rejected": 1,
        "reasons": {"unstable": n_unstable, "not finite": 1},
    }
    assert 0 < metrics["known"] < metrics["listed"] < metrics["ranked"]


def test_what_filters_and_members_do_not_know_is_counted(tmp_path: Path) -> None:
    """Of the ranked: who passed a filter for want of a number, and whom members had learned."""
    with RunDirectory.create(tmp_path / "run", {"command": "screen"}) as run:
        (shard,) = shards(N, N)
        learned = np.arange(len(shard.table)) % 3 == 0
        energy = shard.table["energy"].where(np.arange(len(shard.table)) >= 10)
        table = shard.table.assign(in_training=learned, energy=energy)
        log_shard(run, 0, replace(shard, table=table))
        metrics = finish(run, 1)
    assert metrics["filter_unknown"] == {"unstable": 10}
    by_members = table["source"] == "ensemble"
    assert metrics["in_training"] == int((learned & by_members).sum())
    assert metrics["training_unknown"] == 0


def test_ranks_are_shared_across_batches_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the batches are cut; candidates without a value share a rank, too."""
    monkeypatch.setattr(ranking_module, "ROWS_AT_ONCE", 7)
    with RunDirectory.create(tmp_path / "run", {"command": "screen"}) as run:
        (shard,) = shards(N, N)
        shares = np.repeat([0.75, 0.5, np.nan], [2, 10, len(shard.table) - 12])
        table = shard.table.assign(p_wide=shares, in_training=pd.NA)
        table = table.astype({"in_training": "boolean"})
        log_shard(run, 0, replace(shard, table=table))
        metrics = finish(run, 1)
    ranks = pd.read_parquet(run.path / "screening.parquet")["rank"]
    assert ranks.tolist() == [1] * 2 + [3] * 10 + [13] * (len(shares) - 12)
    assert pd.read_csv(run.path / "screening.csv")["rank"].tolist() == ranks.tolist()
    counted = {"by": "p_wide", "first": 2, "distinct": 3, "unknown": len(shares) - 12}
    assert metrics["ranking"] == counted
    assert metrics["training_unknown"] == int((table["source"] == "ensemble").sum())


def test_criterion_without_a_probability_has_no_curve() -> None:
    plain = replace(WIDE, passes={})
    empty = curve_module.probability_curve(plain, StoredShards(Path(), {}), {"gap": EQUAL})
    assert list(empty) == ["n_members", "n_draws"]
    assert empty.empty


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
        "column 'K' holds 'a; b: c', a number is needed",
        "column 'K' holds 'unknown', a number is needed; metallic",
    ]
    assert most_frequent(count_reasons(told)) == [
        ("metallic", 3),
        ("moduli are not finite", 3),
        ("column 'K' holds no number", 2),
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
        log_shard(run, 0, nobody, rejected)
        with pytest.raises(
            DataError,
            match=r"^none of 5 candidates is left to rank: 2 kind two; 1 kind one; 1 kind three;"
            r" and other reasons, see excluded\.csv$",
        ):
            finish(run, 1)
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
    monkeypatch.setattr(curve_module, "CURVE_CANDIDATES", 20)
    curves = [
        pd.read_csv(finished(tmp_path / str(s), size=s)[0] / "probability_curve.csv")
        for s in (size, N)
    ]
    pd.testing.assert_frame_equal(*curves, rtol=1e-12)
    with RunDirectory.reopen(tmp_path / str(size)) as run:
        stored = StoredShards.of(run.path, run.events())
        both = {"gap": EQUAL, "bulk": EQUAL}
        members, columns = curve_module._some_candidates(WIDE, stored, both)
    assert members["gap"].n_rows == len(columns) == 18  # every fifth of 89, in all shards


def test_nobody_that_members_speak_for(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", {"command": "screen"}) as run:
        (shard,) = shards(N, N)
        known = shard.table[shard.table["source"] == "dft"]
        log_shard(run, 0, type(shard)(known, shard.excluded, shard.members.head(0), 0, 0.0))
        assert finish(run, 1)["known"] == len(known)
    curve = pd.read_csv(tmp_path / "run" / "probability_curve.csv")
    assert len(curve) == 0
    assert {"n_members", "p_wide_mean", "p_soft_deviation"} <= set(curve)


def test_curve_tells_the_mean_probability(run: tuple[Path, dict[str, Any]]) -> None:
    """Draws of any number of members give that of all of them in the mean."""
    told = pd.read_parquet(run[0] / "screening.parquet")
    told = told[told["source"] == "ensemble"]
    curve = pd.read_csv(run[0] / "probability_curve.csv")
    for name in ("p_wide", "p_soft"):
        assert curve[f"{name}_mean"].to_numpy() == pytest.approx(told[name].mean(), abs=0.05)
        assert curve[f"{name}_mean_std"].iloc[-1] < curve[f"{name}_mean_std"].iloc[0]
        assert (curve[f"{name}_mean_std"] > 0).all()


def test_curve_keeps_the_weights_of_the_members(tmp_path: Path) -> None:
    """Of all members, and relative to each other in every draw; a pair has their product."""
    weights = np.arange(1.0, N_MEMBERS + 1) / np.arange(1.0, N_MEMBERS + 1).sum()
    path, _ = finished(tmp_path / "run", weights=weights)
    curve = pd.read_csv(path / "probability_curve.csv").set_index("n_members")
    columns = candidates(N)
    asked = ((columns["energy"] < 0.1) & columns["band_gap"].isna()).to_numpy()
    holds = predictions(N)["bulk"].values[:, asked] < 1.0
    pairs = np.square(weights)
    whole = np.average(holds, axis=0, weights=pairs)
    for size in (2, 10, 30):
        draws = member_draws(N_MEMBERS, [size], n_draws=curve_module.CURVE_DRAWS)
        shares = np.stack([np.average(holds[m], axis=0, weights=pairs[m]) for m in draws])
        row = curve.loc[size]
        assert row["p_soft_mean"] == pytest.approx(shares.mean(), rel=1e-9)
        assert row["p_soft_deviation"] == pytest.approx(np.abs(shares - whole).mean(), rel=1e-9)


def test_two_members_have_no_curve_but_its_columns(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", {"command": "screen"}) as run:
        (shard,) = shards(10, 10)
        members = shard.members.assign(
            **{name: [told[:2] for told in shard.members[name]] for name in ("gap", "bulk")}
        )
        log_shard(run, 0, type(shard)(shard.table, shard.excluded, members, 0, 0.0))
        finish(run, 1, weights=np.array([0.5, 0.5]))
    curve = pd.read_csv(tmp_path / "run" / "probability_curve.csv")
    assert len(curve) == 0
    assert {"n_members", "n_draws", "p_wide_deviation", "p_soft_largest"} <= set(curve)


# --- shards that are not all there ---------------------------------------------------------------


@pytest.mark.parametrize("gone", [0, 2])
def test_shard_that_is_gone_is_not_left_out(tmp_path: Path, gone: int) -> None:
    path, _ = finished(tmp_path / "run")
    shard_path(path, gone, TABLE).unlink()
    with (
        RunDirectory.reopen(path) as run,
        pytest.raises(RunError, match=rf"^\S+table.parquet: this file of shard {gone} is missing"),
    ):
        finish(run, 3)


def test_shard_that_was_never_screened(tmp_path: Path) -> None:
    path, _ = finished(tmp_path / "run")
    with (
        RunDirectory.reopen(path) as run,
        pytest.raises(RunError, match="shard 3 has not ended"),
    ):
        finish(run, 4)


# --- rows that are no usable crystals ------------------------------------------------------------


def test_rejected_rows_are_listed_apart(run: tuple[Path, dict[str, Any]]) -> None:
    rejected = pd.read_csv(run[0] / "rejected.csv")
    assert rejected.to_dict("records") == [
        {"material_id": "bad", "reason": "not finite: a lattice"}
    ]


def test_too_many_rejected_rows(tmp_path: Path) -> None:
    rejected = pd.DataFrame(
        {"material_id": [f"bad-{n}" for n in range(10)], "reason": "not finite: a lattice"}
    )
    with RunDirectory.create(tmp_path / "run", {"command": "screen"}) as run:
        (shard,) = shards(N, N)
        log_shard(run, 0, shard, rejected)
        with pytest.raises(
            DataError,
            match=r"^10 of 140 candidates cannot be used, more than --max-rejected 0\.05: 10 not"
            r" finite; fix them and start a new run, or rank the others with `raymat resume"
            r" \S+ --max-rejected 0\.08`$",
        ):
            finish(run, 1)
        assert len(pd.read_csv(run.path / "rejected.csv")) == 10
        assert finish(run, 1, max_rejected=0.08)["rejected"] == 10


def test_no_cell_of_a_screening_is_a_formula(tmp_path: Path) -> None:
    """Whatever candidates and their columns are called; the Parquet holds the names as they are."""
    with RunDirectory.create(tmp_path / "run", {"command": "screen"}) as run:
        (shard,) = shards(N, N)
        ids = "=cmd" + shard.table["material_id"]
        own = replace(
            shard,
            table=shard.table.assign(material_id=ids, note="@x"),
            excluded=shard.excluded.assign(reason="-reason"),
            members=shard.members.assign(material_id="=cmd" + shard.members["material_id"]),
        )
        log_shard(run, 0, own)
        finish(run, 1)
    for name in ("screening", "excluded"):
        with (run.path / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        text = [cell for cell in cells if not cell.replace(".", "").lstrip("-").isdigit()]
        assert not any(cell.startswith(("=", "@", "-r")) for cell in text)
        assert any(cell.startswith("'") for cell in text)
    assert set(pd.read_parquet(run.path / "screening.parquet")["note"]) == {"@x"}
