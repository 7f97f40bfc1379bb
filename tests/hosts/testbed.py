"""Three real hosts on this machine (network namespaces with sshd), and a Ray cluster on them.

The hosts are made by the testbed's `hosts.sh`; everything else is the product's own `cluster.yaml`,
with the addresses, paths and sizes of the testbed put in.
"""

import importlib.util
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raymat.tracking.events import Event, read_events

PROJECT = Path(__file__).parents[2]
SCRIPT = Path(os.environ.get("RAYMAT_SHARED", PROJECT.parent / "shared")) / "testbed" / "hosts.sh"
OWNER = "owner"  # names the process that a testbed belongs to
TOOLS = ("ip", "sshd", "ssh", "rsync", "unshare", "nsenter")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
# Each host sees all of the machine's cores and memory, so what it may use has to be said.
SIZES = "--num-cpus=1 --memory=2000000000 --object-store-memory=200000000"
MOST_TESTBEDS = 50  # on one machine at a time
UP_S, SEEN_S = 120.0, 90.0  # for `ray up`; until a lost host or a new one is noticed


def why_not() -> str | None:
    """Say why there can be no hosts here, if so."""
    if not SCRIPT.exists():
        return f"there is no testbed at {SCRIPT} (or $RAYMAT_SHARED/testbed)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return _try_namespaces()


