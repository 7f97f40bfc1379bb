"""What a process may still use, read from made-up kernel files and from the real ones."""

from pathlib import Path

import pytest

from raymat.features.memory import available_memory

GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


def machine(available: int = 16 * GIB) -> dict[str, str]:
    total = f"MemTotal: {32 * GIB // 1024} kB\n"
    return {"proc/meminfo": f"{total}MemAvailable:   {available // 1024} kB\n"}


def v2_group(path: str, limit: str, used: int, cached: int) -> dict[str, str]:
    return {
        f"sys/fs/cgroup{path}/memory.max": f"{limit}\n",
        f"sys/fs/cgroup{path}/memory.current": f"{used}\n",
        f"sys/fs/cgroup{path}/memory.stat": f"anon 5\ninactive_file {cached}\n",
    }


def v1_group(path: str, limit: int, used: int, cached: int) -> dict[str, str]:
    return {
        f"sys/fs/cgroup/memory{path}/memory.limit_in_bytes": f"{limit}\n",
        f"sys/fs/cgroup/memory{path}/memory.usage_in_bytes": f"{used}\n",
        f"sys/fs/cgroup/memory{path}/memory.stat": f"rss 5\ntotal_inactive_file {cached}\n",
    }


def test_machine_without_limits(tmp_path):
    files = machine() | {"proc/self/cgroup": "0::/user.slice\n"}
    files |= v2_group("/user.slice", "max", 3 * GIB, 0)
    assert available_memory(write(tmp_path, files)) == 16 * GIB


def test_limit_of_the_own_group(tmp_path):
    files = machine() | {"proc/self/cgroup": "0::/job/step\n"}
    files |= v2_group("/job/step", str(4 * GIB), 3 * GIB, GIB // 2)
    assert available_memory(write(tmp_path, files)) == 3 * GIB // 2


def test_limit_of_a_group_above(tmp_path):
    files = machine() | {"proc/self/cgroup": "0::/job/step\n"}
    files |= v2_group("/job/step", "max", GIB, 0) | v2_group("/job", str(2 * GIB), GIB, 0)
    assert available_memory(write(tmp_path, files)) == GIB


def test_container_that_sees_the_path_of_its_host(tmp_path):
    files = machine() | {"proc/self/cgroup": "0::/../../docker/abc\n"}
    files |= v2_group("", str(3 * GIB), GIB, 0)
    assert available_memory(write(tmp_path, files)) == 2 * GIB


def test_version_1_groups(tmp_path):
    files = machine() | {"proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n"}
    files |= v1_group("/job", 5 * GIB, 3 * GIB, GIB) | v1_group("", (1 << 63) - 4096, 9 * GIB, 0)
    assert available_memory(write(tmp_path, files)) == 3 * GIB


def test_a_group_over_its_limit_has_nothing_left(tmp_path):
    files = machine() | {"proc/self/cgroup": "0::/job\n"}
    files |= v2_group("/job", str(GIB), 2 * GIB, 0)
    assert available_memory(write(tmp_path, files)) == 0


def test_without_kernel_files_it_is_all_memory(tmp_path):
    assert available_memory(tmp_path) > 100_000_000


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="not Linux")
def test_this_machine():
    found = available_memory()
    assert 10_000_000 < found <= available_memory(Path("/nowhere"))
