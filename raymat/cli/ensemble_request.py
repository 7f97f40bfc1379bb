"""What ``raymat ensemble`` is asked for: by a configuration file, or by a search that has ended."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymat.cli import options
from raymat.errors import ConfigError, RunError

if TYPE_CHECKING:
    from raymat.cluster.ensemble import EnsembleRequest

_TOP = 10  # trials of a search, unless told
_FROM_FILE = ("data", "target", "classes", "max_rejected")


def choose_request(
    config: Path | None,
    search: Path | None,
    *,
    top: int | None,
    epochs: int | None,
    split: options.SplitKind | None,
    asked: dict[str, Any],
) -> "EnsembleRequest":
    """Join file and options; what is asked for takes the place of what the file says.

    Raises:
        ConfigError: neither or both of the files are given, or one cannot be used.
        RunError: the search has no finished trial, or is none.
    """
    if (config is None) == (search is None):
        raise ConfigError("give either --config FILE or --from-search RUN")
    if config is not None:
        if top is not None:
            raise ConfigError("--top goes with --from-search RUN")
        values = _from_config(config, epochs)
        where = str(config)
    else:
        values = _from_search(Path(str(search)), _TOP if top is None else top, epochs)
        where = str(search)
    base = values.pop("split")
    values |= asked
    for key in ("data", "target"):
        if values.get(key) is None:
            raise ConfigError(f"{where}: names no {key}; add it, or give --{key}")
    values["data"] = options.absolute_source(str(values["data"]))
    values["split"] = options.choose_split(base, split, None)
    return _build({key: value for key, value in values.items() if value is not None})


def _from_config(path: Path, epochs: int | None) -> dict[str, Any]:
    from raymat.cli.train import read_config, read_split

    content = read_config(path, epochs)
    return {
        **{key: content.get(key) for key in _FROM_FILE},
        "configs": [{"model": content["model"], "config": content.get("config", {})}],
        "config_path": str(path),
        "split": read_split(content.get("split"), path),
    }


def _from_search(run: Path, top: int, epochs: int | None) -> dict[str, Any]:
    """Give the best trials of a search as configurations; each member learns from all rows."""
    from raymat.config import build_config
    from raymat.data.splits import SplitConfig
    from raymat.tracking.events import read_events
    from raymat.tracking.run_directory import read_header
    from raymat.tuning.study import Study

    header = read_header(run)
    if header.get("command") != "tune":
        raise RunError(f"{run}: a {header.get('command')} run, not a tune run")
    arguments = header["arguments"]
    study = Study.from_events(read_events(run / "events.jsonl"), header.get("task", "regression"))
    try:
        best = study.best_trials(top)
    except RunError as cause:
        raise RunError(f"{run}: {cause}") from cause
    model = arguments["space"]["model"]
    configs = [{"model": model, "config": _with_epochs(trial.config, epochs)} for trial in best]
    split: SplitConfig = build_config(SplitConfig, arguments["split"], where=f"{run}/run.json")
    return {
        **{key: arguments.get(key) for key in _FROM_FILE},
        "configs": configs,
        "config_path": str(run),
        "split": split,
        "members": max(2, len(configs)),
        "fraction": 1.0,
        "weights": "greedy",
    }


def _with_epochs(config: dict[str, Any], epochs: int | None) -> dict[str, Any]:
    return config if epochs is None else {**config, "training.epochs": epochs}


def _build(values: dict[str, Any]) -> "EnsembleRequest":
    from raymat.cluster.ensemble import EnsembleRequest
    from raymat.config import build_config

    request = build_config(EnsembleRequest, values, where="options")
    request.trial_configs()
    return request
