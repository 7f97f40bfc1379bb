"""What the doctor makes of the facts of machines."""

from dataclasses import replace

import pytest

from raymat.cluster.doctor import _ahead
from raymat.cluster.findings import (
    Finding,
    compare_clocks,
    compare_versions,
    find_all,
    look_at_authentication,
    look_at_disks,
    look_at_gpus,
    worst,
)
from raymat.cluster.node_facts import DiskFacts, NodeFacts

VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.13.0", "raymat": "1", "numpy": "2"}
ROOM = DiskFacts("/shared", 500_000_000_000, 10_000_000)
HEAD = NodeFacts(
    host="head", versions=VERSIONS, python="python", cpus=8, memory_bytes=1, gpus=0, torch_gpus=0,
    torch_cuda="none", disks={"storage": ROOM}, auth_mode="token", ray_gpus=0.0, ray_cpus=8.0,
)  # fmt: skip
GPU = replace(HEAD, host="gpu", gpus=4, torch_gpus=4, torch_cuda="13.0", ray_gpus=4.0)


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding


def test_equal_machines_are_well() -> None:
    found = find_all({"head": HEAD, "gpu": GPU}, {"head": 0.0, "gpu": 0.4})
    assert worst(found) == "ok"
    assert all(not finding.advice for finding in found)
    assert any(f.text.endswith("on all 2 nodes") for f in found)


@pytest.mark.parametrize(
    ("package", "version", "text"),
    [
        ("ray", "2.59.1", "ray differs: 2.60.0 on head; 2.59.1 on gpu"),
        ("python", "3.12.1", "python differs: 3.11 on head; 3.12 on gpu"),
        ("torch", None, "torch differs: 2.13.0 on head; missing on gpu"),
    ],
)
def test_other_versions_are_a_problem(package: str, version: str | None, text: str) -> None:
    versions = {k: v for k, v in VERSIONS.items() if k != package}
    if version is not None:
        versions[package] = version
    finding = compare_versions({"head": HEAD, "gpu": replace(GPU, versions=versions)})
    assert (finding.level, finding.text) == ("problem", text)
    assert "constraints.txt" in finding.advice


def test_other_patch_of_python_is_none() -> None:
    other = replace(GPU, versions=VERSIONS | {"python": "3.11.9"})
    assert compare_versions({"head": HEAD, "gpu": other}).level == "ok"


def test_gpus_that_torch_cannot_use() -> None:
    blind = replace(GPU, torch_gpus=0, torch_cuda="none")
    found = only(list(look_at_gpus({"gpu": blind})))
    assert found.level == "problem"
    assert "the driver lists 4, torch can use 0 (its build is for CUDA none)" in found.text


def test_gpus_that_ray_does_not_hand_out() -> None:
    shy = replace(GPU, ray_gpus=0.0)
    warning, total = look_at_gpus({"gpu": shy, "head": HEAD})
    assert (warning.level, warning.advice) == ("warning", "start Ray there with --num-gpus=4")
    assert total.text == "4 usable (gpu 4)"


@pytest.mark.parametrize(
    ("n_bytes", "n_files", "level"),
    [
        (5e11, 10**7, "ok"),
        (5e11, None, "ok"),
        (1e10, 10**7, "warning"),
        (5e11, 50_000, "warning"),
        (1e9, 10**7, "problem"),
        (5e11, 100, "problem"),
    ],
)
def test_disks(n_bytes: float, n_files: int | None, level: str) -> None:
    tight = replace(GPU, disks={"storage": DiskFacts("/shared", int(n_bytes), n_files)})
    found = only(list(look_at_disks({"head": HEAD, "gpu": tight})))
    assert found.level == level
    assert ("gpu: storage (/shared) has" in found.text) == (level != "ok")


@pytest.mark.parametrize(
    ("ahead", "level", "word"),
    [(0.0, "ok", "within"), (5.0, "warning", "ahead of"), (-300.0, "problem", "behind")],
)
def test_clocks(ahead: float, level: str, word: str) -> None:
    finding = compare_clocks({"head": 0.0, "gpu": ahead})
    assert finding.level == level
    assert word in finding.text


def test_time_of_the_answer_is_no_difference_of_clocks() -> None:
    assert _ahead(105.0, asked=100.0, answered=110.0) == 0.0
    assert _ahead(115.0, asked=100.0, answered=110.0) == 5.0
    assert _ahead(90.0, asked=100.0, answered=110.0) == -10.0


@pytest.mark.parametrize(
    ("modes", "level", "text"),
    [
        (("token", "token"), "ok", "by token, on every node"),
        (("", ""), "warning", "off: whoever reaches the ports of this cluster can run commands"),
        (("disabled", "disabled"), "warning", "off: whoever reaches the ports"),
        (("token", ""), "warning", "RAY_AUTH_MODE differs (head: token, gpu: not set)"),
    ],
)
def test_authentication(modes: tuple[str, str], level: str, text: str) -> None:
    nodes = {"head": replace(HEAD, auth_mode=modes[0]), "gpu": replace(GPU, auth_mode=modes[1])}
    found = only(list(look_at_authentication(nodes, is_reachable=True)))
    assert found.level == level
    assert found.text.startswith(text)
    assert bool(found.advice) == (level != "ok")
