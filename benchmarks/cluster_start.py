"""How long a fresh cluster takes: from `ray up cluster.yaml` to the first epoch of a search.

    python benchmarks/cluster_start.py --out cluster_start.json

Three hosts with sshd in network namespaces of this machine (root, iproute2, openssh, rsync), as in
the tests; nothing is installed on the way, for the hosts see this environment. The clock starts
with `ray up`; noted are its end, the moment when every host has joined, the start of `raymat tune`
and the first epoch in the event log of the run.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from results_file import machine_facts, write_results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "hosts"))
from testbed import Hosts, events_of, hosts_up, wait_until, why_not

LIMIT_S = 300.0
SPACE = {
    "model": "cgcnn",
    "data": "delta",
    "target": "log10_bulk_modulus",
    "space": {"training.lr": {"log_uniform": [1.0e-3, 1.0e-2]}},
    "budget": {"trials": 6, "epochs": 3},
    "scheduler": {"name": "none"},
    "search": {"name": "random"},
}


def start_once(hosts: Hosts) -> dict[str, float]:
    """Start the cluster and a search; give seconds since `ray up` began."""
    run = hosts.shared / "run"
    space = hosts.shared / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE), encoding="utf-8")
    begun = time.perf_counter()
    hosts.ray("up", "-y", "--no-config-cache", str(hosts.file))
    seconds = {"head is up": time.perf_counter() - begun}
    wait_until(lambda: hosts.n_nodes() == len(hosts.all), LIMIT_S)
    seconds["all hosts have joined"] = time.perf_counter() - begun
    process = hosts.raymat("tune", "--address", "auto", "--space", space, "--out", run)
    wait_until(lambda: bool(events_of(run, "epoch")), LIMIT_S, lambda: str(process.poll()))
    seconds["first epoch"] = time.perf_counter() - begun
    process.communicate(timeout=LIMIT_S)
    seconds["six trials, their report and the model"] = time.perf_counter() - begun
    return seconds


def measure(repeats: int) -> list[dict[str, float]]:
    found = []
    for _ in range(repeats):
        temporary = tempfile.TemporaryDirectory(prefix="raymat-start-")
        with temporary as folder, hosts_up(Path(folder)) as hosts:
            found.append(start_once(hosts))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how long a fresh cluster takes.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    problem = why_not()
    if problem is not None:
        sys.exit(f"there can be no three hosts here: {problem}")
    found = measure(args.repeats)
    results: dict[str, Any] = {
        "machine": machine_facts(),
        "seconds": found,
        "median": {key: statistics.median(one[key] for one in found) for key in found[0]},
    }
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    for what, seconds in results["median"].items():
        print(f"{what:40} {seconds:6.1f} s after `ray up` (median of {args.repeats})")
    write_results(args.out, results)


if __name__ == "__main__":
    main()
