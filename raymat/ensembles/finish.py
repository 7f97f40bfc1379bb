"""After the members: how they are combined, scored once on rows that none saw, and stored."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raymat.data.writers import write_crystals, write_csv
from raymat.ensembles.curves import member_curves
from raymat.ensembles.domain import LatentDomain
from raymat.ensembles.members import member_name
from raymat.ensembles.predictions import Floats, MemberPredictions
from raymat.ensembles.recalibration import (
    Recalibration,
    SplitConformal,
    StdScaling,
    interval_columns,
)
from raymat.ensembles.record import EnsembleRecord
from raymat.ensembles.stored import (
    DOMAIN,
    LEARNED,
    MEMBERS,
    OUTPUTS,
    read_outputs,
    write_description,
)
from raymat.ensembles.validation import (
    Weighting,
    calibrate,
    divide_validation,
    weigh_members,
)
from raymat.errors import DataError
from raymat.features.table import FeatureTable
from raymat.tracking.run_directory import RunDirectory
from raymat.training.inputs import RunInputs
from raymat.training.latent_map import keep_latent_map
from raymat.training.members import latent_vectors
from raymat.training.metrics import known, score_name, validation_score
from raymat.training.model_files import TrainedModel, load_model
from raymat.training.results import (
    predict_baselines,
    say_if_flat,
    score_against_baselines,
    score_part,
)

CURVE, PREDICTIONS = "member_curve.csv", "predictions.parquet"


def finish_ensemble(
    record: EnsembleRecord,
    inputs: RunInputs,
    *,
    tables: Sequence[FeatureTable],
    run: RunDirectory,
    weighting: Weighting,
    selection: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Combine and score the members, and write the run's files; give `metrics.json`.

    The spread is recalibrated on the validation rows, unless these are too few, and everything is
    scored on the test rows, here for the first time. `selection`, what is known of how the
    configurations were chosen, is stored with the scores.

    Raises:
        DataError: nothing can be scored, or the members are all the same.
        RunError: a file cannot be read or written.
    """
    run.emit("calibrating")
    numbers = sorted(record.ended)
    rows = divide_validation(inputs, weighting)
    found = read_outputs(run.path, numbers, warn=lambda text: run.emit("warning", text=text))
    predictions = weigh_members(found, inputs, rows.weights)
    reference = load_model(run.path / MEMBERS / member_name(numbers[0]))
    with run.replacing("members.parquet") as path:
        name = _score_name(inputs, reference)
        _member_table(record, numbers, predictions, name).to_parquet(path, index=False)
    recalibrations = calibrate(inputs, predictions, rows, run)
    with run.replacing(PREDICTIONS) as path:
        prediction_table(inputs, predictions, recalibrations).to_parquet(path, index=False)
    _write_curve(inputs, predictions, run)
    text = say_if_flat(inputs, predictions.mean)
    if text is not None:
        run.emit("warning", text=text)
    wanted = reference.view.table_config
    table = next(table for table in tables if table.config.holds(wanted))
    has_domain = _write_domain(reference, inputs, table, run)
    _write_learned(inputs, run)
    keep_latent_map(reference, table, inputs, run)
    metrics = _metrics(record, inputs, predictions)
    metrics |= {} if selection is None else {"selection": selection}
    run.write_json("metrics.json", metrics)
    stored = {kind: found.to_dict() for kind, found in recalibrations.items()}
    write_description(
        run,
        {
            "members": numbers,
            "planned": record.n_planned,
            "weights": predictions.weights.tolist(),
            "model": reference.name,
            "target": inputs.prop.name,
            "unit": inputs.prop.unit,
            "task": inputs.prop.task,
            "threshold": inputs.threshold,
            "class_names": inputs.prop.names,
            "elements": list(inputs.elements()),
            "recalibration": stored.get(StdScaling.kind),
            "intervals": stored.get(SplitConformal.kind),
            "domain": DOMAIN if has_domain else None,
            "data_sha256": inputs.source.sha256,
            "split_sha256": inputs.split.sha256,
        },
    )
    run.emit("scored", durable=True, metrics=metrics)
    remove_leftovers(run)
    return metrics


