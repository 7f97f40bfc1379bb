"""How much of a GPU one training takes: measured on the corners of a space, before the first trial.

Networks of crystals are small; several trainings share a GPU, and how many is a matter of memory.
"""

import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor

from raymat.cluster.on_nodes import call_on_nodes
from raymat.cluster.tasks import result_of, start_task
from raymat.errors import ClusterError
from raymat.models import load_spec
from raymat.tracking.run_directory import RunDirectory
from raymat.training.device import sees_gpu
from raymat.training.fit import FitData
from raymat.training.gpu_memory import CONTEXT_BYTES, gpu_bytes, measure_peak_bytes
from raymat.training.gradient import GradientFit
from raymat.training.loops import start_fit
from raymat.tuning.request import TuneRequest
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Resources
from raymat.tuning.space_features import configurations_of
from raymat.tuning.trial_config import BATCH_SIZE, TrialConfig

MEASURED = "gpu_share"  # the event
# Batches differ, and memory is handed out in blocks: some room beyond what was measured.
HEADROOM = 1.25
# More processes than this on one GPU wait for each other rather than for memory.
MOST_ON_ONE = 8
_DIGITS = 10_000  # Ray counts resources in ten-thousandths


@dataclass(frozen=True)
class MemoryNeed:
    """What the hungriest of some configurations takes of a GPU.

    Attributes:
        n_bytes: of one process, tensors and all; None if not even one batch fits.
        gpu_bytes: that the GPU has.
        values: of the configuration: those of the model, and the batch size.
        host: where it was measured.
        n_probes: configurations that were tried.
    """

    n_bytes: int | None
    gpu_bytes: int
    values: dict[str, object]
    host: str
    n_probes: int


def share_gpus(
    resources: Resources, configs: Iterable[TrialConfig], data: FitData, run: RunDirectory
) -> Resources:
    """Measure what trainings take of a GPU, and give resources with that share; log it.

    A run that was interrupted keeps the share it began with.

    Args:
        resources: that a training would occupy; they come back as they are without a GPU.
        configs: such as those at the ends of a space.
        data: what a fit may see.
        run: whose log hears of it.

    Raises:
        ClusterError: Ray hands out GPUs that PyTorch does not see.
    """
    corners = _corners(configs)
    if resources.gpu == 0 or not corners:
        return resources
    known = [event["gpu"] for event in run.events() if event["event"] == MEASURED]
    if known:
        return resources.model_copy(update={"gpu": known[-1]})
    task = start_task(measure, corners, data, cpu=resources.cpu, gpu=resources.gpu)
    need: MemoryNeed = result_of(task, run)
    smallest = _smallest_gpu(need.gpu_bytes)
    share = share_of(need.n_bytes, smallest)
    run.emit(MEASURED, gpu=share, **{**vars(need), "gpu_bytes": smallest})
    return resources.model_copy(update={"gpu": share})


def share_for_trials(
    resources: Resources, request: TuneRequest, space: SearchSpace, data: FitData, run: RunDirectory
) -> Resources:
    """Give the resources of a search's trials, their share of a GPU measured unless it was given.

    Raises:
        ClusterError: see `share_gpus`.
    """
    if request.gpus is not None or space.resources is not None:
        return resources
    return share_gpus(resources, configurations_of(space), data, run)


def share_of(n_bytes: int | None, gpu_memory: int) -> float:
    """Give the share of a GPU for a process of `n_bytes`: 1, or one part of equal parts."""
    if n_bytes is None:
        return 1.0
    fit = floor(gpu_memory / (HEADROOM * n_bytes))
    return floor(_DIGITS / min(max(fit, 1), MOST_ON_ONE)) / _DIGITS


def measure(configs: Sequence[TrialConfig], data: FitData) -> MemoryNeed:
    """Train a little with every configuration and give what the hungriest takes; a Ray task.

    Raises:
        ClusterError: PyTorch sees no GPU here.
    """
    if not sees_gpu():
        raise ClusterError(
            f"Ray hands out a GPU on {platform.node()}, but PyTorch sees none there; `raymat doctor"
            " --address ADDRESS` says why, --gpus 0 trains on CPUs"
        )
    most, hungriest = 0, configs[0]
    for config in configs:
        n_bytes = measure_peak_bytes(_start(config, data))
        if n_bytes is None:
            return _need(None, config, len(configs))
        if n_bytes > most:
            most, hungriest = n_bytes, config
    return _need(most + CONTEXT_BYTES, hungriest, len(configs))


def _start(config: TrialConfig, data: FitData) -> GradientFit:
    fit = start_fit(
        load_spec(config.model),
        config.architecture,
        config.training,
        data=data,
        seed=0,
        device="cuda",
    )
    assert isinstance(fit, GradientFit)
    return fit


def _need(n_bytes: int | None, config: TrialConfig, n_probes: int) -> MemoryNeed:
    return MemoryNeed(n_bytes, gpu_bytes(), _sizes(config), platform.node(), n_probes)


def _corners(configs: Iterable[TrialConfig]) -> list[TrialConfig]:
    """Give the networks among them, one for each set of values that memory depends on."""
    networks = [config for config in configs if load_spec(config.model).fit == "gradient"]
    differing = {(c.model, str(sorted(_sizes(c).items()))): c for c in networks}
    return list(differing.values())


def _sizes(config: TrialConfig) -> dict[str, object]:
    flat = config.flat()
    return {key: v for key, v in flat.items() if key.startswith("model.") or key == BATCH_SIZE}


def _smallest_gpu(known: int) -> int:
    """Give the memory of the smallest GPU of the cluster, where the driver tells it."""
    told = [answer for answer in call_on_nodes(_driver_bytes).values() if isinstance(answer, int)]
    return min([known, *told])


def _driver_bytes() -> int | None:
    """Give the memory of the smallest GPU of this host; None where no driver tells."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20.0, check=False)
    sizes = [int(line) for line in done.stdout.split() if line.isdigit()]
    return min(sizes) * 2**20 if sizes else None
