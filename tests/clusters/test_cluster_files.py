"""The cluster files are what Ray, Kubernetes and a shell accept, and start every node alike."""

import copy
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from jsonschema import ValidationError
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start
from ray.scripts.symmetric_run import curate_and_validate_ray_start_args, symmetric_run

PROJECT = Path(__file__).parents[2]
CLUSTERS = PROJECT / "clusters"
LAUNCHED = {"local": PROJECT / "cluster.yaml", "aws": CLUSTERS / "aws.yaml"}  # by `ray up`
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
TOKEN = "~/.ray/auth_token"

Config = dict[str, Any]


def read(path: Path) -> Config:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def prepared(config: Config) -> Config:
    """Do what `ray up` does before it asks the provider: defaults, then Ray's own checks."""
    full = prepare_config(copy.deepcopy(config))
    validate_config(full)
    return dict(full)


def ray_starts(config: Config) -> Iterator[str]:
    for name in COMMANDS:
        yield from (command for command in config[name] if "ray start" in command)


def auth_modes(config: Config) -> list[str]:
    """Give what every `ray start` says of authentication, in its own command."""
    return [
        " ".join(re.findall(r"\bRAY_AUTH_MODE=(\w+)", command)) or "nothing"
        for command in ray_starts(config)
    ]


def pinned(name: str) -> str:
    """Give the version of a package in constraints.txt."""
    text = (PROJECT / "constraints.txt").read_text(encoding="utf-8")
    (version,) = re.findall(rf"^{name}==(\S+)$", text, flags=re.MULTILINE)
    return str(version)


def torch_of_the_makefile() -> str:
    (torch,) = re.findall(r"torch==[\d.]+", (PROJECT / "Makefile").read_text(encoding="utf-8"))
    return str(torch)


@pytest.fixture(params=LAUNCHED, ids=str)
def launched(request: pytest.FixtureRequest) -> Config:
    return read(LAUNCHED[request.param])


# --- `ray up` -------------------------------------------------------------------------------------


def test_ray_accepts_the_file(launched: Config) -> None:
    config = prepared(launched)
    assert config["head_node_type"] in config["available_node_types"]
    assert config["max_workers"] >= 1


def test_ray_refuses_what_it_does_not_know(launched: Config) -> None:
    with pytest.raises(ValidationError, match="idle_timeout"):
        prepared({**launched, "idle_timeout": 5})


def test_every_node_is_started_with_the_same_authentication(launched: Config) -> None:
    modes = auth_modes(launched)
    assert len(modes) == 2
    assert set(modes) in ({"token"}, {"disabled"})
    if "token" in modes:
        assert launched["file_mounts"][TOKEN] == TOKEN
        assert f"chmod 600 {TOKEN}" in launched["setup_commands"]


def test_other_authentication_on_workers_is_seen(launched: Config) -> None:
    worker = launched["worker_start_ray_commands"]
    worker[-1] = re.sub(r"RAY_AUTH_MODE=\w+", "", worker[-1])
    assert "nothing" in auth_modes(launched)


def test_workers_look_for_the_head_where_it_listens(launched: Config) -> None:
    head, worker = ray_starts(launched)
    (port,) = re.findall(r"--head --port=(\d+)", head)
    assert f"--address=$RAY_HEAD_IP:{port}" in worker
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head


def test_autoscaler_of_a_local_head_is_version_1() -> None:
    """Version 2, which `ray up` exports before the command, leaves it one worker short."""
    head, _ = ray_starts(read(LAUNCHED["local"]))
    assert re.search(r"\bRAY_enable_autoscaler_v2=0\b[^;&|]* start --head", head)


def test_ray_start_knows_every_option(launched: Config) -> None:
    known = {name for option in start.params for name in option.opts}
    for command in ray_starts(launched):
        used = set(re.findall(r"(?<=\s)--[\w-]+", command))
        assert used
        assert used <= known


@pytest.mark.parametrize("name", LAUNCHED)
def test_commands_are_shell(name: str) -> None:
    for command in (command for part in COMMANDS for command in read(LAUNCHED[name])[part]):
        assert "#" not in command  # it would hide the parenthesis that Ray puts behind a command
        check = subprocess.run(["bash", "-n", "-c", f"({command})"], check=False)
        assert check.returncode == 0, command


def test_packages_are_those_of_the_makefile(launched: Config) -> None:
    setup = " ".join(launched["setup_commands"])
    assert torch_of_the_makefile() in setup
    assert re.search(r"pip install --quiet -c (\S*/raymat)/constraints.txt \1( |$)", setup)


