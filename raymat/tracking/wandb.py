"""Writes runs of Weights & Biases; the only place that knows its package.

Offline, W&B cannot add to a run: a second part with the same id takes the place of the first when
both are uploaded (wandb/wandb issue 3841). So an offline run is written whole, once it has ended,
into a folder that takes its final name only when everything is in it. Online, a run is continued
under its id, and the server says which step it has seen last.

The package is imported by the functions that need it: importing it alone writes files.
"""

import json
import os
import shutil
import struct
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from raymat.errors import RunError, one_line
from raymat.tracking.run_directory import safe_name
from raymat.tracking.wandb_attachments import Attachments, Rows
from raymat.tracking.wandb_runs import WandbRun, nested

if TYPE_CHECKING:
    import wandb

Mode = Literal["offline", "online"]
# W&B's own file: LevelDB's log format in blocks, after a header of its own.
_MAGIC, _FILE_HEADER, _BLOCK, _RECORD_HEADER = b":W&B", 7, 32_768, 7
_FULL, _LAST = 1, 4
_RETRIES, _RETRY_WAIT_S = 4, 4.0
_WRITE_S, _POLL_S = 10.0, 0.01  # for the service to write its last words
_FATAL = "ERROR+4"  # the level at which W&B's service writes down that it has given up


class Stream:
    """One W&B run that is being written.

    Args:
        run: what is to be written; it may grow.
        run_id: W&B's id.
        project: W&B's project.
        group: W&B's group.
        mode: offline, or online.
        folder: where W&B may write.
        patience_s: how long a server may take to answer.

    Raises:
        RunError: the server cannot be reached, or does not take the run.
    """

    def __init__(
        self,
        run: WandbRun,
        run_id: str,
        *,
        project: str,
        group: str,
        mode: Mode,
        folder: Path,
        patience_s: float,
    ) -> None:
        import wandb

        self.run, self.run_id, self.mode = run, run_id, mode
        try:
            self._run = wandb.init(
                dir=str(folder),
                mode=mode,
                id=run_id,
                project=project,
                group=group,
                job_type=run.kind,
                name=run.name,
                config=nested(run.config),
                resume="allow" if mode == "online" else None,
                reinit="create_new",
                settings=_settings(run.host, patience_s),
            )
        except wandb.Error as error:
            raise RunError(_one_line(error)) from error
        self.folder = Path(self._run.settings.sync_dir)
        # What an earlier process has uploaded is not sent again; W&B would refuse it anyhow.
        self._last = self._run.starting_step - 1 if self._run.resumed else 0

    def push(self) -> None:
        """Write the steps that are new."""
        for step, values in self.run.rows:
            if step > self._last:
                self._run.log(values, step=step)
                self._last = step

    def end(self, attachments: Attachments | None = None) -> None:
        """Write the rest, and wait until all of it has arrived.

        Raises:
            RunError: it has not.
        """
        self.push()
        self._run.config.update(nested(self.run.config), allow_val_change=True)  # type: ignore[no-untyped-call]
        if attachments is not None:
            self._attach(attachments)
        self._run.summary.update(self.run.summary)
        is_unfinished = self.run.has_failed or not self.run.has_ended
        try:
            self._run.finish(exit_code=1 if is_unfinished else 0)
        except TimeoutError as error:
            raise RunError(f"not everything has arrived in time ({_one_line(error)})") from error
        problem = _fatal_error(self.folder) if self.mode == "online" else None
        if problem is not None:
            raise RunError(problem)

    def _attach(self, attachments: Attachments) -> None:
        import wandb

        media: dict[str, Any] = {name: _table(t) for name, t in attachments.tables.items()}
        media |= {name: wandb.Image(str(file)) for name, file in attachments.figures.items()}
        left_out = {f"{n}/rows_left_out": t.n_left_out for n, t in attachments.tables.items()}
        self.run.summary |= {name: number for name, number in left_out.items() if number}
        step = len(self.run.rows) + 1  # a fixed one, so that W&B refuses a second time
        if media and step > self._last:
            self._run.log(media, step=step)
        if attachments.model:
            model = wandb.Artifact(safe_name(f"model-{self.run_id}"), type="model")
            for file in attachments.model:
                model.add_file(str(file), policy="immutable")  # uploaded from where it lies
            self._run.log_artifact(model)


