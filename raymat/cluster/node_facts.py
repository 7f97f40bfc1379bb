"""What a machine says of itself: versions, GPUs, disks, clock, authentication."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raymat.features.memory import available_memory
from raymat.tracking.run_directory import package_versions

_WAIT_S = 20.0  # for a tool of the GPU's driver, or for torch to look at the GPUs
_COUNT_GPUS = "import torch; print(torch.cuda.device_count(), torch.version.cuda or 'none')"


@dataclass(frozen=True)
class DiskFacts:
    """Room on the disk that holds a folder.

    Attributes:
        path: the folder, or the nearest one above it that exists.
        free_bytes: that this user may still write.
        free_inodes: files that may still be made; None where the file system does not count them.
    """

    path: str
    free_bytes: int
    free_inodes: int | None


@dataclass(frozen=True)
class NodeFacts:
    """One machine, as a process on it sees it.

    Attributes:
        host: its name.
        versions: of Python and of the packages that can change a number.
        python: the interpreter.
        cpus: cores.
        memory_bytes: that a process may still allocate.
        gpus: that the driver of the GPUs lists.
        torch_gpus: that torch can use.
        torch_cuda: CUDA version of torch's build, "none" for a CPU build.
        ray_gpus: that Ray hands out on this node; None where no Ray was asked.
        ray_cpus: the same for CPU cores.
        disks: of the storage, and of the folder for temporary files, where Ray keeps its own.
        auth_mode: `RAY_AUTH_MODE` of the process, "" if it is not set.
        time: seconds since 1970 when the facts were collected.
    """

    host: str
    versions: dict[str, str]
    python: str
    cpus: int
    memory_bytes: int
    gpus: int
    torch_gpus: int
    torch_cuda: str
    disks: dict[str, DiskFacts]
    auth_mode: str
    ray_gpus: float | None = None
    ray_cpus: float | None = None
    time: float = field(default_factory=time.time)


def collect_facts(storage: Path | None) -> NodeFacts:
    """Look at the machine that this process runs on; takes up to seconds where there are GPUs."""
    gpus = _count_driver_gpus()
    torch_gpus, torch_cuda = _count_torch_gpus() if gpus else (0, "none")
    folders = {"temporary files": Path(tempfile.gettempdir())}
    if storage is not None:
        folders = {"storage": storage, **folders}
    return NodeFacts(
        host=platform.node(),
        versions=package_versions(),
        python=sys.executable,
        cpus=os.cpu_count() or 1,
        memory_bytes=available_memory(),
        gpus=gpus,
        torch_gpus=torch_gpus,
        torch_cuda=torch_cuda,
        disks={name: look_at_disk(folder) for name, folder in folders.items()},
        auth_mode=os.environ.get("RAY_AUTH_MODE", ""),
    )


def look_at_disk(folder: Path) -> DiskFacts:
    """Give the room on the disk of a folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    counts = os.statvfs(folder)
    # Some file systems, such as btrfs, make inodes as they are needed and count none.
    inodes = counts.f_favail if counts.f_files else None
    return DiskFacts(str(folder), counts.f_bavail * counts.f_frsize, inodes)


def _count_driver_gpus() -> int:
    if shutil.which("nvidia-smi") is None:
        return 0
    lines = _run(["nvidia-smi", "--list-gpus"]).splitlines()
    return sum(line.startswith("GPU ") for line in lines)


def _count_torch_gpus() -> tuple[int, str]:
    # In a process of its own: Ray hides the GPUs from a task that asked for none.
    hidden = ("CUDA_VISIBLE_DEVICES",)
    seen = {name: value for name, value in os.environ.items() if name not in hidden}
    words = _run([sys.executable, "-c", _COUNT_GPUS], env=seen).split()
    return (int(words[0]), words[1]) if len(words) == 2 else (0, "none")


def _run(command: Sequence[str], env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_WAIT_S, check=True, env=env
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
