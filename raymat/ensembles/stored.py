"""An ensemble on disk: its members' folders, `ensemble.json`, and its training rows' domain.

::

    ensemble.json               members, weights, target, unit, recalibration
    split.parquet               which rows the members learned from, selected by, and never saw
    domain.npz                  latent vectors of the training rows, in the reference member
    learned.parquet             the training and validation crystals, to know them again
    members/0057/               a model folder like any other, and
    members/0057/outputs.npz    its predictions of the run's own crystals
"""

import os
import shlex
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat import __version__
from raymat.data.crystals import CrystalSet
from raymat.data.duplicates import KnownCrystals
from raymat.data.raw import is_row_number
from raymat.data.readers import load_crystals
from raymat.ensembles.domain import LatentDomain
from raymat.ensembles.members import member_name
from raymat.ensembles.predictions import MemberPredictions
from raymat.ensembles.recalibration import SplitConformal, StdScaling
from raymat.errors import DataError, ModelFileError, RaymatError, RunError
from raymat.features.store import FeatureStore
from raymat.features.table import FeatureView
from raymat.properties import Task
from raymat.reading import check_types, open_file, read_json, regular_file
from raymat.text import quoted
from raymat.tracking.own_files import refuse_links
from raymat.tracking.run_directory import RunDirectory
from raymat.training.members import latent_vectors, predict_members
from raymat.training.model_files import TrainedModel, load_model, read_elements, save_model
from raymat.training.results import FitResult

DESCRIPTION, DOMAIN, SPLIT = "ensemble.json", "domain.npz", "split.parquet"
LEARNED = "learned.parquet"
MEMBERS, OUTPUTS = "members", "outputs.npz"
_REQUIRED: dict[str, type] = {
    **dict.fromkeys(("members", "weights", "elements"), list),
    **dict.fromkeys(("target", "unit", "task"), str),
    "planned": int,
}
_OPTIONAL: dict[str, type] = {"threshold": float, "recalibration": dict, "intervals": dict}
# What numpy raises for an npz file that is torn, empty, or lacks an array.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Ensemble:
    """Trained members and how they are combined.

    Attributes:
        folder: the run that trained them.
        numbers: of the members, ascending; a member that failed twice is missing.
        members: the models, in the order of their numbers.
        reference: the member in whose latent space the domain lies.
        weights: (n_members,) shares of the members, sum 1.
        n_planned: members that the run was asked for.
        target: property they predict.
        unit: of the predictions.
        task: regression, or classification (they then predict P(class 1)).
        threshold: of a number that was learned as classes: class 1 lies above it; else None.
        class_names: of class 0 and class 1, where the values of the target made it a class.
        recalibration: factor on the spread, fitted on validation rows; None for classes.
        intervals: of rows like the validation rows; None for classes.
        domain: of the training rows; None if it could not be made.
        elements: atomic numbers met in training, ascending.
        learned_from: ids of the training and validation rows, without those that are row numbers
            only; None if they are not known.
        learned: the training and validation crystals; None where they were not stored.
    """

    folder: Path
    numbers: tuple[int, ...]
    members: tuple[TrainedModel, ...]
    reference: TrainedModel
    weights: NDArray[np.float64]
    n_planned: int
    target: str
    unit: str
    task: Task
    threshold: float | None
    recalibration: StdScaling | None
    domain: LatentDomain | None
    elements: tuple[int, ...]
    learned_from: frozenset[str] | None = None
    learned: KnownCrystals | None = None
    intervals: SplitConformal | None = None
    class_names: tuple[str, str] | None = None

    @property
    def views(self) -> tuple[FeatureView, ...]:
        """What the members read of a crystal, each once."""
        return tuple(dict.fromkeys(member.view for member in self.members))

    def take(self, numbers: Collection[int]) -> "Ensemble":
        """Give the same ensemble with the members of these numbers only, their weights scaled.

        Raises:
            DataError: none of them has any weight.
        """
        places = [i for i, number in enumerate(self.numbers) if number in numbers]
        weights = self.weights[places]
        if weights.sum() <= 0:
            raise DataError(
                f"{self.folder}: none of the {len(places)} members asked for has any weight; take"
                " other members, or train an ensemble of equal weights"
            )
        return replace(
            self,
            numbers=tuple(self.numbers[i] for i in places),
            members=tuple(self.members[i] for i in places),
            weights=weights / weights.sum(),
        )

    def predict(self, features: FeatureStore, device: str = "cpu") -> MemberPredictions:
        """Predict all crystals of a store with every member."""
        return predict_together({"": self}, features, device)[""]

    def knows(self, crystals: CrystalSet) -> "pd.arrays.BooleanArray":
        """Return whether members learned from each crystal, or were selected by it.

        Crystals are compared by their structures. An ensemble without these compares ids: NA where
        an id is a row number, which says nothing across files, and where no id is known.
        """
        if self.learned is not None:
            return pd.arrays.BooleanArray(
                self.learned.contains(crystals), np.zeros(len(crystals), dtype=np.bool_)
            )
        known = self.learned_from or frozenset()
        names = [str(name) for name in crystals.material_ids]
        unknown = [not known or is_row_number(name) for name in names]
        return pd.arrays.BooleanArray(
            np.array([name in known for name in names], dtype=np.bool_),
            np.array(unknown, dtype=np.bool_),
        )

    def domain_distances(
        self, features: FeatureStore, device: str = "cpu"
    ) -> NDArray[np.float64] | None:
        """Give (n_crystals,) distances from the training rows over the largest one inside.

        In the latents of the reference member; above 1 a crystal is outside. None without a domain.
        """
        if self.domain is None:
            return None
        if len(features.crystals) == 0:
            return np.zeros(0)
        table = features.find(self.reference.view.table_config)
        latents = latent_vectors(self.reference, table, device=device)
        return self.domain.distances(latents.astype(np.float64)) / self.domain.threshold