def _try_namespaces() -> str | None:
    """Say why the kernel lets this root make no network, if so: a container may be forbidden to."""
    for command in (
        "unshare --mount --pid --uts --ipc --net --fork --mount-proc true",
        "ip link add raymat-probe type bridge",
        "ip link del raymat-probe",
    ):
        done = subprocess.run(
            command.split(), env={**os.environ, "PATH": PATH}, capture_output=True, text=True,
            timeout=20.0, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            return f"no network namespaces here: {command}: {done.stderr.strip()}"
    return None


def has_job_server() -> bool:
    """Say whether Ray's job submission is installed: `raymat[submit]`."""
    return importlib.util.find_spec("aiohttp_cors") is not None


@dataclass(frozen=True)
class Names:
    """What the testbeds of one machine must not share. The first host is the head."""

    number: int

    @property
    def bridge(self) -> str:
        return f"raymat-br{self.number}"

    @property
    def subnet(self) -> str:
        return f"10.97.{self.number}"

    @property
    def hosts(self) -> tuple[str, str, str]:
        head, *workers = (f"raymat-t{self.number}{letter}" for letter in "abc")
        return head, workers[0], workers[1]

    def environment(self) -> dict[str, str]:
        """Give what `hosts.sh` wants to be told."""
        return {"HOSTS": " ".join(self.hosts), "SUBNET": self.subnet, "BRIDGE": self.bridge}

    def owner(self) -> Path | None:
        """Give the folder of the testbed that has these names now, if one has."""
        alias = Path("/sys/class/net") / self.bridge / "ifalias"
        if not alias.exists():
            return None
        return Path(alias.read_text("utf-8").strip().removeprefix("testbed:")).parent


def free_names() -> Names:
    """Give names that no other testbed has; and remove those whose tests were killed."""
    for number in range(1, MOST_TESTBEDS):
        names = Names(number)
        owner = names.owner()
        if owner is not None and _was_killed(owner / OWNER):
            _script(names, owner / "testbed", "down", check=False)
        if names.owner() is None:
            return names
    raise AssertionError("every name of a testbed is taken")


def _was_killed(file: Path) -> bool:
    """Say whether a testbed belonged to a process that is no more."""
    if not file.exists():
        return False  # somebody's own testbed
    pid, started = file.read_text("utf-8").split()
    try:
        return _started(int(pid)) != started
    except OSError:
        return True


def _started(pid: int) -> str:
    """Give when a process started, in ticks since boot: numbers of processes come again."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]


def _script(names: Names, testbed: Path, *words: str, check: bool = True) -> str:
    environment = {
        **os.environ, **names.environment(), "PATH": PATH, "VENV": sys.prefix,
        "KEEP": str(PROJECT), "TESTBED_DIR": str(testbed),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(SCRIPT), *words], env=environment, text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=UP_S, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def render(content: str, names: Names, *, home: Path, shared: Path, key: Path) -> dict[str, Any]:
    """Put the testbed's addresses, paths and sizes into the product's `cluster.yaml`."""
    venv = Path(sys.prefix)
    for known, here in (
        ("~/raymat-venv", str(venv)),
        ("~/.ray/auth_token: ~/.ray", f"~/.ray/auth_token: {home}/.ray"),
        ("/shared", str(shared)),
        ("--disable-usage-stats", f"--disable-usage-stats {SIZES}"),
        ("start --head", f"start --head --include-dashboard={str(has_job_server()).lower()}"),
    ):
        assert known in content, f"cluster.yaml does not say {known}"
        content = content.replace(known, here)
    config = dict(yaml.safe_load(content))
    head, *workers = (f"{names.subnet}.{10 + n}" for n in range(len(names.hosts)))
    config["cluster_name"] = "raymat-test"
    config["provider"] |= {"head_ip": head, "worker_ips": workers}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    # The hosts reach no package index; they see this environment under the same path.
    config["setup_commands"] = [
        command for command in config["setup_commands"] if "pip install" not in command
    ]
    return config


class Hosts:
    """The hosts, and the cluster on them."""

    def __init__(self, folder: Path, names: Names) -> None:
        self.names, self.all = names, names.hosts
        self.head, *self.workers = names.hosts
        self.folder, self.home = folder, folder / "home"
        self.shared = folder / "testbed" / "shared"
        self.file = folder / "cluster.yaml"
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.prefix) / 'bin'}:{PATH}",
            "HOME": str(self.home),
            "TMPDIR": str(folder / "tmp"),  # where `ray up` keeps the state of the cluster
        }
        for name in ("home", "tmp"):
            (folder / name).mkdir()

    def script(self, *words: str, check: bool = True) -> str:
        """Call `hosts.sh`, such as with ``kill raymat-t1b``."""
        return _script(self.names, self.folder / "testbed", *words, check=check)

    def ray(self, *words: str, timeout: float = UP_S) -> str:
        """Call `ray` on this machine, such as with ``up -y``."""
        done = subprocess.run(
            [str(Path(sys.prefix) / "bin" / "ray"), *words], env=self.environment, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def start_cluster(self) -> None:
        """Run `ray up` and wait until every host has joined."""
        self.ray("up", "-y", "--no-config-cache", str(self.file))
        wait_until(lambda: self.n_nodes() == len(self.all), SEEN_S, self.autoscaler_log)

    def n_nodes(self) -> int:
        """Give the number of hosts that belong to the cluster."""
        # A host of the testbed that starts again has a new ~/.bashrc, without cluster.yaml's line.
        command = "RAY_AUTH_MODE=token ray status"
        try:
            said = self.ray("exec", str(self.file), command, timeout=30.0)
        except (AssertionError, subprocess.TimeoutExpired):
            return 0
        active = said.partition("Active:")[2].partition("Pending:")[0]
        words = [line.split() for line in active.splitlines() if "local.cluster.node" in line]
        return sum(int(line[0]) for line in words)

    def autoscaler_log(self) -> str:
        """Give the end of what the head tells of the workers it starts."""
        logs = sorted(
            (self.folder / "testbed" / "hosts" / self.head / "tmp" / "ray").glob("*/logs")
        )
        return "".join((log / "monitor.out").read_text("utf-8")[-3000:] for log in logs[-1:])

    def raymat(self, *words: str | Path) -> subprocess.Popen[str]:
        """Begin a `raymat` command on the head, as `ray exec` does it from a laptop."""
        command = shlex.join(map(str, ("raymat", *words)))
        cache = f"RAYMAT_CACHE={self.shared}/cache"
        return subprocess.Popen(
            [
                *(str(Path(sys.prefix) / "bin" / "ray"), "exec", str(self.file)),
                f"{cache} {command}",
            ],
            env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    @contextmanager
    def tunnel(self, port: int) -> Iterator[str]:
        """Bring a port of the head's localhost here, as a user does, and give its address."""
        key = self.folder / "testbed" / "id_ed25519"
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
        here = _free_port()
        forward = ("-N", "-L", f"127.0.0.1:{here}:localhost:{port}")
        ssh = subprocess.Popen(
            ["ssh", *(f"-o{o}" for o in options), "-i", str(key), *forward,
             f"root@{self.names.subnet}.10"],
            env=self.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: _listens(here), 20.0)
            yield f"http://127.0.0.1:{here}"
        finally:
            ssh.terminate()
            ssh.wait()

    def processes(self, host: str) -> list[str]:
        """Give the command lines of all that runs on a host."""
        said = self.script("exec", host, "ps", "-eo", "args=", check=False)
        return [line for line in said.splitlines() if line]

    def ray_processes(self, host: str) -> list[str]:
        """Give the command lines of Ray's processes on a host, and of its tasks."""
        return [line for line in self.processes(host) if "ray" in line and "ps -eo" not in line
                and "sshd" not in line and "hosts.sh" not in line]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(
    condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = lambda: ""
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s\n{explain()}"
        time.sleep(0.5)


def events_of(run: Path, kind: str) -> list[Event]:
    path = run / "events.jsonl"
    return [e for e in read_events(path) if e["event"] == kind] if path.exists() else []


def status_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text("utf-8"))["status"])


@contextmanager
def hosts_up(folder: Path) -> Iterator[Hosts]:
    """Make the hosts, and remove them at the end, whatever became of them."""
    (folder / OWNER).write_text(f"{os.getpid()} {_started(os.getpid())}", encoding="utf-8")
    hosts = Hosts(folder, free_names())
    key = folder / "testbed" / "id_ed25519"
    hosts.script("up")
    try:
        hosts.ray("get-auth-token", "--generate")
        content = (PROJECT / "cluster.yaml").read_text(encoding="utf-8")
        config = render(content, hosts.names, home=hosts.home, shared=hosts.shared, key=key)
        hosts.file.write_text(yaml.safe_dump(config, width=1000), encoding="utf-8")
        yield hosts
    finally:
        hosts.script("down")
