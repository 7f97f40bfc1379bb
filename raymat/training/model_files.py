"""A trained model on disk: weights as safetensors, everything else as JSON. No pickle."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from raymat import __version__
from raymat.config import Config, build_config
from raymat.data.composition import SYMBOLS
from raymat.data.scaling import TargetScaling
from raymat.errors import ModelFileError, RaymatError, RunError
from raymat.features.table import FeatureTable, FeatureView
from raymat.models import load_spec
from raymat.models._spec import CrystalModel, ModelSpec, Output
from raymat.models._weights import load_weights
from raymat.properties import Task
from raymat.reading import check_types, read_json, regular_file
from raymat.text import quoted
from raymat.tracking.own_files import refuse_links
from raymat.tracking.run_directory import read_header
from raymat.training.predict import predict_rows

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
_REQUIRED: dict[str, type] = {
    **dict.fromkeys(("model", "target", "unit", "task"), str),
    **dict.fromkeys(("config", "scaling", "training"), dict),
    "elements": list,
}


@dataclass(frozen=True)
class TrainedModel:
    """A network and everything needed to predict with it.

    Attributes:
        name: of the model, its file in `raymat/models`.
        config: its configuration.
        network: in evaluation mode.
        target: property it predicts.
        unit: of the prediction.
        task: regression, or classification (it then predicts P(class 1)).
        scaling: between network output and unit.
        threshold: of a number that was learned as classes: class 1 lies above it; else None.
        class_names: of class 0 and class 1, where the values of the target made it a class.
        elements: atomic numbers met in training, ascending.
        training: how it was trained, for the reader: settings, seed, epochs, data.
        predicts_noise: whether it gives a variance besides the number.
    """

    name: str
    config: Config
    network: CrystalModel[Any]
    target: str
    unit: str
    task: Task
    scaling: TargetScaling
    threshold: float | None
    elements: tuple[int, ...]
    training: dict[str, Any]
    predicts_noise: bool = False
    class_names: tuple[str, str] | None = None

    @property
    def output(self) -> Output:
        """What the network gives."""
        return "gaussian" if self.predicts_noise else self.task

    @property
    def view(self) -> FeatureView:
        """What the network reads of a crystal."""
        return load_spec(self.name).reads(self.config)

    @property
    def views(self) -> tuple[FeatureView, ...]:
        """What the network reads, as an ensemble of one has it."""
        return (self.view,)

    def predict(self, table: FeatureTable, device: str = "cpu") -> NDArray[np.float64]:
        """Predict all crystals of a table: (n_crystals,) in `unit`, or P(class 1).

        Raises:
            ValueError: the table does not hold what the model reads.
        """
        return predict_rows(
            self.network.to(device),
            table,
            np.arange(len(table)),
            view=self.view,
            scaling=self.scaling,
            task=self.task,
            device=torch.device(device),
        )


def save_model(model: TrainedModel, folder: Path) -> None:
    """Write `model.safetensors` and `model.json` into a folder, made if missing.

    Raises:
        RunError: they cannot be written.
    """
    weights = {k: v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
    description = {
        "raymat": __version__,
        "model": model.name,
        "config": model.config.model_dump(mode="json"),
        "target": model.target,
        "unit": model.unit,
        "task": model.task,
        "output": model.output,
        "scaling": asdict(model.scaling),
        "threshold": model.threshold,
        "class_names": model.class_names,
        "elements": list(model.elements),
        "n_parameters": model.network.n_parameters,
        "training": model.training,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, folder / WEIGHTS)
        description["weights_sha256"] = _hash(folder / WEIGHTS)
        text = json.dumps(description, indent=2) + "\n"
        (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    except (OSError, SafetensorError) as cause:
        raise RunError(f"{folder}: the model cannot be written ({cause})") from cause


def find_model(folder: Path) -> Path:
    """Return the model folder: the one named, or the one inside the run directory named.

    Raises:
        ModelFileError: the folder has no model of its own; the message says where one lies.
        RunError: a link leads out of the folder.
    """
    refuse_links(folder)
    inside = folder / "best"
    for own in (folder, inside):
        if (own / DESCRIPTION).exists():
            return own
    where = _say_where_models_lie(folder)
    if where:
        raise ModelFileError(f"{folder}: {where}")
    return folder


def _say_where_models_lie(folder: Path) -> str:
    """Return what to name instead of a folder without a model; "" where nothing is known."""
    try:
        header = read_header(folder) if (folder / "run.json").exists() else {}
    except RunError:
        return ""
    if (folder / "ensemble.json").exists():
        return "an ensemble; name one member, such as members/0000 in it"
    command, asked = str(header.get("command", "")), header.get("arguments") or {}
    a_run = f"{'an' if command[:1] in set('aeiou') else 'a'} {command} run"
    below = [path.parent for pattern in _BELOW for path in sorted(folder.glob(pattern))]
    if below:
        what = f"{a_run} without a model of its own" if command else "not a model"
        many = f"{len(below):,} models lie below it" if len(below) > 1 else "a model lies below it"
        return f"{what}; {many}: name one, such as {below[0]}"
    if command == "screen" and asked.get("ensembles"):
        used = ", ".join(str(path) for path in asked["ensembles"].values())
        return f"{a_run}, which has no model; name an ensemble that it used: {used}"
    if command in ("contributions", "explain") and asked.get("model"):
        return f"{a_run}, which has no model; name the one that it used: {asked['model']}"
    if command in ("tune", "train", "compare") and header.get("status") != "complete":
        place = folder / ("cells" if command == "compare" else "best")
        return (
            f"{a_run} that is {header.get('status')} and has no model yet; models will lie in"
            f" {place} (see `raymat status {shlex.quote(str(folder))}`)"
        )
    return f"{a_run}, which has no model" if command else ""


# Where models lie in a folder of runs, in a comparison, and among the members of an ensemble.
_BELOW = ("*/ensemble.json", *(f"{way}/{DESCRIPTION}" for way in ("*/best", "*/*/best", "*")))


def load_model(folder: Path) -> TrainedModel:
    """Read a model folder; nothing is unpickled.

    Weights must be finite and, where `model.json` has their checksum, those that were written;
    folders of earlier versions have none.

    Raises:
        ModelFileError: a file is missing, damaged, or does not hold what it should.
        RunError: a link leads out of the folder.
    """
    refuse_links(folder)
    description = _read_description(folder)
    try:
        check_types(description, _REQUIRED, {"threshold": float, "output": str})
        check_types(description["scaling"], {"mean": float, "std": float})
        name, task = description["model"], description["task"]
        spec = load_spec(name)
        output = _read_output(description, spec, where=f"{folder / DESCRIPTION}")
        config = build_config(spec.config, description["config"], where=f"{folder / DESCRIPTION}")
        network = spec.build(config, output)
        load_weights(
            network, load_file(regular_file(folder / WEIGHTS)), where=f"{folder / WEIGHTS}"
        )
        _check_sum(folder, description.get("weights_sha256"))
        _check_facts(description, where=f"{folder / DESCRIPTION}")
        names = description.get("class_names")
        return TrainedModel(
            name=name,
            config=config,
            network=network.eval(),
            target=description["target"],
            unit=description["unit"],
            task=task,
            scaling=TargetScaling(**description["scaling"]),
            threshold=description.get("threshold"),
            class_names=None if names is None else (names[0], names[1]),
            elements=read_elements(description),
            training=description["training"],
            predicts_noise=output == "gaussian",
        )
    except RaymatError:
        raise
    except KeyError as cause:
        raise ModelFileError(f"{folder / DESCRIPTION}: the key {cause} is missing") from cause
    except ValueError as cause:
        raise ModelFileError(f"{folder / DESCRIPTION}: {cause}") from cause
    except (OSError, SafetensorError, RuntimeError, TypeError) as cause:
        first_line = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise ModelFileError(f"{folder / WEIGHTS}: cannot be loaded ({first_line})") from cause


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sum(folder: Path, expected: object) -> None:
    if expected is not None and _hash(folder / WEIGHTS) != expected:
        raise ModelFileError(
            f"{folder / WEIGHTS}: not the weights that {DESCRIPTION} was written with (its SHA-256"
            " differs); copy both files again"
        )


def _check_facts(description: dict[str, Any], *, where: str) -> None:
    """Refuse numbers with which every prediction would be wrong.

    Raises:
        ModelFileError: one of them stands there.
    """
    scaling, names = description["scaling"], description.get("class_names")
    if scaling.get("std", 1.0) <= 0:
        raise ModelFileError(f"{where}: scaling: std is {scaling['std']:g}, expected above 0")
    if names is not None and not (
        isinstance(names, list) and [type(n) for n in names] == [str] * 2
    ):
        raise ModelFileError(f"{where}: class_names are {quoted(names)}, expected two words")


def read_elements(description: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the elements of a stored model or ensemble.

    Raises:
        KeyError: there are none.
        ValueError: one is no atomic number.
    """
    elements = description["elements"]
    for z in elements:
        if not isinstance(z, int) or isinstance(z, bool) or not 1 <= z <= len(SYMBOLS):
            raise ValueError(f"'elements' must be atomic numbers, found {quoted(z)}")
    return tuple(elements)


def _read_output(description: dict[str, Any], spec: ModelSpec, *, where: str) -> Output:
    """Give what the network gives; files of earlier versions name the task only."""
    task = description["task"]
    if task not in get_args(Task):
        raise ModelFileError(f"{where}: task {task!r} is not one of {get_args(Task)}")
    possible = (task, "gaussian") if (task, spec.fit) == ("regression", "gradient") else (task,)
    output: Output = description.get("output", task)
    if output not in possible:
        raise ModelFileError(
            f"{where}: output {output!r} is none that {description['model']} has for task"
            f" {task!r}; expected one of {possible}"
        )
    return output


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        content = read_json(path)
    except FileNotFoundError:
        if not folder.exists():
            raise ModelFileError(
                f"{folder}: no such folder; expected a model folder, such as RUN/best"
            ) from None
        hint = " (a run directory keeps its model in best/)" if (folder / "best").is_dir() else ""
        raise ModelFileError(f"{folder}: no {DESCRIPTION} here{hint}") from None
    except (OSError, ValueError) as cause:
        raise ModelFileError(f"{path}: cannot be read ({cause})") from cause
    return content
