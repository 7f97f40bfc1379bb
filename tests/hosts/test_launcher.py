"""`ray up cluster.yaml` on three hosts, searches on all of them, and hosts that die."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from disturbed_jobs import SLOW_TRIALS
from testbed import (
    SEEN_S,
    Hosts,
    events_of,
    has_job_server,
    hosts_up,
    status_of,
    wait_until,
    why_not,
)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

DONE_S = 240.0
SPACE = {
    **SLOW_TRIALS,
    "fixed": {"model.atom_dim": 64, "model.n_conv": 3, "training.batch_size": 2},
    "budget": {"trials": 6, "epochs": 6},
}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts_up(tmp_path_factory.mktemp("hosts")) as hosts:
        space = hosts.shared / "space.yaml"
        space.write_text(yaml.safe_dump(SPACE), encoding="utf-8")
        hosts.start_cluster()
        yield hosts


def tune(hosts: Hosts, run: Path) -> "subprocess.Popen[str]":
    return hosts.raymat("tune", "--address", "auto", "--space", hosts.shared / "space.yaml",
                        "--out", run)  # fmt: skip


def end_of(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=DONE_S)
    assert process.returncode == 0, said[-3000:]
    return said


def results(run: Path) -> pd.DataFrame:
    """What the seed decides of every trial."""
    table = pd.read_parquet(run / "trials.parquet").set_index("trial_id").sort_index()
    return table[["status", "val_mae", "best_epoch", "epochs", "config.training.lr"]]


@pytest.fixture(scope="module")
def calm(hosts: Hosts) -> Path:
    """A search that nothing happens to."""
    run = hosts.shared / "runs" / "calm"
    end_of(tune(hosts, run))
    return run


def test_trials_run_on_all_hosts_and_results_come_home(hosts: Hosts, calm: Path) -> None:
    table = pd.read_parquet(calm / "trials.parquet")
    assert set(table["host"]) == set(hosts.all)
    assert set(table["status"]) == {"complete"}
    home = hosts.folder / "results"
    home.mkdir()
    hosts.ray("rsync-down", str(hosts.file), f"{calm}/", f"{home}/")
    assert (home / "metrics.json").read_bytes() == (calm / "metrics.json").read_bytes()


def test_doctor_finds_nothing_wrong(hosts: Hosts) -> None:
    begun = time.monotonic()
    said = end_of(hosts.raymat("doctor", "--address", "auto", "--storage", hosts.shared))
    assert time.monotonic() - begun < 30.0
    said = " ".join(said.split())
    assert f"3 answer: {', '.join(hosts.all)}" in said
    assert "by token, on every node" in said
    assert "written and read by all" in said
    assert "PROBLEM" not in said


def test_folder_that_hosts_do_not_share_is_refused(hosts: Hosts) -> None:
    process = tune(hosts, Path("/tmp/run"))
    said, _ = process.communicate(timeout=DONE_S)
    assert process.returncode != 0
    said = " ".join(said.split())
    assert (
        f"error: /tmp/run: not shared by all nodes ({', '.join(hosts.workers)}: the folder" in said
    )
    assert hosts.script("exec", hosts.workers[0], "ls", "/tmp").find("run") < 0


@pytest.mark.skipif(not has_job_server(), reason="needs Ray's job submission: raymat[submit]")
def test_search_from_a_laptop(hosts: Hosts, calm: Path) -> None:
    """Submitted, left alone with Ctrl-C, looked at, and attached to again."""
    run, space = hosts.shared / "runs" / "submitted", hosts.folder / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE), encoding="utf-8")  # which the hosts do not see
    with hosts.tunnel(8265) as address:

        def raymat(*words: str | Path) -> "subprocess.Popen[str]":
            return subprocess.Popen(
                [sys.executable, "-c", "from raymat.cli.main import main; main()",
                 *map(str, words), "--address", address],
                env=hosts.environment, text=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

        first = raymat("tune", "--space", space, "--out", run)
        wait_until(lambda: bool(events_of(run, "epoch")), DONE_S)
        first.send_signal(signal.SIGINT)
        said = end_of(first)
        assert f"detached; the run goes on. Attach again: raymat resume {run}" in said
        assert f"{run}: tune, running" in end_of(raymat("status", run))
        assert "6 of 6 trials ended" in end_of(raymat("resume", run))
        assert "nothing is left to do" in end_of(raymat("resume", run))
    pd.testing.assert_frame_equal(results(run), results(calm))


def test_trial_of_a_host_that_dies_ends_elsewhere(hosts: Hosts, calm: Path) -> None:
    run = hosts.shared / "runs" / "lost-host"
    process = tune(hosts, run)
    victim = hosts.workers[0]

    def is_at_work() -> bool:
        return any(e["facts"]["host"] == victim for e in events_of(run, "epoch"))

    wait_until(is_at_work, DONE_S, lambda: str(process.poll()))
    hosts.script("kill", victim)
    end_of(process)
    assert status_of(run) == "complete"
    pd.testing.assert_frame_equal(results(run), results(calm))
    epochs = [(e["trial"], e["epoch"]) for e in events_of(run, "epoch")]
    assert len(epochs) == len(set(epochs)) == 36
    assert len(events_of(run, "trial_ended")) == 6
    hosts.script("start", victim)
    wait_until(lambda: hosts.n_nodes() == len(hosts.all), SEEN_S, hosts.autoscaler_log)


def test_head_that_dies_loses_nothing(hosts: Hosts, calm: Path) -> None:
    run = hosts.shared / "runs" / "lost-head"
    process = tune(hosts, run)
    wait_until(lambda: len(events_of(run, "trial_ended")) >= 1, DONE_S)
    hosts.script("kill", hosts.head)
    process.communicate(timeout=DONE_S)
    assert process.returncode != 0
    assert status_of(run) == "running"  # nobody was left to say otherwise
    hosts.script("start", hosts.head)
    hosts.start_cluster()
    ended = [e["trial"] for e in events_of(run, "trial_ended")]
    end_of(hosts.raymat("resume", run))
    pd.testing.assert_frame_equal(results(run), results(calm))
    again = [e["trial"] for e in events_of(run, "trial_ended")]
    assert sorted(again) == list(range(6))  # each once
    assert again[: len(ended)] == ended
    epochs = [(e["trial"], e["epoch"]) for e in events_of(run, "epoch")]
    assert len(epochs) == len(set(epochs)) == 36


def test_ray_down_leaves_nothing(hosts: Hosts, calm: Path) -> None:
    del calm
    hosts.ray("down", "-y", str(hosts.file))
    for worker in hosts.workers:  # `ray down` stops the head only
        hosts.script("ssh", worker, "ray stop")

    def left() -> list[str]:
        return [line for host in hosts.all for line in hosts.ray_processes(host)]

    wait_until(lambda: not left(), SEEN_S, lambda: "\n".join(left()))
