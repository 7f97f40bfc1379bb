"""A host dies, or its cable is cut, under every long command; and its results do not change."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbed_jobs import IDLE, JOBS, Job, check_each_once
from testbed import SEEN_S, Hosts, hosts_up, status_of, wait_until, why_not

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

DONE_S = 300.0
# Tasks whose names begin with _ look at the storage, or build features.
NOT_THE_JOB = (*IDLE, "ray::_")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts_up(tmp_path_factory.mktemp("lost")) as hosts:
        hosts.start_cluster()
        yield hosts


def start(hosts: Hosts, job: Job, run: Path) -> "subprocess.Popen[str]":
    """Begin a job with as many tasks at a time as there are hosts."""
    folder = hosts.shared / "inputs"
    folder.mkdir(exist_ok=True)
    words = job.arguments(folder)
    place = words.index("--concurrency")
    return hosts.raymat(*words[:place], *words[place + 2 :], "--address", "auto", "--out", run)


def end_of(process: "subprocess.Popen[str]") -> None:
    said, _ = process.communicate(timeout=DONE_S)
    assert process.returncode == 0, said[-3000:]


def tasks_on(hosts: Hosts, host: str) -> list[str]:
    lines = [line for line in hosts.processes(host) if line.startswith("ray::")]
    return [line for line in lines if not line.startswith(NOT_THE_JOB)]


def calm_and_disturbed(hosts: Hosts, name: str, disturbance: str) -> tuple[Path, Path]:
    """Run a job twice; in the second run something happens to a host that is at work."""
    job, victim = JOBS[name], hosts.workers[-1]
    calm, run = (hosts.shared / "runs" / f"{disturbance}-{name}-{n}" for n in ("calm", "run"))
    end_of(start(hosts, job, calm))
    process = start(hosts, job, run)
    wait_until(lambda: bool(tasks_on(hosts, victim)), DONE_S, lambda: str(process.poll()))
    hosts.script(disturbance, victim)
    try:
        end_of(process)
    finally:
        hosts.script({"kill": "start", "cut": "heal"}[disturbance], victim)
    wait_until(lambda: hosts.n_nodes() == len(hosts.all), SEEN_S, hosts.autoscaler_log)
    return calm, run


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in JOBS if name != "tune"])
def test_host_dies(hosts: Hosts, name: str) -> None:
    calm, run = calm_and_disturbed(hosts, name, "kill")
    assert status_of(run) == "complete"
    assert check_each_once(run, JOBS[name]) == check_each_once(calm, JOBS[name])
    assert JOBS[name].results(run) == JOBS[name].results(calm)


@pytest.mark.slow
def test_cable_is_cut(hosts: Hosts) -> None:
    """Ray sees it after a minute; the trials of the host go on elsewhere then."""
    calm, run = calm_and_disturbed(hosts, "tune", "cut")
    assert status_of(run) == "complete"
    assert check_each_once(run, JOBS["tune"]) == check_each_once(calm, JOBS["tune"])
    assert JOBS["tune"].results(run) == JOBS["tune"].results(calm)
