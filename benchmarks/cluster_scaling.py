"""How a search scales: equal trials on one host and on two, and what 1,000 trials cost the driver.

    python benchmarks/cluster_scaling.py --out cluster_scaling.json

The hosts are real Ray nodes of one core each on this machine, so it takes as many cores as hosts.
24 equal trials (the same network, data and epochs; only the seeds differ) on one host and on two:
timed is from the start of the search to the end of its last trial, start of the workers included.

Then a search whose trials do next to nothing: 1,000 trials of 10 epochs of a small network on ten
crystals. Every epoch is checkpointed, reported through Ray Tune, told to Optuna and logged, as
always. The CPU time of the driver process per report is what limits a large cluster, and gives the
projection: with N trials at a time the driver is busy all of the time if an epoch takes less than
N times that.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from results_file import machine_facts, write_results

from raymat.cluster.connect import prepare_environment
from raymat.cluster.tune import tune
from raymat.data.splits import SplitConfig
from raymat.tracking.events import Event
from raymat.tuning.request import TuneRequest

HOSTS = (1, 2)
NODES, TRIALS_PER_NODE = 100, 4  # of the projection


@contextmanager
def ray_hosts(n: int) -> Iterator[str]:
    """Start `n` Ray nodes of one core each and give their address."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_AUTH_MODE"] = "disabled"
    prepare_environment()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(n - 1):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    try:
        yield str(cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()


class Clock:
    """Listens to a run: when the search began and the last trial ended, and what it cost here."""

    def __init__(self) -> None:
        self.begun = self.ended = 0.0
        self.cpu_begun = self.cpu_ended = 0.0
        self.memory_begun = self.memory_ended = 0
        self.reports, self.hosts = 0, set[str]()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if event["event"] == "search_started":
            self.begun, self.cpu_begun, self.memory_begun = time.perf_counter(), cpu_s(), memory()
        if event["event"] == "epoch":
            self.reports += 1
            self.hosts.add(event["facts"]["host"])
        if event["event"] == "trial_ended":
            self.ended, self.cpu_ended, self.memory_ended = time.perf_counter(), cpu_s(), memory()


def cpu_s() -> float:
    """CPU seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory() -> int:
    """Bytes of memory that this process occupies now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def search(
    folder: Path,
    address: str,
    *,
    trials: int,
    epochs: int,
    fixed: dict[str, Any],
    split: SplitConfig,
) -> Clock:
    """Run a search of equal trials in a fresh folder."""
    clock = Clock()
    request = TuneRequest(
        space={
            "model": "cgcnn",
            "space": {"training.weight_decay": {"log_uniform": [1e-6, 1e-5]}},
            "fixed": fixed,
            "budget": {"trials": trials, "epochs": epochs},
            "scheduler": {"name": "none"},
            "search": {"name": "random"},
        },
        space_path="cluster_scaling",
        data="delta",
        target="log10_bulk_modulus",
        split=split,
        address=address,
    )
    shutil.rmtree(folder, ignore_errors=True)
    tune(request, folder, listeners=(clock,))
    return clock


def compare_hosts(folder: Path, trials: int, epochs: int) -> dict[str, Any]:
    fixed = {"model.atom_dim": 128, "model.n_conv": 5, "training.batch_size": 4}
    found = {}
    for n in HOSTS:
        with ray_hosts(n) as address:
            clock = search(
                folder / f"hosts-{n}", address, trials=trials, epochs=epochs, fixed=fixed,
                split=SplitConfig(train=0.6, validation=0.2, test=0.2),
            )  # fmt: skip
        found[n] = clock.ended - clock.begun
    speedup = found[1] / found[2]
    return {"trials": trials, "epochs": epochs, "seconds": found, "speedup": speedup}


def measure_driver(folder: Path, trials: int, epochs: int) -> dict[str, Any]:
    fixed = {"model.atom_dim": 8, "model.n_conv": 1, "model.hidden_dim": 8}
    tiny = SplitConfig(train=0.1, validation=0.05, test=0.05)
    with ray_hosts(2) as address:
        clock = search(
            folder / "driver", address, trials=trials, epochs=epochs, fixed=fixed, split=tiny
        )
    cpu = clock.cpu_ended - clock.cpu_begun
    at_once = NODES * TRIALS_PER_NODE
    return {
        "trials": trials,
        "reports": clock.reports,
        "wall_s": clock.ended - clock.begun,
        "driver_cpu_s": cpu,
        "driver_ms_per_report": 1000 * cpu / clock.reports,
        "driver_memory_mb": clock.memory_ended / 1e6,
        "driver_memory_grown_mb": (clock.memory_ended - clock.memory_begun) / 1e6,
        "projection": {
            "trials_at_a_time": at_once,
            "shortest_epoch_s": at_once * cpu / clock.reports,
        },
    }


def report(results: dict[str, Any]) -> None:
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    hosts, driver = results["hosts"], results["driver"]
    print(f"\n{hosts['trials']} equal trials of {hosts['epochs']} epochs")
    for n, seconds in hosts["seconds"].items():
        print(f"{n} host{'s' if n > 1 else ' '} of one core: {seconds:8.1f} s")
    print(f"speed-up {hosts['speedup']:.2f} of 2, efficiency {hosts['speedup'] / 2:.2f}")
    print(f"\n{driver['trials']} trials, {driver['reports']} reports, next to no work")
    print(f"wall {driver['wall_s']:.0f} s, CPU of the driver {driver['driver_cpu_s']:.0f} s,"
          f" {driver['driver_ms_per_report']:.1f} ms for a report")  # fmt: skip
    print(
        f"memory of the driver {driver['driver_memory_mb']:.0f} MB,"
        f" grown by {driver['driver_memory_grown_mb']:.0f} MB"
    )
    told = driver["projection"]
    print(
        f"{NODES} nodes with {TRIALS_PER_NODE} trials each: the driver keeps up if an epoch takes"
        f" {told['shortest_epoch_s']:.1f} s or more"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how a search scales.")
    parser.add_argument("--trials", type=int, default=24, help="equal trials on one and two hosts")
    parser.add_argument("--epochs", type=int, default=30, help="of each of them")
    parser.add_argument("--many", type=int, default=1000, help="trials that do next to nothing")
    parser.add_argument("--reports", type=int, default=10, help="of each of these")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    machine = machine_facts()
    with tempfile.TemporaryDirectory(prefix="raymat-scaling-") as name:
        folder = Path(name)
        os.environ["RAYMAT_CACHE"] = str(folder / "cache")
        results = {
            "machine": machine,
            "hosts": compare_hosts(folder, args.trials, args.epochs),
            "driver": measure_driver(folder, args.many, args.reports),
        }
    report(results)
    write_results(args.out, results)


if __name__ == "__main__":
    main()