def test_aws_head_runs_no_trial_and_is_not_spot() -> None:
    types = prepared(read(LAUNCHED["aws"]))["available_node_types"]
    head = types.pop("head")
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert not set(worker["node_config"]["SubnetIds"]) & set(head["node_config"]["SubnetIds"])


def test_aws_mounts_shared_storage_before_anything_is_installed() -> None:
    config = read(LAUNCHED["aws"])
    (mount,) = [c for c in config["initialization_commands"] if " mount -t nfs4 " in c]
    assert mount.startswith("mountpoint -q /shared || ")
    assert mount.endswith(" /shared")
    # Files are copied before it is mounted, and would lie under it.
    assert not [path for path in config["file_mounts"] if path.startswith("/shared")]


# --- Kubernetes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifests() -> dict[str, Config]:
    text = (CLUSTERS / "kuberay.yaml").read_text(encoding="utf-8")
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def groups(manifests: dict[str, Config]) -> dict[str, Config]:
    spec = manifests["RayCluster"]["spec"]
    return {"head": spec["headGroupSpec"], **{g["groupName"]: g for g in spec["workerGroupSpecs"]}}


def pod(group: Config) -> tuple[Config, Config]:
    spec = group["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def test_kubernetes_objects(manifests: dict[str, Config], groups: dict[str, Config]) -> None:
    assert set(manifests) == {"PersistentVolumeClaim", "NetworkPolicy", "RayCluster"}
    assert manifests["RayCluster"]["apiVersion"] == "ray.io/v1"
    assert set(groups) == {"head", "gpu", "cpu"}
    assert manifests["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_every_pod_mounts_the_one_volume(
    manifests: dict[str, Config], groups: dict[str, Config]
) -> None:
    claim = manifests["PersistentVolumeClaim"]["metadata"]["name"]
    for group in groups.values():
        spec, container = pod(group)
        (mount,) = container["volumeMounts"]
        assert mount["mountPath"] == "/shared"
        volume = {"name": mount["name"], "persistentVolumeClaim": {"claimName": claim}}
        assert spec["volumes"] == [volume]


def test_every_pod_asks_for_the_same_token(groups: dict[str, Config]) -> None:
    for group in groups.values():
        _, container = pod(group)
        values = {entry["name"]: entry for entry in container["env"]}
        assert values["RAY_AUTH_MODE"]["value"] == "token"
        secret = values["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "raymat-token", "key": "auth_token"}
        assert "value" not in values["RAY_AUTH_TOKEN"]  # no token in a file


def test_every_pod_has_requests_and_limits(groups: dict[str, Config]) -> None:
    for name, group in groups.items():
        resources = pod(group)[1]["resources"]
        assert set(resources) == {"requests", "limits"}
        assert {"cpu", "memory"} <= set(resources["limits"])
        assert ("nvidia.com/gpu" in resources["limits"]) == (name == "gpu")
    assert groups["head"]["rayStartParams"]["num-cpus"] == "0"


def test_head_is_reached_from_its_own_pods_only(
    manifests: dict[str, Config], groups: dict[str, Config]
) -> None:
    assert groups["head"]["serviceType"] == "ClusterIP"
    assert [port["containerPort"] for port in pod(groups["head"])[1]["ports"]] == [6379]
    own = {"matchLabels": {"ray.io/cluster": manifests["RayCluster"]["metadata"]["name"]}}
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == own
    assert policy["ingress"] == [{"from": [{"podSelector": own}]}]


def test_ray_is_the_pinned_one(manifests: dict[str, Config], groups: dict[str, Config]) -> None:
    version = pinned("ray")
    project = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    (needed,) = re.findall(r'"(ray\[tune\][^"]+)"', project)
    assert Requirement(needed).specifier.contains(version)
    assert manifests["RayCluster"]["spec"]["rayVersion"] == version
    dockerfile = (CLUSTERS / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM rayproject/ray:{version}-py311\n" in dockerfile
    assert f'"ray[default]=={version}"' in dockerfile
    assert torch_of_the_makefile() in dockerfile
    (tag,) = re.findall(r"docker build .* -t (\S+) \.", dockerfile)
    assert f"ray{version}-py311" in tag
    assert {pod(group)[1]["image"] for group in groups.values()} == {tag}


def test_image_is_made_of_what_the_checkout_has() -> None:
    dockerfile = (CLUSTERS / "Dockerfile").read_text(encoding="utf-8")
    copied = [line.split()[2:-1] for line in dockerfile.splitlines() if line.startswith("COPY")]
    names = [name for line in copied for name in line]
    assert {"pyproject.toml", "constraints.txt", "raymat"} <= set(names)
    assert [name for name in names if not (PROJECT / name).exists()] == []


# --- SLURM ----------------------------------------------------------------------------------------

SLURM = CLUSTERS / "slurm.sh"
ASKED = 3  # exit code of the made-up raymat that fails
MADE_UP = {
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "ray": 'echo "$@" > "$HERE/ray"; while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
    "scontrol": 'echo "$@" > "$HERE/scontrol"',
    # Runs until it is told to end, as long as the test lets it; then fails, if it was asked to.
    "raymat": 'echo "$@" > "$HERE/raymat.new"; trap "exit 130" TERM;'
    ' mv "$HERE/raymat.new" "$HERE/raymat"; while [ -e "$HERE/busy" ]; do sleep 0.1; done;'
    ' exit "${CODE:-0}"',
}


class Job:
    """The script with a shell's stand-ins for SLURM, Ray and raymat."""

    def __init__(self, here: Path) -> None:
        self.here, self.run = here, here / "runs" / "first"
        folder = here / "bin"
        folder.mkdir()
        for name, content in MADE_UP.items():
            (folder / name).write_text(f"#!/bin/bash\n{content}\n", encoding="utf-8")
            (folder / name).chmod(0o755)
        (here / "activate").touch()
        activate = "/shared/raymat-venv/bin/activate"
        text = SLURM.read_text(encoding="utf-8")
        assert activate in text
        self.script = here / "slurm.sh"
        self.script.write_text(text.replace(activate, f"{here}/activate"), encoding="utf-8")
        self.environment = {
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "HERE": str(here),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "4",
        }

    def start(self, **environment: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["bash", str(self.script), str(self.run)],
            env={**self.environment, **environment},
            cwd=self.here,
        )

    def said(self, name: str) -> str | None:
        """Give what one of the stand-ins was called with, if it was."""
        path = self.here / name
        return path.read_text(encoding="utf-8").strip() if path.exists() else None

    def wait_for_raymat(self) -> None:
        deadline = time.monotonic() + 30.0
        while self.said("raymat") is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    (job.here / "busy").unlink(missing_ok=True)


def test_script_is_shell() -> None:
    assert subprocess.run(["bash", "-n", str(SLURM)], check=False).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    check = subprocess.run(["shellcheck", str(SLURM)], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout


def test_slurm_reads_every_option_of_the_script() -> None:
    lines = SLURM.read_text(encoding="utf-8").splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert max(options) < first_command  # sbatch stops reading there
    assert not [lines[i] for i in options if not re.fullmatch(r"#SBATCH --[\w-]+(=\S+)?", lines[i])]
    assert {"#SBATCH --requeue", "#SBATCH --exclusive"} <= {lines[i] for i in options}


def test_new_run_is_searched_on_all_nodes(job: Job) -> None:
    assert job.start().wait(30) == 0
    asked = (job.said("raymat") or "").split()
    assert asked[:1] == ["tune"]
    assert asked[asked.index("--out") + 1] == str(job.run)
    assert asked[asked.index("--address") + 1] == "auto"
    assert job.said("scontrol") is None


def test_ray_knows_every_option_of_the_script(job: Job) -> None:
    job.start().wait(30)
    command, *arguments = (job.said("ray") or "").split()
    assert command == "symmetric-run"
    arguments = arguments[: arguments.index("--")]
    context = symmetric_run.make_context("symmetric-run", list(arguments), resilient_parsing=True)
    assert context.params["min_nodes"] == 2
    assert re.fullmatch(r"[\d.]+:2\d{4}", context.params["address"])
    options = curate_and_validate_ray_start_args(arguments)
    given = start.make_context("start", [*options, "--address=x"], resilient_parsing=True)
    assert given.params["num_cpus"] == 4
    with pytest.raises(click.NoSuchOption, match="no-such"):
        start.make_context("start", ["--no-such"])


def test_interrupted_run_is_resumed(job: Job) -> None:
    job.run.mkdir(parents=True)
    (job.run / "run.json").write_text("{}", encoding="utf-8")
    assert job.start().wait(30) == 0
    assert job.said("raymat") == f"resume {job.run}"


def test_time_limit_ends_raymat_and_brings_the_job_back(job: Job) -> None:
    (job.here / "busy").touch()
    process = job.start()
    job.wait_for_raymat()
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 130
    assert job.said("scontrol") == f"requeue {job.environment['SLURM_JOB_ID']}"


def test_failed_run_does_not_come_back(job: Job) -> None:
    assert job.start(CODE=str(ASKED)).wait(30) == ASKED
    assert job.said("raymat")
    assert job.said("scontrol") is None