def predict_together(
    ensembles: Mapping[str, Ensemble],
    features: FeatureStore,
    device: str = "cpu",
    *,
    blocks: NDArray[np.int64] | None = None,
) -> dict[str, MemberPredictions]:
    """Predict with several ensembles; members that read the same share every batch.

    Args:
        ensembles: by name.
        features: of the crystals.
        device: where to compute.
        blocks: (n_crystals,) no batch goes over from one number to the next. float32 sums depend
            in the last digits on what is computed beside them, so blocks that are fixed make a
            crystal's predictions the same, whatever part of a source it is read with.
    """
    members = [(name, model) for name, ensemble in ensembles.items() for model in ensemble.members]
    n_rows = len(features.crystals)
    values, noise = np.full((2, len(members), n_rows), np.nan)
    groups = [(model.view, model.predicts_noise) for _, model in members]
    for view, predicts_noise in dict.fromkeys(groups):
        is_own = [group == (view, predicts_noise) for group in groups]
        places = np.flatnonzero(is_own)
        models = [members[i][1] for i in places]
        table = features.find(view.table_config)
        for rows in _runs(blocks, n_rows):
            found, spread = predict_members(models, table, rows, device=device)
            values[np.ix_(places, rows)] = found
            if spread is not None:
                noise[np.ix_(places, rows)] = spread
    predictions = {}
    for name, ensemble in ensembles.items():
        own = [i for i, (of, _) in enumerate(members) if of == name]
        has_noise = all(model.predicts_noise for model in ensemble.members)
        predictions[name] = MemberPredictions(
            values[own], noise[own] if has_noise else None, ensemble.weights
        )
    return predictions


def _runs(blocks: NDArray[np.int64] | None, n_rows: int) -> list[NDArray[np.int64]]:
    """Give the rows of each block; of consecutive rows with one number."""
    rows = np.arange(n_rows)
    return [rows] if blocks is None else np.split(rows, np.flatnonzero(np.diff(blocks)) + 1)


