"""A command with ``--address http://HEAD:8265``: runs on the cluster, is looked at from here."""

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile

from raymat.errors import ConfigError

SUBMITTED = ("tune", "ensemble", "compare", "screen", "explain", "resume", "status", "doctor")
_LOOKS_ONLY = ("status", "doctor")
_OF_A_RUN = ("resume", "status")  # name it first; others with --out
_TRAVEL = ("--space", "--config", "--plan", "--criterion")  # small files, which go with the job
_STAY = ("--data", "--candidates", "--bulk", "--shear", "--model")  # lie on the cluster's storage


def asks_for_a_job(arguments: Sequence[str]) -> str | None:
    """Give the address of the job server that a command names, if it names one."""
    if not arguments or arguments[0] not in SUBMITTED or "--help" in arguments:
        return None
    address = _value(arguments, "--address")
    is_url = address is not None and address.startswith(("http://", "https://"))
    return address if is_url else None


def submit(arguments: Sequence[str], address: str) -> int:
    """Run a command as a job, or attach to the one that runs already; give its exit code.

    Ctrl-C detaches: the job goes on, and this gives 0.

    Raises:
        ConfigError: the command names files of this machine that the cluster does not see.
        ClusterError: nothing answers at the address.
    """
    run = _run_of(arguments)
    with tempfile.TemporaryDirectory(prefix="raymat-job-") as folder:
        asked = _on_the_cluster(arguments, Path(folder))
        from raymat.cluster.submit import Jobs, job_name

        jobs, name = Jobs(address), job_name(run)
        job = jobs.running(name) if asked[0] == "resume" else None
        if job is None:
            name = f"look-{name}" if asked[0] in _LOOKS_ONLY else name
            has_files = any(Path(folder).iterdir())
            job = jobs.submit(asked, name, Path(folder) if has_files else None)
        try:
            return jobs.follow(job, _write)
        except KeyboardInterrupt:
            sys.stderr.write(_say_detached(run, address, job))
            return 0


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say_detached(run: Path, address: str, job: str) -> str:
    where = shlex.quote(str(run))
    return (
        f"\ndetached; the run continues. Attach again: raymat resume {where} --address {address}\n"
        f"how far it is: raymat status {where} --address {address}\n"
        f"end it: ray job stop --address {address} {job}\n"
    )


def _run_of(arguments: Sequence[str]) -> Path:
    """Give the run directory that a command is about, as the cluster sees it."""
    if arguments[0] == "doctor":
        return Path("/")
    named = arguments[1:2] if arguments[0] in _OF_A_RUN else [_value(arguments, "--out") or ""]
    path = Path(named[0]) if named and named[0] else None
    if path is None or not path.is_absolute():
        what = "the run" if arguments[0] in _OF_A_RUN else "--out"
        raise ConfigError(
            f"with --address http://... {what} must be an absolute path on the storage that the"
            f" cluster shares, such as /shared/runs/first (found {path or 'none'})"
        )
    return path


def _on_the_cluster(arguments: Sequence[str], folder: Path) -> list[str]:
    """Give the command as the head is to run it; files that travel with it are put into `folder`.

    Raises:
        ConfigError: data lie on this machine, or are named by a relative path.
    """
    asked, waiting = [arguments[0]], list(arguments[1:])
    while waiting:
        word = waiting.pop(0)
        option, equals, value = word.partition("=")
        if option not in ("--address", *_TRAVEL, *_STAY):
            asked.append(word)
            continue
        value = value if equals else (waiting.pop(0) if waiting else "")
        if option == "--address":
            continue
        if option in _TRAVEL and Path(value).is_file():
            copyfile(value, folder / Path(value).name)
            value = Path(value).name
        elif option in _STAY and not Path(value).is_absolute() and Path(value).exists():
            raise ConfigError(
                f"{option} {value}: lies on this machine; copy it to the storage that the cluster"
                " shares (`ray rsync-up`) and give its path there"
            )
        asked += [option, value]
    return asked if asked[0] == "status" else [*asked, "--address", "auto"]


def _value(arguments: Sequence[str], option: str) -> str | None:
    for place, word in enumerate(arguments):
        if word == option:
            return arguments[place + 1] if place + 1 < len(arguments) else None
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