def close() -> None:
    """End W&B's own process."""
    import wandb

    wandb.teardown()


def settle(stream: Stream, folder: Path) -> Path:
    """Give a finished offline run its place in a folder, and make sure that it is whole.

    Raises:
        RunError: something is missing in it, as after a full disk.
        OSError: it cannot be moved.
    """
    file = stream.folder / f"run-{stream.run_id}.wandb"
    deadline = time.monotonic() + _WRITE_S
    while not _is_whole(file, n_steps=len(stream.run.rows)):  # W&B writes on for some milliseconds
        if time.monotonic() > deadline:
            raise RunError(f"{file}: W&B has not written everything (is the disk full?)")
        time.sleep(_POLL_S)
    for scrap in ("logs", "tmp"):  # W&B's own diary, three files for each run
        shutil.rmtree(stream.folder / scrap, ignore_errors=True)
    with file.open("rb") as written:
        os.fsync(written.fileno())
    place = folder / stream.folder.name
    shutil.rmtree(place, ignore_errors=True)  # written within the same second: it is the same run
    stream.folder.rename(place)
    return place


def _is_whole(file: Path, *, n_steps: int) -> bool:
    kinds = [record.WhichOneof("record_type") for record in read_records(file)]
    return kinds[-1:] == ["exit"] and kinds.count("history") >= n_steps


def read_records(file: Path) -> Iterator[Any]:
    """Read the records of a `.wandb` file, up to its end or to the first that is torn.

    A file that is missing, or is none of W&B's, has none.
    """
    records = import_module("wandb.proto.wandb_internal_pb2")  # made by protobuf, without types
    content = file.read_bytes() if file.exists() else b""
    content = content if content.startswith(_MAGIC) else b""
    place, parts = _FILE_HEADER, b""
    while place + _RECORD_HEADER <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _RECORD_HEADER:  # the rest of a block is filled with zeros
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        end = place + _RECORD_HEADER + length
        if end > len(content):
            return
        parts += content[place + _RECORD_HEADER : end]
        place = end
        if kind in (_FULL, _LAST):
            yield records.Record.FromString(parts)
            parts = b""


def _settings(host: str | None, patience_s: float) -> "wandb.Settings":
    """Keep W&B quiet, and to what it is told: no code, no console, no facts of the machine."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        save_code=False,
        program="raymat",
        host=host,
        x_disable_meta=True,
        x_disable_stats=True,  # of the process that writes, which trains nothing
        x_disable_machine_info=True,
        x_save_requirements=False,
        stop_fn=_ignore_stop,
        init_timeout=patience_s,
        login_timeout=patience_s,
        x_graphql_timeout_seconds=patience_s,
        x_graphql_retry_max=_RETRIES,
        x_graphql_retry_wait_max_seconds=_RETRY_WAIT_S,
        finish_timeout=10 * patience_s,  # the model is among what is uploaded
        finish_timeout_raises=True,
    )


def _ignore_stop() -> None:
    """W&B's stop button would interrupt the process that writes, and stop no training."""


def _table(rows: Rows) -> "wandb.Table":
    import wandb

    table = wandb.Table(columns=[*rows.columns], allow_mixed_types=True)
    for row in rows.rows:
        table.add_data(*row)
    return table


def _fatal_error(folder: Path) -> str | None:
    """Find why W&B's service gave an upload up; it says so nowhere but in its log."""
    try:
        lines = (folder / "logs" / "debug-internal.log").read_text("utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        if _FATAL in line:
            return str(json.loads(line).get("msg", line))
    return None


def _one_line(error: BaseException) -> str:
    from wandb.errors import AuthenticationError

    text = one_line(error)
    is_about_key = isinstance(error, AuthenticationError) or "error 401" in text
    return f"{text}; is the key right? (`wandb login`)" if is_about_key else text