def store_member(model: TrainedModel, result: FitResult, number: int, run: RunDirectory) -> None:
    """Write a member's model and predictions, whole or not at all.

    Raises:
        RunError: they cannot be written.
    """
    folder = run.path / MEMBERS / member_name(number)
    begun = folder.with_name(f".{folder.name}")
    shutil.rmtree(begun, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # of a run killed before it was logged
    save_model(model, begun)
    arrays = {"prediction": result.predictions}
    if result.noise is not None:
        arrays["noise"] = result.noise
    try:
        np.savez(begun / OUTPUTS, **arrays)  # type: ignore[arg-type]  # numpy's own stub
        _to_disk(*begun.iterdir(), begun)
        begun.replace(folder)
        _to_disk(folder.parent)
    except OSError as cause:
        raise RunError(f"{folder}: the member cannot be written ({cause.strerror})") from cause


def _to_disk(*paths: Path) -> None:
    """Wait until files and folders would outlast a loss of power, as the log will say they do."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def damaged_members(run: Path, numbers: Iterable[int]) -> dict[int, str]:
    """Give which of a run's stored members cannot be read, and what is wrong with each."""
    found = {}
    for number in numbers:
        try:
            load_model(run / MEMBERS / member_name(number))
            read_outputs(run, [number])
        except RaymatError as error:
            found[number] = str(error)
    return found


def read_outputs(
    run: Path, numbers: list[int], *, warn: Callable[[str], None] = lambda _text: None
) -> MemberPredictions:
    """Read what members predict of the run's own crystals; nan for those they cannot read.

    They count the same. Noise that only some of them predict is left out, which `warn` hears of.

    Raises:
        RunError: a file is missing or damaged.
    """
    values, noise = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    for number in numbers:
        path = run / MEMBERS / member_name(number) / OUTPUTS
        try:
            with open_file(path) as file, np.load(file, allow_pickle=False) as stored:
                values.append(stored["prediction"])
                noise.extend([stored["noise"]] if "noise" in stored else [])
        except _DAMAGED as cause:
            raise RunError(f"{path}: cannot be read ({cause})") from cause
    has_noise = len(noise) == len(values)
    if noise and not has_noise:
        warn(
            f"only {len(noise)} of {len(values)} members predict noise of the target (training.loss"
            " gaussian_nll); it is left out, and the spread is that between members alone"
        )
    return MemberPredictions.equal(np.stack(values), np.stack(noise) if has_noise else None)


def write_description(run: RunDirectory, content: Mapping[str, Any]) -> None:
    """Write `ensemble.json`, without which a folder is no ensemble."""
    run.write_json(DESCRIPTION, {"raymat": __version__, **content})


def is_ensemble(folder: Path) -> bool:
    """Say whether a folder is that of an ensemble run, finished or not.

    Raises:
        RunError: a link leads out of the folder.
    """
    refuse_links(folder)
    if (folder / DESCRIPTION).exists():
        return True
    try:
        header = read_json(folder / "run.json")
    except (OSError, ValueError):
        return False
    return header.get("command") == "ensemble"


def load_ensemble(folder: Path) -> Ensemble:
    """Read an ensemble; nothing is unpickled.

    Raises:
        ModelFileError: the folder is none, its run is not complete, or a file is damaged.
    """
    refuse_links(folder)
    content = _read_description(folder)
    try:
        check_types(content, _REQUIRED, _OPTIONAL)
        numbers, weights = content["members"], np.asarray(content["weights"], dtype=np.float64)
        _check_shares(numbers, weights)
        members = tuple(load_model(folder / MEMBERS / member_name(n)) for n in numbers)
        _check_same_target(content, members)
        stored, scores = content["recalibration"], content.get("intervals")
        recalibration = StdScaling.from_dict(stored) if stored else None
        intervals = SplitConformal.from_dict(scores) if scores else None
        _check_calibration(recalibration, intervals)
        return Ensemble(
            folder=folder,
            numbers=tuple(numbers),
            members=members,
            reference=members[0],
            weights=weights,
            n_planned=content["planned"],
            target=content["target"],
            unit=content["unit"],
            task=content["task"],
            threshold=content["threshold"],
            class_names=members[0].class_names,
            recalibration=recalibration,
            domain=_read_domain(folder / DOMAIN) if content["domain"] else None,
            elements=read_elements(content),
            learned_from=_read_learned_ids(folder / SPLIT),
            learned=_read_learned(folder / LEARNED),
            intervals=intervals,
        )
    except RaymatError:
        raise
    except KeyError as cause:
        path = folder / DESCRIPTION
        raise ModelFileError(f"{path}: the key {cause} is missing") from cause
    except (TypeError, ValueError) as cause:
        raise ModelFileError(f"{folder / DESCRIPTION}: damaged ({cause})") from cause


def _check_shares(numbers: list[int], weights: NDArray[np.float64]) -> None:
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise ValueError(f"members must be whole numbers, found {quoted(numbers)}")
    if not numbers or len(set(numbers)) < len(numbers) or weights.shape != (len(numbers),):
        raise ValueError(f"{len(numbers)} members with weights of shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and np.isclose(weights.sum(), 1)):
        raise ValueError(f"weights of members must be shares of 1; they sum to {weights.sum():g}")


def _check_same_target(content: dict[str, Any], members: Iterable[TrainedModel]) -> None:
    for member in members:
        own = {"target": member.target, "unit": member.unit, "task": member.task}
        for key, value in own.items():
            if content[key] != value:
                raise ValueError(
                    f"{key} is {quoted(content[key])}, but of a member {quoted(value)}"
                )


def _check_calibration(recalibration: StdScaling | None, intervals: SplitConformal | None) -> None:
    factor = 1.0 if recalibration is None else recalibration.factor
    if not 0 < factor < np.inf:
        raise ValueError(f"the factor of the recalibration is {factor:g}, expected above 0")
    scores = np.zeros(1) if intervals is None else intervals.scores
    if scores.ndim != 1 or not len(scores) or not (scores >= 0).all():
        raise ValueError("the scores of the intervals are not all numbers of at least 0")


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise ModelFileError(_say_missing(folder)) from None
    except (OSError, ValueError) as cause:
        raise ModelFileError(f"{path}: cannot be read ({cause})") from cause
    return content


def _say_missing(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: no such folder; expected the run directory of `raymat ensemble`"
    if not is_ensemble(folder):
        return f"{folder}: not an ensemble; expected the run directory of `raymat ensemble`"
    stored = sum(1 for path in folder.glob(f"{MEMBERS}/[0-9]*"))
    return (
        f"{folder}: the ensemble is not complete, it has {stored} members so far; continue it with"
        f" `raymat resume {shlex.quote(str(folder))}`"
    )


def _read_learned_ids(path: Path) -> frozenset[str] | None:
    if not path.exists():  # an ensemble that was copied without it still predicts
        return None
    split = pd.read_parquet(regular_file(path), columns=["material_id", "part"])
    is_learned = split["part"].isin(["train", "validation"])
    ids = split.loc[is_learned, "material_id"].astype(str)
    return frozenset(name for name in ids if not is_row_number(name))


def _read_learned(path: Path) -> KnownCrystals | None:
    if not path.exists():  # of an earlier raymat, or copied without it
        return None
    try:
        return KnownCrystals(load_crystals(str(path), max_rejected=1.0).crystals)
    except DataError as cause:
        raise ModelFileError(f"{path}: cannot be read ({cause})") from cause


def _read_domain(path: Path) -> LatentDomain:
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
            domain = LatentDomain.from_arrays(dict(arrays))
    except _DAMAGED as cause:
        raise ModelFileError(f"{path}: cannot be read ({cause})") from cause
    parts = (domain.center, domain.scale, domain.training, np.array(domain.threshold))
    if not all(np.isfinite(part).all() for part in parts) or domain.threshold < 0:
        raise ModelFileError(f"{path}: damaged: it holds numbers that are not finite or below 0")
    return domain
