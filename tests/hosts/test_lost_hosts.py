"""A host dies, its cable is cut, its disk is full; the results of what runs do not change."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from disturbed_jobs import IDLE, JOBS, Job, check_each_once, write_space
from testbed import SEEN_S, Hosts, events_of, hosts_up, status_of, wait_until, why_not

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

DONE_S = 300.0
TRIALS, EPOCHS = 20, 40  # of a search that takes longer than a host to come back
DISK = "64m"  # of the first worker, for Ray's own files: sockets and logs
DISTURBANCES = {
    "kill": (("kill",), ("start",)),
    "cut": (("cut",), ("heal",)),
    "fill": (
        ("exec", "dd", "if=/dev/zero", "of=/tmp/ray/full", "bs=1M"),
        ("exec", "rm", "/tmp/ray/full"),
    ),
}
# Tasks whose names begin with _ look at the storage, or build features.
NOT_THE_JOB = (*IDLE, "ray::_")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts_up(tmp_path_factory.mktemp("lost")) as hosts:
        for command in ("mkdir /tmp/ray", f"mount -t tmpfs -o size={DISK} tmpfs /tmp/ray"):
            hosts.script("exec", hosts.workers[0], *command.split())
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


def wait_while_running(
    process: "subprocess.Popen[str]", condition: Callable[[], bool], seconds: float = DONE_S
) -> None:
    def check() -> bool:
        assert process.poll() is None, process.communicate()[0][-3000:]
        return condition()

    wait_until(check, seconds)


def disturb(hosts: Hosts, victim: str, what: tuple[str, ...]) -> None:
    verb, *words = what
    hosts.script(verb, victim, *words, check=verb != "exec")  # dd ends with "no space left"


def calm_and_disturbed(hosts: Hosts, name: str, disturbance: str, victim: str) -> tuple[Path, Path]:
    """Run a job twice; in the second run something happens to a host that is at work."""
    job, (begin, end) = JOBS[name], DISTURBANCES[disturbance]
    calm, run = (hosts.shared / "runs" / f"{disturbance}-{name}-{n}" for n in ("calm", "run"))
    end_of(start(hosts, job, calm))
    process = start(hosts, job, run)
    wait_while_running(process, lambda: bool(tasks_on(hosts, victim)))
    disturb(hosts, victim, begin)
    try:
        end_of(process)
    finally:
        disturb(hosts, victim, end)
    wait_until(lambda: hosts.n_nodes() == len(hosts.all), SEEN_S, hosts.autoscaler_log)
    return calm, run


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in JOBS if name != "tune"])
def test_host_dies(hosts: Hosts, name: str) -> None:
    calm, run = calm_and_disturbed(hosts, name, "kill", hosts.workers[-1])
    assert status_of(run) == "complete"
    assert check_each_once(run, JOBS[name]) == check_each_once(calm, JOBS[name])
    assert JOBS[name].results(run) == JOBS[name].results(calm)


@pytest.mark.slow
def test_cable_is_cut(hosts: Hosts) -> None:
    """Ray sees it after a minute; the trials of the host go on elsewhere then."""
    calm, run = calm_and_disturbed(hosts, "tune", "cut", hosts.workers[-1])
    assert status_of(run) == "complete"
    assert check_each_once(run, JOBS["tune"]) == check_each_once(calm, JOBS["tune"])
    assert JOBS["tune"].results(run) == JOBS["tune"].results(calm)


@pytest.mark.slow
def test_disk_of_one_host_is_full(hosts: Hosts) -> None:
    """Ray's own disk there, that is; what trials write goes to the storage that all share."""
    victim = hosts.workers[0]
    calm, run = calm_and_disturbed(hosts, "tune", "fill", victim)
    assert status_of(run) == "complete"
    assert check_each_once(run, JOBS["tune"]) == check_each_once(calm, JOBS["tune"])
    assert JOBS["tune"].results(run) == JOBS["tune"].results(calm)


@pytest.mark.slow
def test_host_that_was_taken_away_comes_back(hosts: Hosts) -> None:
    """As a spot worker does; it is given trials again, and none is done twice."""
    victim, run = hosts.workers[-1], hosts.shared / "runs" / "taken-away"
    space = write_space(hosts.shared / "long.yaml", budget={"trials": TRIALS, "epochs": EPOCHS})
    job = replace(JOBS["tune"], arguments=lambda _: ["tune", "--space", space])
    process = hosts.raymat(*job.arguments(run), "--address", "auto", "--out", run)

    def epochs_there() -> int:
        return sum(e["facts"]["host"] == victim for e in events_of(run, "epoch"))

    wait_while_running(process, lambda: epochs_there() > 0)
    hosts.script("kill", victim)
    hosts.script("start", victim)
    before = epochs_there()
    wait_until(lambda: hosts.n_nodes() == len(hosts.all), SEEN_S, hosts.autoscaler_log)
    wait_while_running(process, lambda: epochs_there() > before)
    end_of(process)
    assert check_each_once(run, job) == {(number,) for number in range(TRIALS)}
    assert len(job.results(run)["epochs"]) == TRIALS * EPOCHS
