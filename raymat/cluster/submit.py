"""Commands that run on a cluster while this machine only looks on: Ray's job submission."""

import asyncio
import hashlib
import logging
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from raymat.cluster.connect import check_authentication_mode, show_token
from raymat.errors import ClusterError

_OVER = ("SUCCEEDED", "FAILED", "STOPPED")


class Jobs:
    """The jobs of a cluster, by the address of its dashboard, such as ``http://localhost:8265``.

    Raises:
        ClusterError: nothing answers there, or Ray's job submission is not installed.
    """

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self.address = address
        check_authentication_mode()
        show_token()
        logging.getLogger("ray.dashboard").setLevel(logging.ERROR)  # of sockets opened and closed
        try:
            self._client: Any = JobSubmissionClient(address)
        except (ConnectionError, RuntimeError, ValueError) as cause:
            raise _cannot_reach(address, cause) from cause

    def submit(self, arguments: Sequence[str], name: str, files: Path | None) -> str:
        """Begin a raymat command on the head, and give the id of its job.

        Args:
            arguments: of the command, without ``raymat`` itself.
            name: from `job_name`; each new attempt has a number behind it.
            files: folder of files that the command names by their bare names; the job runs there.

        Raises:
            ClusterError: the cluster does not take it.
        """
        environment = {} if files is None else {"working_dir": str(files)}
        attempt = len(self._known(name))
        try:
            found: str = self._client.submit_job(
                entrypoint=shlex.join(["raymat", *arguments]),
                submission_id=f"{name}-{attempt}",
                runtime_env=environment,
            )
        except (RuntimeError, OSError, ValueError) as cause:
            raise _cannot_reach(self.address, cause) from cause
        return found

    def running(self, name: str) -> str | None:
        """Give the id of the job of that name that has not ended, if there is one."""
        ids = [job.submission_id for job in self._known(name) if str(job.status) not in _OVER]
        return ids[0] if ids else None

    def follow(self, job: str, write: Callable[[str], Any]) -> int:
        """Hand on what a job writes until it ends, and give the exit code of its command.

        Raises:
            ClusterError: the connection is lost; the job goes on.
        """

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job):
                write(text)

        try:
            asyncio.run(tail())
            ended = self._client.get_job_info(job)
        except (RuntimeError, OSError) as cause:
            raise ClusterError(
                f"the connection to {self.address} is lost ({_one_line(cause)}); the job {job} goes"
                " on if the cluster does: attach again with `raymat resume RUN --address"
                f" {self.address}`"
            ) from cause
        if ended.driver_exit_code is not None:
            return int(ended.driver_exit_code)
        return 0 if str(ended.status) == "SUCCEEDED" else 1

    def _known(self, name: str) -> list[Any]:
        try:
            jobs = self._client.list_jobs()
        except (RuntimeError, OSError) as cause:
            raise _cannot_reach(self.address, cause) from cause
        return [job for job in jobs if str(job.submission_id).startswith(f"{name}-")]


def job_name(run: Path) -> str:
    """Give what the jobs of a run directory are called."""
    return f"raymat-{hashlib.sha256(str(run).encode()).hexdigest()[:12]}"


def _cannot_reach(address: str, cause: Exception) -> ClusterError:
    text = _one_line(cause)
    if "ray[default]" in text:
        return ClusterError(
            f"--address {address}: needs Ray's job submission, here and on the head: pip install"
            " 'raymat[submit]'; without it run raymat on the head (`ray exec`) with --address auto"
        )
    return ClusterError(
        f"--address {address}: no answer to a job ({text}); it is the address of the dashboard on"
        " the head, through `ray dashboard cluster.yaml` or `ssh -L 8265:localhost:8265 HEAD`"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
