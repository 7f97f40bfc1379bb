"""A fit on disk, to be continued after a crash."""

import os
import tempfile
from pathlib import Path
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
    """Continue from a checkpoint; False when there is none."""
    if not path.exists():
        return False
    # weights_only: tensors and plain values, so a checkpoint cannot run code.
    fitting.load_state(torch.load(path, map_location=fitting.device, weights_only=True))
    return True


def write_atomically(path: Path, content: dict[str, Any]) -> None:
    """Write with torch.save under another name in the same folder, then rename."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
