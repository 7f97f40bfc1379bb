"""An ensemble whose processes are killed, or that is interrupted, ends as if nothing happened."""

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from disturbed_jobs import SLOW_MEMBER as CONFIG
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

from raymat.cluster.member import epochs_done
from raymat.data.readers import load_crystals
from raymat.data.splits import read_split
from raymat.ensembles.members import member_name, plan_member
from raymat.features.store import FeatureStore
from raymat.training.device import prepare_process
from raymat.training.fit import FitData
from raymat.training.model_files import load_model
from raymat.training.results import conclude
from raymat.tuning.trial import Trial, run_to_epoch
from raymat.tuning.trial_config import TrialConfig

DEATHS = 4  # of its process that a task survives, and the last, which it does not


def start(run: Path, folder: Path, *, members: int) -> Raymat:
    (folder / "c.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    options = ("--members", str(members), "--concurrency", "1", "--gpus", "0", "--out", run)
    return Raymat("ensemble", "--config", folder / "c.yaml", *options, folder=folder)


def epochs(run: Path, member: int, attempt: int = 0) -> int:
    return epochs_done(run / "trials" / f"{member_name(member)}-{attempt}")


def ended(run: Path) -> list[int]:
    return [event["member"] for event in of_kind(log(run), "member_ended")]


def workers(raymat: Raymat) -> set[int]:
    return {pid for pid in descendants(raymat.pid) if command(pid).startswith("ray::train_member")}


def assert_whole(run: Path, *, members: int) -> None:
    assert status(run) == "complete"
    assert ended(run) == list(range(members))  # each once
    assert len(of_kind(log(run), "scored")) == 1
    assert not (run / "trials").exists()
    assert not list(run.glob("members/*/outputs.npz"))
    assert sorted(p.name for p in (run / "members").iterdir()) == [
        member_name(number) for number in range(members)
    ]


def trained_here(run: Path, member: int, folder: Path) -> dict[str, torch.Tensor]:
    """Train a member of the run in this process, and give its weights."""
    prepare_process(1)
    config = TrialConfig.from_dict(CONFIG, where="CONFIG")
    crystals = load_crystals("delta", target=CONFIG["target"], max_rejected=0.0).crystals
    split = read_split(run / "split.parquet")
    plan = plan_member(member, 0, seed=0, fraction=0.6, train=split.rows("train"))
    view = load_model(run / "members" / member_name(member)).view
    data = FitData(
        features=FeatureStore(crystals, [view.table_config.build(crystals)]),
        targets=crystals.target(str(CONFIG["target"])),
        train=plan.rows,
        validation=split.rows("validation"),
        task="regression",
    )
    trial = Trial(config, data, seed=plan.seed, folder=folder / "here")
    return conclude(run_to_epoch(trial)).network.state_dict()


@pytest.mark.faults
def test_member_survives_the_death_of_its_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    raymat = start(run, tmp_path, members=2)
    raymat.wait_until(lambda: epochs(run, 0) >= 2)
    (victim,) = workers(raymat)
    os.kill(victim, signal.SIGKILL)
    assert raymat.wait() == 0
    assert not is_alive(victim)
    assert_quiet(raymat.text())
    assert "failed" not in raymat.text()
    assert not of_kind(log(run), "member_failed")
    assert_whole(run, members=2)
    table = pd.read_parquet(run / "members.parquet")
    assert table["epochs"].tolist() == [8, 8]
    assert table["attempts"].tolist() == [1, 1]
    expected = trained_here(run, 0, tmp_path)
    found = load_model(run / "members" / "0000").network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_ensemble_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    calm = tmp_path / "calm" / "run"
    assert start(calm, tmp_path / "calm", members=3).wait() == 0
    assert_whole(calm, members=3)

    # Ctrl-C while the first member trains.
    run = tmp_path / "run"
    first = start(run, tmp_path, members=3)
    first.wait_until(lambda: epochs(run, 0) >= 1)
    first.signal_group(signal.SIGINT)
    assert first.wait() == 130
    first.wait_for_children_to_end(PATIENCE_S)
    assert status(run) == "interrupted"
    assert f"interrupted; continue with: raymat resume {run}" in first.text()
    assert_quiet(first.text())
    assert ended(run) == []
    kept = epochs(run, 0)
    assert kept >= 1

    # SIGKILL of the driver after the first member has ended.
    second = Raymat("resume", run, folder=tmp_path)
    second.wait_until(lambda: epochs(run, 1) >= 1)
    second.kill()
    second.wait_for_children_to_end(PATIENCE_S)
    assert ended(run) == [0]
    model = run / "members" / "0000" / "model.safetensors"
    stored = (model.read_bytes(), model.stat().st_mtime_ns)

    # SIGKILL while the last files are written, or just after.
    third = Raymat("resume", run, folder=tmp_path)
    third.wait_until(lambda: bool(of_kind(log(run), "calibrating")))
    third.kill()
    third.wait_for_children_to_end(PATIENCE_S)
    assert "3 members of up to 8 epochs" in third.text()
    assert "1 of them trained before" in third.text()

    fourth = Raymat("resume", run, folder=tmp_path)
    assert fourth.wait() == 0
    assert_quiet(fourth.text())
    assert_whole(run, members=3)
    assert (model.read_bytes(), model.stat().st_mtime_ns) == stored  # not trained again
    started = [event["member"] for event in of_kind(log(run), "member_started")]
    assert started == [0, 0, 1, 1, 2]
    for name in ("metrics.json", "calibration.json", "member_curve.csv"):
        assert (run / name).read_bytes() == (calm / name).read_bytes(), name
    for name, times in (("predictions.parquet", []), ("members.parquet", ["time_s"])):
        tables = [pd.read_parquet(folder / name).drop(columns=times) for folder in (run, calm)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)

    before = (run / "events.jsonl").read_bytes()
    fifth = Raymat("resume", run, folder=tmp_path)
    assert fifth.wait() == 0
    assert "the run is complete, nothing is left to do" in fifth.text()
    assert (run / "events.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_member_whose_process_always_dies_has_a_second_attempt(tmp_path: Path) -> None:
    run, dead = tmp_path / "run", set[int]()
    raymat = start(run, tmp_path, members=2)
    for _ in range(DEATHS):
        raymat.wait_until(lambda: bool(workers(raymat) - dead))
        (victim,) = workers(raymat) - dead
        os.kill(victim, signal.SIGKILL)
        dead.add(victim)
    assert raymat.wait() == 0
    assert_quiet(raymat.text())
    (failure,) = of_kind(log(run), "member_failed")
    assert (failure["member"], failure["attempt"]) == (0, 0)
    assert failure["error"].startswith(f"a process of the run died {DEATHS} times: ")
    assert "tried again with the same seed" in raymat.text()
    assert "1 member failed once and was trained again" in raymat.text()
    table = pd.read_parquet(run / "members.parquet").set_index("member")
    assert table.loc[0, "attempts"] == 1  # of its own; that its processes died is not its fault
    assert table.loc[0, "seed"] == failure["seed"]
    assert sorted(ended(run)) == [0, 1]
    assert status(run) == "complete"
