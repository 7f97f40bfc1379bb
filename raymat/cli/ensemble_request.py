"""What ``raymat ensemble`` is asked for: by a configuration file, or by a search that has ended."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymat.cli import options
from raymat.errors import ConfigError, RunError

if TYPE_CHECKING:
    from raymat.cluster.ensemble import EnsembleRequest
    from raymat.data.splits import SplitConfig
    from raymat.tuning.study import TrialRecord

_TOP = 10  # trials of a search, unless told
_WHOLE = 1.0  # share of the training rows that members from a search learn from, unless told
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
        whole = asked.get("fraction", _WHOLE) == _WHOLE
        values = _from_search(
            Path(str(search)), _TOP if top is None else top, epochs, distinct=whole
        )
        where = str(search)
    base, named = values.pop("split"), values.get("data")
    values |= asked
    for key in ("data", "target"):
        if values.get(key) is None:
            raise ConfigError(f"{where}: names no {key}; add it, or give --{key}")
    values["data"] = options.absolute_source(str(values["data"]))
    values["split"] = options.choose_split(base, split, asked.get("seed") if base is None else None)
    if config is not None:
        values["selection"] = _overridden(where, named, base, values)
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


def _overridden(
    where: str, data: Any, split: "SplitConfig | None", values: dict[str, Any]
) -> dict[str, Any] | None:
    """Say what the file names and options replace: what it was chosen on may be tested on."""
    is_other = {
        "data": data is not None and options.absolute_source(str(data)) != values["data"],
        "split": split is not None and split != values["split"],
    }
    keys = [key for key, other in is_other.items() if other]
    return {"source": where, "overridden": keys} if keys else None


def _from_search(run: Path, top: int, epochs: int | None, *, distinct: bool) -> dict[str, Any]:
    """Give the best trials of a search as configurations; each member learns from all rows.

    With `distinct`, trials of a closed form that repeat a better one's configuration are passed
    over: their members would be the same.
    """
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
        best = study.best_trials(len(study.trials))
    except RunError as cause:
        raise RunError(f"{run}: {cause}") from cause
    model = arguments["space"]["model"]
    best = _without_repeats(model, best)[:top] if distinct else best[:top]
    configs = [{"model": model, "config": _with_epochs(trial.config, epochs)} for trial in best]
    split: SplitConfig = build_config(SplitConfig, arguments["split"], where=f"{run}/run.json")
    return {
        **{key: arguments.get(key) for key in _FROM_FILE},
        "configs": configs,
        "config_path": str(run),
        "split": split,
        "members": max(2, len(configs)),
        "fraction": _WHOLE,
        "weights": "greedy",
        "selection": {
            "source": str(run),
            "data_sha256": header.get("data", {}).get("sha256"),
            "split_sha256": header.get("split", {}).get("sha256"),
        },
    }


def _without_repeats(model: str, trials: list["TrialRecord"]) -> list["TrialRecord"]:
    from raymat.models import load_spec
    from raymat.tuning.trial_config import build_trial_config

    if load_spec(model).fit != "closed_form":
        return trials  # their seeds differ
    configs = [build_trial_config(model, trial.config, where=f"{model}") for trial in trials]
    return [t for i, t in enumerate(trials) if configs[i] not in configs[:i]]


def _with_epochs(config: dict[str, Any], epochs: int | None) -> dict[str, Any]:
    return config if epochs is None else {**config, "training.epochs": epochs}


def _build(values: dict[str, Any]) -> "EnsembleRequest":
    from raymat.cluster.ensemble import EnsembleRequest
    from raymat.config import build_config

    request = build_config(EnsembleRequest, values, where="options")
    request.trial_configs()
    return request
