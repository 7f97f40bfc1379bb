"""A fit on disk, to be continued after a crash."""

import io
import os
import tempfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from raymat.errors import RunError
from raymat.training.fit import Fit


def save_checkpoint(fitting: Fit, path: Path) -> None:
    """Write the state of a fit; a reader sees the old file or the whole new one.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        write_atomically(path, fitting.state())
    except OSError as cause:
        raise RunError(
            f"{path}: the checkpoint cannot be written ({cause.strerror or cause}); free space or"
            " permissions, then resume the run"
        ) from cause


def load_checkpoint(fitting: Fit, path: Path) -> bool:
    """Continue from a checkpoint; False when there is none.

    Raises:
        RunError: it is damaged or belongs to another configuration.
    """
    if not path.exists():
        return False
    try:
        # weights_only: tensors and plain values, so a checkpoint cannot run code. On the CPU
        # first: loading copies what belongs on a GPU there, and Adam's step counts do not.
        fitting.load_state(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, LookupError, ValueError, UnpicklingError) as cause:
        raise RunError(
            f"{path}: not a checkpoint of this configuration, or damaged"
            f" ({type(cause).__name__}); delete it to train from the start"
        ) from cause
    return True


def write_atomically(path: Path, content: dict[str, Any]) -> None:
    """Write with torch.save under another name in the same folder, then rename."""
    buffer = io.BytesIO()  # torch.save hides a full disk behind a RuntimeError; a file does not
    torch.save(content, buffer)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
