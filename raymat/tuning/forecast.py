"""What the trials of a space will need, told before anything is computed."""

from collections.abc import Iterable

from raymat.data.crystals import CrystalSet
from raymat.errors import ConfigError
from raymat.features.memory import available_memory
from raymat.features.table import TableConfig
from raymat.models import load_spec
from raymat.properties import Task
from raymat.training.forecast import count_parameters, count_training_bytes
from raymat.tuning.trial_config import TrialConfig, default_values


def check_memory(
    configs: Iterable[TrialConfig], crystals: CrystalSet, task: Task, *, n_workers: int
) -> None:
    """Check that the features and the network of every configuration fit into memory.

    Args:
        configs: such as those at the ends of a space.
        crystals: that features are made of.
        task: of the networks.
        n_workers: processes that compute at the same time on this machine.

    Raises:
        ConfigError: they do not; the message says what needs how much, and what to do.
    """
    free = available_memory()
    seen = set[TableConfig]()
    for config in configs:
        table = load_spec(config.model).reads(config.architecture).table_config
        if table not in seen:
            table.check_memory(crystals, free, n_workers=n_workers)
            seen.add(table)
        _check_network(config, task, free, n_workers)


def _check_network(config: TrialConfig, task: Task, free: int, n_workers: int) -> None:
    n_parameters = count_parameters(load_spec(config.model), config.architecture, task)
    needed = n_workers * count_training_bytes(n_parameters)
    if needed > free:
        raise ConfigError(
            f"{config.model} has {n_parameters:,} parameters with {_changes(config)}: training"
            f" {n_workers} at a time takes {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free;"
            " make the network or what it reads smaller, or lower --concurrency"
        )


def _changes(config: TrialConfig) -> str:
    """Name the sizes that differ from their defaults."""
    flat = config.flat()
    sizes = {k: v for k, v in flat.items() if k.startswith("model.") and isinstance(v, int)}
    defaults = default_values(sizes, config.model)
    changed = [f"{key} {value}" for key, value in sizes.items() if value != defaults[key]]
    return ", ".join(changed) or "its defaults"
