"""A cluster of a node with a GPU, as Ray counts it, and a node without; PyTorch sees none."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray
import torch
from nodes import ray_cluster

from raymat.cluster import search as search_module
from raymat.cluster import tune as tune_module
from raymat.cluster.connect import ray_session
from raymat.cluster.resources import Room, trial_resources
from raymat.cluster.tasks import start_task
from raymat.cluster.tune import tune
from raymat.data.splits import SplitConfig
from raymat.errors import ClusterError
from raymat.tracking.events import read_events
from raymat.tuning.request import TuneRequest
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Resources

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="PyTorch sees a GPU here: there is none that it does not"
)
PATIENCE_S = 4.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cluster]":
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        with ray_cluster({"num_cpus": 1}, {"num_cpus": 1, "num_gpus": 1}) as cluster:
            yield cluster


def request(cluster: "Cluster", **changes: object) -> TuneRequest:
    space = {
        "model": "cgcnn",
        "space": {"training.lr": {"log_uniform": [1e-3, 1e-2]}},
        "fixed": {"model.atom_dim": 8, "model.n_conv": 1},
        "budget": {"trials": 2, "epochs": 2},
        "scheduler": {"name": "none"},
        "search": {"name": "random"},
    }
    return TuneRequest(
        space=space,
        space_path="gpus",
        data="delta",
        target="log10_bulk_modulus",
        split=SplitConfig(train=0.6, validation=0.2, test=0.2),
        address=str(cluster.address),
        **changes,
    )


def test_tasks_without_a_gpu_leave_its_node_alone(cluster: "Cluster") -> None:
    def where() -> str:
        return str(ray.get_runtime_context().get_node_id())

    with ray_session(str(cluster.address)):
        (cpu_node,) = (n["NodeID"] for n in ray.nodes() if not n["Resources"].get("GPU"))
        for _ in range(6):
            assert ray.get(start_task(where)) == cpu_node


@pytest.mark.long
def test_gpu_that_torch_does_not_see_is_told(cluster: "Cluster", tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"Ray hands out a GPU on .*, but PyTorch sees none"):
        tune(request(cluster), tmp_path / "run")
    assert tune(request(cluster, gpus=0.0), tmp_path / "cpus")["winner"]


def test_search_whose_gpus_went_ends(
    cluster: "Cluster", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials would wait for ever; the node goes between the check and the first trial."""
    (gpu_node,) = cluster.worker_nodes

    def lose_node(asked: TuneRequest, space: SearchSpace) -> Resources:
        resources = trial_resources(asked, space)
        cluster.remove_node(gpu_node, allow_graceful=False)
        return resources

    monkeypatch.setattr(tune_module, "trial_resources", lose_node)
    monkeypatch.setattr(search_module, "Room", partial(Room, patience_s=PATIENCE_S))
    begun = time.monotonic()
    with pytest.raises(ClusterError, match=r"no node has had 1 CPU and 0.25 GPU for one task"):
        tune(request(cluster, gpus=0.25), tmp_path / "run")
    assert time.monotonic() - begun > PATIENCE_S
    events = read_events(tmp_path / "run" / "events.jsonl")
    assert [e for e in events if e["event"] == "search_started"]
    assert not [e for e in events if e["event"] in ("epoch", "trial_ended")]