def prediction_table(
    inputs: RunInputs,
    predictions: MemberPredictions,
    recalibrations: Mapping[str, Recalibration],
) -> pd.DataFrame:
    """Give `predictions.parquet`: mean, spread and every member, a row per crystal of the split.

    `std` is the total spread before recalibration; `epistemic` and `aleatoric` are its parts.
    Where it could be recalibrated, `std_recalibrated` is what `raymat predict` calls ``std``, and
    `lower_90` and `upper_90` are the ends of the split conformal interval.
    """
    table = pd.DataFrame(
        {
            "material_id": inputs.crystals.material_ids,
            "part": inputs.split.parts,
            "target": inputs.targets,
            "mean": predictions.mean,
            "std": predictions.total,
            "epistemic": predictions.epistemic,
            "aleatoric": predictions.aleatoric,
            **_recalibrated(predictions, recalibrations),
            "members": list(predictions.values.T),
        }
    )
    return table[table["part"] != "unused"].reset_index(drop=True)


def _recalibrated(
    predictions: MemberPredictions, recalibrations: Mapping[str, Recalibration]
) -> dict[str, Floats]:
    mean, std = predictions.mean, predictions.total
    scaling = recalibrations.get(StdScaling.kind)
    scaled = {"std_recalibrated": scaling.scale(std)} if isinstance(scaling, StdScaling) else {}
    return {**scaled, **interval_columns(recalibrations.get(SplitConformal.kind), mean, std)}


def _member_table(
    record: EnsembleRecord, numbers: list[int], predictions: MemberPredictions, name: str
) -> pd.DataFrame:
    table = record.table(name)
    weights = dict(zip(numbers, predictions.weights.tolist(), strict=True))
    return table.assign(weight=table["member"].map(weights).fillna(0.0))


def _score_name(inputs: RunInputs, member: TrainedModel) -> str:
    settings = member.training.get("settings") or {}
    return score_name(inputs.prop.task, settings.get("select", "mae"))


def _write_curve(inputs: RunInputs, predictions: MemberPredictions, run: RunDirectory) -> None:
    rows = inputs.split.rows("test")
    curve = member_curves(predictions.take(rows), inputs.targets[rows], task=inputs.prop.task)
    with run.replacing(CURVE) as path:
        write_csv(curve, path)


def _write_domain(
    reference: TrainedModel, inputs: RunInputs, table: FeatureTable, run: RunDirectory
) -> bool:
    """Store where the training rows lie in the reference member's latents; say if it was possible.

    All training rows count, also those that the reference member did not learn from: the other
    members did.
    """
    latents = latent_vectors(reference, table, inputs.split.rows("train"))
    try:
        domain = LatentDomain.fit(latents.astype(np.float64))
    except DataError as problem:  # such as ten training rows; predictions stay usable
        run.emit("warning", text=f"no applicability domain: {problem}")
        return False
    with run.replacing(DOMAIN) as path, path.open("wb") as file:
        np.savez(file, **domain.to_arrays())  # type: ignore[arg-type]  # numpy's own stub
    return True


def _write_learned(inputs: RunInputs, run: RunDirectory) -> None:
    """Store the crystals that members learned from or were selected by, to know them again."""
    rows = np.concatenate([inputs.split.rows("train"), inputs.split.rows("validation")])
    crystals = inputs.crystals.take(np.sort(rows)).without_properties()
    with run.replacing(LEARNED) as path:
        write_crystals(crystals, path)


def _metrics(
    record: EnsembleRecord, inputs: RunInputs, predictions: MemberPredictions
) -> dict[str, Any]:
    test = inputs.split.rows("test")
    task, targets = inputs.prop.task, inputs.targets[test]
    scores = [validation_score(task, targets, values[test]) for values in predictions.values]
    name = "auc" if task == "classification" else "mae"
    return {
        "target": inputs.prop.name,
        "unit": inputs.prop.unit,
        "task": task,
        "threshold": inputs.threshold,
        "class_names": inputs.prop.names,
        "members": {
            "planned": record.n_planned,
            "trained": len(record.ended),
            "retried": record.n_retried,
            "failed": record.given_up,
            "effective": predictions.effective_members,
            f"test_{name}_mean": known(float(np.mean(scores))),
            f"test_{name}_std": known(float(np.std(scores, ddof=1))) if len(scores) > 1 else None,
        },
        "test": score_part(inputs, "test", predictions.mean),
        "validation": score_part(inputs, "validation", predictions.mean),
        **score_against_baselines(inputs, predictions.mean, predict_baselines(inputs)),
        "leakage": inputs.facts()["leakage"],
    }


def remove_leftovers(run: RunDirectory) -> None:
    """Remove checkpoints, and what `predictions.parquet` holds of a scored run."""
    shutil.rmtree(run.path / "trials", ignore_errors=True)
    for outputs in run.path.glob(f"{MEMBERS}/*/{OUTPUTS}"):
        outputs.unlink(missing_ok=True)
