"""A host on which every process dies: its tasks are done elsewhere, and it is given no more."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from nodes import ray_cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymat.cluster.connect import ray_session
from raymat.cluster.on_nodes import nodes_alive
from raymat.cluster.tasks import result_of, start_task
from raymat.tracking.run_directory import RunDirectory

# Read by every Python process of the node: its workers can write no file, as on a full disk.
SICK_CPUS = 2
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
        cluster.add_node(num_cpus=SICK_CPUS, env_vars={"PYTHONPATH": str(folder)})
        cluster.wait_for_nodes()
        yield str(cluster.address)


def test_task_of_a_sick_host_is_done_elsewhere(address: str, tmp_path: Path) -> None:
    """The healthy host is held until the sick one is left out: the task has nowhere else to go."""
    flag = tmp_path / "flag"

    def hold() -> None:
        while not flag.exists():
            time.sleep(0.1)

    def where() -> str:
        return str(ray.get_runtime_context().get_node_id())

    def let_go() -> None:
        while len(nodes_alive()) > 1:
            time.sleep(0.1)
        flag.touch()

    with ray_session(address), RunDirectory.create(tmp_path / "run", {"command": "test"}) as run:
        assert len(nodes_alive()) == 2
        own = ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(own, soft=False)
        holder = ray.remote(num_cpus=1)(hold).options(scheduling_strategy=here).remote()
        wait_until(lambda: ray.available_resources().get("CPU", 0) == SICK_CPUS)
        threading.Thread(target=let_go, daemon=True).start()
        assert result_of(start_task(where), run) == own
        ray.get(holder)
        assert [node["NodeID"] for node in nodes_alive()] == [own]
        (warning,) = [e["text"] for e in run.events() if e["event"] == "warning"]
        assert warning.startswith("no process can be started on ")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
