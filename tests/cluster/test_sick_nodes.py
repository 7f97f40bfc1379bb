"""A host on which every process dies: its tasks are done elsewhere, and it is given no more."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from nodes import ray_cluster

from raymat.cluster.connect import ray_session
from raymat.cluster.on_nodes import nodes_alive
from raymat.cluster.tasks import result_of, start_task
from raymat.tracking.run_directory import RunDirectory

# Read by every Python process of the node: its workers can write no file, as on a full disk.
SICK = """
import resource, sys
if any("default_worker" in word for word in sys.orig_argv):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("sick")
    (folder / "sitecustomize.py").write_text(SICK, encoding="utf-8")
    with ray_cluster({"num_cpus": 1}) as cluster:
        cluster.add_node(num_cpus=2, env_vars={"PYTHONPATH": str(folder)})
        cluster.wait_for_nodes()
        yield str(cluster.address)


def test_tasks_of_a_sick_host_are_done_elsewhere(address: str, tmp_path: Path) -> None:
    def where() -> str:
        time.sleep(1.0)
        return str(ray.get_runtime_context().get_node_id())

    with ray_session(address), RunDirectory.create(tmp_path / "run", {"command": "test"}) as run:
        assert len(nodes_alive()) == 2
        own = ray.get_runtime_context().get_node_id()
        tasks = [start_task(where) for _ in range(3)]
        assert {result_of(task, run) for task in tasks} == {own}
        assert [node["NodeID"] for node in nodes_alive()] == [own]
        (warning,) = [e["text"] for e in run.events() if e["event"] == "warning"]
        assert warning.startswith("no process can be started on ")
