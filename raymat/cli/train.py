"""``raymat train``: fit one configuration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymat.cli import options
from raymat.cli.wandb_option import WandbOption, projecting
from raymat.errors import ConfigError, did_you_mean
from raymat.text import quoted

if TYPE_CHECKING:
    from raymat.data.splits import SplitConfig

app = typer.Typer(add_completion=False)

_KEYS = (
    "model",
    "config",
    "seed",
    "data",
    "target",
    "classes",
    "split",
    "max_rejected",
    "stop_after",
)


@app.command()
def train(
    config: Annotated[
        Path,
        typer.Option(
            "--config",
            metavar="FILE",
            help="A configuration, such as the best.yaml of a run.",
            show_default=False,
        ),
    ],
    data: options.Data = None,
    target: options.Target = None,
    classes: options.Classes = None,
    split: options.Split = None,
    max_rejected: options.MaxRejected = None,
    seed: options.Seed = None,
    epochs: options.Epochs = None,
    gpus: options.OneGpu = None,
    threads: options.Threads = 1,
    out: options.Out = None,
    wandb: WandbOption = None,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Fit one configuration and score it once on the test rows.

    Data, target, split and seed stand in the file; options take their place. Another --seed trains
    anew on the file's split, so scores stay comparable; it draws the split, too, if the file names
    none. On a CPU with one thread, the default, the same seed gives the same numbers to the last
    bit.

    Example: raymat train --config runs/tune-cgcnn-20250301-101500/best.yaml --seed 1
    """
    given = {
        "data": data,
        "target": target,
        "seed": seed,
        "classes": options.parse_classes(classes),
        "max_rejected": max_rejected,
        "gpus": gpus,
        "threads": threads,
    }
    content = read_config(config, epochs)
    from raymat.cli.progress import RunProgress
    from raymat.cli.results import show_train_result
    from raymat.cli.runs import running

    folder = out or options.default_run_directory("train", str(content["model"]))
    progress = RunProgress(f"train {content['model']}", quiet=quiet)
    with projecting(folder, wandb) as listeners:
        with running(folder, progress):
            from raymat.config import build_config
            from raymat.tuning.train import TrainRequest
            from raymat.tuning.train import train as run_train

            values = _request_values(content, given, config, kind=split)
            request = build_config(TrainRequest, values, where=str(config))
            metrics = run_train(request, folder, listeners=(progress, *listeners))
        show_train_result(metrics, folder)


def read_config(path: Path, epochs: int | None) -> dict[str, Any]:
    """Read and check a configuration file; `epochs` takes the place of those in it.

    Raises:
        ConfigError: a key is unknown, or the configuration cannot be built.
    """
    from raymat.config import read_yaml
    from raymat.tuning.trial_config import TrialConfig, flat_config

    content = read_yaml(path)
    for key in content:
        if key not in _KEYS:
            raise ConfigError(
                f"{path}: '{key}' is not a key of a configuration{did_you_mean(str(key), _KEYS)}"
            )
    content["config"] = flat_config(content, where=str(path))
    if epochs is not None:
        content["config"]["training.epochs"] = epochs
        content.pop("stop_after", None)  # it belongs to the epochs of the file
    TrialConfig.from_dict(content, where=str(path))
    return content


def _request_values(
    content: dict[str, Any],
    given: dict[str, Any],
    path: Path,
    *,
    kind: options.SplitKind | None,
) -> dict[str, Any]:
    asked = {key: value for key, value in given.items() if value is not None}
    merged = {key: content[key] for key in _KEYS[2:] if content.get(key) is not None} | asked
    if kind is not None or {"seed", "data", "target", "classes"} & asked.keys():
        merged.pop("stop_after", None)  # another training may be best at another epoch
    for key in ("data", "target"):
        if key not in merged:
            raise ConfigError(f"{path}: names no {key}; add it, or give --{key}")
    split = read_split(content.get("split"), path)
    return {
        **merged,
        "config": {"model": content["model"], "config": content.get("config", {})},
        "config_path": str(path),
        "data": options.absolute_source(str(merged["data"])),
        "split": options.choose_split(split, kind, given["seed"] if split is None else None),
    }


def read_split(content: Any, path: Path) -> "SplitConfig | None":
    """Give the split that a configuration file names, if it names one.

    Raises:
        ConfigError: it cannot be used.
    """
    from raymat.config import build_config
    from raymat.data.splits import SplitConfig

    if content is None:
        return None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: split: takes keys and values, found {quoted(content)}")
    return build_config(SplitConfig, content, where=f"{path}: split")
