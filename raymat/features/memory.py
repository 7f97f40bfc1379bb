"""How much memory this process may still use.

The smallest of what the kernel calls available and what is left under every limit (cgroup) that
the process stands in: a container, a batch system's job, a systemd slice. Read from the kernel's
files, of which a machine that is not Linux has none.
"""

import os
from collections.abc import Iterator
from pathlib import Path

# What a v1 group without a limit reads: the largest signed number, rounded down to pages.
_UNLIMITED = 1 << 60


def available_memory(root: Path = Path("/")) -> int:
    """Give the bytes that this process may still allocate.

    Args:
        root: where ``proc`` and ``sys`` are.

    Returns:
        Bytes, never negative. Where the kernel tells nothing, all physical memory.
    """
    left = [*_left_in_machine(root), *_left_under_limits(root)]
    return max(0, min(left)) if left else _physical_memory()


def _left_in_machine(root: Path) -> Iterator[int]:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            yield int(value.split()[0]) * 1024  # "kB" in the file means 1024 bytes


def _left_under_limits(root: Path) -> Iterator[int]:
    """Give what is left under each limit from the process's own group up to the top one."""
    mounted = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = mounted, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = mounted / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        for folder in _upwards(top, path):
            yield from _left_in_group(folder, *names)


def _upwards(top: Path, path: str) -> Iterator[Path]:
    # Inside a container the path may be the host's, and name no folder here; `top` is its group.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for n in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:n])


def _left_in_group(folder: Path, limit: str, used: str, cached: str) -> Iterator[int]:
    """Give limit - used + cached; the kernel drops cached file pages before it refuses memory."""
    most, now = _read(folder / limit).strip(), _read(folder / used).strip()
    if most.isdecimal() and now.isdecimal() and int(most) < _UNLIMITED:
        facts = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
        yield int(most) - int(now) + int(facts.get(cached, 0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
