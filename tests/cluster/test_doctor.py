"""`raymat doctor` on this machine, and on two real Ray nodes of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import ray_nodes
from ray.exceptions import RayError

from raymat.cli import main
from raymat.cluster import shared_storage
from raymat.cluster.on_nodes import call_on_nodes, nodes_alive
from raymat.cluster.shared_storage import check_folder_is_shared, storage_problems
from raymat.errors import ClusterError
from raymat.tracking.wandb_state import has_credentials, say_wandb


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two nodes of one core, both on this machine, with this process connected to them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        with ray_nodes(2) as address:
            yield address


def test_this_machine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--storage", str(tmp_path), "--space", "quick"]
    assert main.run(["doctor", *options]) == 0
    said = capfd.readouterr().out
    for check in ("versions", "GPUs", "disk", "storage", "W&B", "forecast"):
        assert check in said
    assert "delta: 71 crystals, 0 rows rejected" in said
    assert "an epoch of the default: about" in said
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor", "--storage", str(tmp_path / "nowhere")]) == 1
    said = capfd.readouterr()
    assert "PROBLEM" in said.out
    assert "make the folder, or name another with --storage" in said.out
    assert said.err.strip() == "error: 1 problem found; see above"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "delta"), "--data and --target are for the forecast of a search: add --space"),
        (("--space", "cgcn"), "did you mean 'cgcnn'"),
        (("--space", "cgcnn", "--data", "x.parquet"), "--target is needed"),
        (("--address", "nowhere"), "--address nowhere: expected HOST:PORT"),
        (("--address", "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_nonsense_is_one_line(
    capfd: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main.run(["doctor", *options]) == 2
    said = capfd.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1


def test_cluster(address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor", "--address", address, "--storage", str(tmp_path)]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "2 answer" in said
    assert "on all 2 nodes" in said
    assert "written and read by all" in said
    assert "authentication by token, on every node" in said
    assert list(tmp_path.iterdir()) == []


def test_storage_of_nodes(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both nodes see the disk of this machine, so only what they write can differ."""
    from raymat.cluster.connect import ray_session

    def write_nothing(_folder: Path, _marks: dict[str, str]) -> None:
        """As a node that writes onto another disk."""

    def sleep() -> None:
        import time

        time.sleep(4.0)

    def fail() -> None:
        raise OSError("no such disk")

    with ray_session(address):
        assert storage_problems(tmp_path) == {}
        check_folder_is_shared(tmp_path)
        missing = storage_problems(tmp_path / "nowhere")
        assert set(missing.values()) == {"the folder is not there"}
        assert len(missing) == 2
        with pytest.raises(ClusterError, match=r"not shared by all nodes .*: the folder is not"):
            check_folder_is_shared(tmp_path / "nowhere")
        monkeypatch.setattr(shared_storage, "_write_mark", write_nothing)
        lost = storage_problems(tmp_path)
        assert set(lost.values()) == {"does not see what 2 of 2 nodes wrote: a disk of its own"}
        monkeypatch.undo()
        dead = {"a": RayError("its node died"), "b": "no space"}
        nodes = {"a": "gone", "b": nodes_alive()[0]["NodeID"]}
        assert shared_storage._told(dead, nodes) == {"b": "no space"}
        slow = call_on_nodes(sleep, wait_s=1.0)
        assert {str(answer) for answer in slow.values()} == {"no answer within 1 s"}
        assert {str(answer) for answer in call_on_nodes(fail).values()} == {"no such disk"}


def test_wandb_is_told_without_its_key(tmp_path: Path) -> None:
    key = "0123456789abcdef"
    assert not has_credentials({}, tmp_path)
    assert has_credentials({"WANDB_API_KEY": key}, tmp_path)
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {key}\n")
    assert has_credentials({}, tmp_path)
    assert not has_credentials({"WANDB_BASE_URL": "https://wandb.example"}, tmp_path)
    for environment in ({}, {"WANDB_API_KEY": key}):
        assert key not in say_wandb(environment, tmp_path)
    assert "offline by WANDB_MODE" in say_wandb({"WANDB_MODE": "offline"}, tmp_path)
