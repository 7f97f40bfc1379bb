"""A screening whose processes are killed ranks everybody once, as if nothing had happened."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_screening import (
    BULK,
    SHEAR,
    Study,
    assert_same_ranking,
    glass,
    rank,
    write_candidates,
    write_ensemble,
)
from processes import (
    PATIENCE_S,
    Raymat,
    assert_quiet,
    command,
    descendants,
    is_alive,
    log,
    of_kind,
    status,
)

from raymat.data.crystals import CrystalSet
from raymat.screening.criterion import read_criterion
from raymat.screening.shard import screen_shard
from raymat.screening.shard_files import SHARDS

SHARD_SIZE, N_SHARDS = 4, 12


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Small but slow, so that a signal finds a shard at work."""
    folder = tmp_path_factory.mktemp("killed")
    for name, target in (("K", BULK), ("G", SHEAR)):
        write_ensemble(folder / name, target)
    crystals = [glass(f"glass-{n:02d}", n) for n in range(SHARD_SIZE * N_SHARDS)]
    gaps = pd.DataFrame({"band_gap": np.where(np.arange(len(crystals)) % 7 == 5, 0.0, 2.0)})
    file = write_candidates(folder / "glass.parquet", CrystalSet.from_crystals(crystals, gaps))
    return Study(folder, file)


@pytest.fixture(scope="module")
def expected(study: Study) -> pd.DataFrame:
    """The ranking, screened in this process, shard by shard like the others."""
    from raymat.data.shards import iter_shards

    criterion = read_criterion("lithium_metal")
    tables = [
        screen_shard(shard.crystals, criterion, study.ensembles, cache=study.folder / "cache").table
        for shard in iter_shards(str(study.candidates), size=SHARD_SIZE)
    ]
    return rank(pd.concat(tables, ignore_index=True), criterion)


def start(study: Study, run: Path, *options: str, folder: Path) -> Raymat:
    ensembles = ("--bulk", study.folder / "K", "--shear", study.folder / "G")
    sizes = ("--shard-size", str(SHARD_SIZE), "--gpus", "0", "--concurrency", "1")
    candidates = ("--candidates", study.candidates)
    arguments = ("screen", *ensembles, *candidates, *sizes, "--out", run, *options)
    return Raymat(*arguments, folder=folder, RAYMAT_CACHE=str(study.folder / "cache"))


def resume(study: Study, run: Path, *, folder: Path) -> Raymat:
    return Raymat("resume", run, folder=folder, RAYMAT_CACHE=str(study.folder / "cache"))


def ended(run: Path) -> list[int]:
    return [event["shard"] for event in of_kind(log(run), "shard_ended")]


def workers(raymat: Raymat) -> set[int]:
    return {pid for pid in descendants(raymat.pid) if command(pid).startswith("ray::screen_task")}


def stored(run: Path) -> dict[str, Any]:
    """Give what tells whether a shard's file was written again."""
    files = sorted((run / SHARDS).glob("[0-9]*.parquet"))
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def assert_whole(run: Path, expected: pd.DataFrame) -> None:
    assert status(run) == "complete"
    assert ended(run) == list(range(N_SHARDS))  # each once
    assert len(of_kind(log(run), "scored")) == 1
    table = pd.read_parquet(run / "screening.parquet")
    assert_same_ranking(table, expected)
    excluded = pd.read_csv(run / "excluded.csv")
    ids = [f"glass-{n:02d}" for n in range(SHARD_SIZE * N_SHARDS)]
    assert sorted([*table["material_id"], *excluded["material_id"]]) == ids
    assert set(excluded["reason"]) == {"metallic (band gap 0)"}


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_killed_driver_and_killed_worker(
    study: Study, expected: pd.DataFrame, tmp_path: Path
) -> None:
    """SIGKILL of the driver in the middle, and of a worker in shard 9 of the resumed run."""
    run = tmp_path / "run"
    first = start(study, run, folder=tmp_path)
    first.wait_until(lambda: len(ended(run)) >= 3)
    first.kill()
    first.wait_for_children_to_end(PATIENCE_S)
    assert status(run) == "running"  # nobody was left to say otherwise
    done = ended(run)
    assert 3 <= len(done) < 9
    before = {name: facts for name, facts in stored(run).items() if int(name[:6]) in done}

    second = resume(study, run, folder=tmp_path)
    second.wait_until(lambda: len(ended(run)) >= 9 and bool(workers(second)))
    (victim,) = workers(second)
    os.kill(victim, signal.SIGKILL)
    assert len(ended(run)) == 9  # it was in shard 9
    assert second.wait() == 0
    assert not is_alive(victim)
    assert_quiet(second.text())
    assert f"48 candidates in 12 shards, {len(done)} of them done before" in second.text()
    assert_whole(run, expected)
    assert {name: facts for name, facts in stored(run).items() if name in before} == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_interrupted_again_and_again(study: Study, expected: pd.DataFrame, tmp_path: Path) -> None:
    """Ctrl-C in a shard, SIGKILL while the shards are ranked; the files are those of a calm run."""
    (tmp_path / "calm").mkdir()
    calm = tmp_path / "calm" / "run"
    assert start(study, calm, folder=tmp_path / "calm").wait() == 0
    assert_whole(calm, expected)

    run = tmp_path / "run"
    first = start(study, run, folder=tmp_path)
    first.wait_until(lambda: len(ended(run)) >= 2)
    first.signal_group(signal.SIGINT)
    assert first.wait() == 130
    first.wait_for_children_to_end(PATIENCE_S)
    assert status(run) == "interrupted"
    assert f"interrupted; continue with: raymat resume {run}" in first.text()
    assert_quiet(first.text())

    second = resume(study, run, folder=tmp_path)
    second.wait_until(lambda: bool(of_kind(log(run), "ranking")))
    second.kill()
    second.wait_for_children_to_end(PATIENCE_S)
    written = stored(run)
    assert ended(run) == list(range(N_SHARDS))

    third = resume(study, run, folder=tmp_path)
    assert third.wait() == 0
    assert_quiet(third.text())
    assert "12 of 12 shards" in third.text()
    assert stored(run) == written
    assert ended(run) == list(range(N_SHARDS))
    for name in ("metrics.json", "screening.csv", "excluded.csv", "probability_curve.csv"):
        assert (run / name).read_bytes() == (calm / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_shard_whose_process_always_dies(
    study: Study, expected: pd.DataFrame, tmp_path: Path
) -> None:
    """Such as for want of memory: the run fails with a word on it, and can be continued."""
    run, dead = tmp_path / "run", set[int]()
    raymat = start(study, run, folder=tmp_path)
    raymat.wait_until(lambda: len(ended(run)) >= 2)
    while raymat.process.poll() is None:
        for victim in workers(raymat) - dead:
            os.kill(victim, signal.SIGKILL)
            dead.add(victim)
    assert raymat.wait() == 1
    assert_quiet(raymat.text())
    assert f"error: a process of the run died {len(dead)} times: " in raymat.text()
    assert status(run) == "failed"
    again = resume(study, run, folder=tmp_path)
    assert again.wait() == 0
    assert_whole(run, expected)
