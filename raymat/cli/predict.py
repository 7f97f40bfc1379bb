"""``raymat predict``: apply a trained model to crystals."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymat.cli import options
from raymat.cli.outputs import (
    check_output,
    prepare_files,
    rejected_beside,
    say_notes,
    source_stem,
)
from raymat.errors import ModelFileError
from raymat.properties import ZERO_ONE, find_property
from raymat.text import plain

if TYPE_CHECKING:
    import pandas as pd

    from raymat.data.crystals import CrystalSet
    from raymat.ensembles.usable_crystals import Predictor
    from raymat.features.store import FeatureStore

app = typer.Typer(add_completion=False)

_SHOWN_ROWS = 10
_ENDINGS = (".parquet", ".csv")
_EVEN = 0.5  # probability of class 1 above which a crystal is called one


@app.command()
def predict(
    crystals: Annotated[
        str,
        typer.Argument(
            metavar="CRYSTALS",
            help=f"{options.SOURCES}. No target is needed.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            metavar="DIR",
            help="A model folder, such as RUN/best, or a run directory.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="A .parquet or .csv file to write (default: CRYSTALS-predictions.parquet).",
            show_default=False,
        ),
    ] = None,
    max_rejected: options.MaxRejected = None,
    gpus: options.OneGpu = None,
    threads: options.Threads = 1,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Predict a property of crystals; rows that cannot be used are listed in OUT-rejected.csv.

    An element that the model was not made for is an error, unless --max-rejected is given.

    Example: raymat predict --model runs/tune-cgcnn-20250301-101500/best new.parquet -o new.csv
    """
    out = out or Path(f"{source_stem(crystals)}-predictions.parquet")
    check_output(out, crystals, endings=_ENDINGS)
    prepare_files(out, overwrite=overwrite)
    from raymat.data.writers import write_rejected
    from raymat.ensembles.usable_crystals import load_usable, say_doubts
    from raymat.training.device import choose_device, prepare_process

    prepare_process(threads)
    device = choose_device(gpus)
    trained = load_predictor(model)
    usable = load_usable(trained, crystals, max_rejected)
    say_notes(usable.source.notes)
    for warning in say_doubts(trained, usable):
        sys.stderr.write(f"warning: {warning}\n")
    table = prediction_table(trained, usable.crystals, features=usable.features, device=device)
    _refuse_lost(table, model)
    class_1 = say_class_1(trained) if trained.task == "classification" else None
    write_table(table, out, unit=trained.unit, class_1=class_1)
    write_rejected(usable.rejected, rejected_beside(out))
    if not quiet:
        _show_head(trained, table)
    _say_summary(trained, usable.crystals, table)
    rejected = f", {len(usable.rejected):,} rejected" if len(usable.rejected) else ""
    typer.echo(f"{out}: {len(table):,} predictions{rejected}")


def load_predictor(folder: Path) -> "Predictor":
    """Read a model, an ensemble, or the model of a run.

    Raises:
        ModelFileError: the folder holds none of them.
    """
    from raymat.ensembles.stored import is_ensemble, load_ensemble
    from raymat.training.model_files import find_model, load_model

    return load_ensemble(folder) if is_ensemble(folder) else load_model(find_model(folder))


def prediction_table(
    model: "Predictor",
    crystals: "CrystalSet",
    *,
    features: "FeatureStore",
    device: str = "cpu",
) -> "pd.DataFrame":
    """Give ``material_id, formula, prediction``, one row per crystal, in the model's unit.

    For classes the prediction is the probability of class 1; where they have names, the more
    probable one is given as ``predicted_class``. An ensemble adds its spread, see
    `prediction_columns`.
    """
    import numpy as np
    import pandas as pd

    from raymat.data.composition import reduced_formulas

    table = pd.DataFrame(
        {
            "material_id": crystals.material_ids,
            "formula": reduced_formulas(crystals),
            **prediction_columns(model, features, device),
        }
    )
    if model.class_names is None:
        return table
    names = np.array(model.class_names, dtype=object)
    return table.assign(predicted_class=names[(table["prediction"] > _EVEN).astype(int)])


def prediction_columns(model: "Predictor", features: "FeatureStore", device: str) -> dict[str, Any]:
    """Give the columns that a model, or an ensemble, has to say of each crystal.

    An ensemble gives its mean as ``prediction``; ``std``, recalibrated on its validation rows; the
    split conformal interval that holds nine in ten values (``lower_90``, ``upper_90``); the spread
    between members and their predicted noise, before recalibration (``epistemic``, ``aleatoric``);
    ``in_domain``, whether the training crystals have all its elements and lie as near as they lie
    to each other; and ``in_training``, whether members learned from it or were selected by it.
    """
    from raymat.ensembles.applicability import find_applicability
    from raymat.ensembles.recalibration import interval_columns
    from raymat.ensembles.stored import Ensemble

    if not isinstance(model, Ensemble):
        table = features.find(model.view.table_config)
        return {"prediction": model.predict(table, device)}
    found = model.predict(features, device)
    std = found.total if model.recalibration is None else model.recalibration.scale(found.total)
    columns: dict[str, Any] = {
        "prediction": found.mean,
        "std": std,
        **interval_columns(model.intervals, found.mean, found.total),
        "epistemic": found.epistemic,
        "aleatoric": found.aleatoric,
    }
    columns["in_domain"] = find_applicability([model], features, device).inside
    return {**columns, "in_training": model.knows(features.crystals)}


def write_table(
    table: "pd.DataFrame", path: Path, *, unit: str, class_1: str | None = None
) -> None:
    """Write Parquet, with the unit in the field's metadata, or CSV, as the name ends.

    Of a classifier `class_1`, which says what the probability is of, stands there, too.

    Raises:
        DataError: the file cannot be written.
    """
    from raymat.data.writers import atomic_file, write_csv

    with atomic_file(path) as temporary:
        if path.suffix == ".csv":
            write_csv(table, temporary)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrow = pa.Table.from_pandas(table, preserve_index=False)
        index = arrow.schema.get_field_index("prediction")
        facts = {"unit": unit} if class_1 is None else {"unit": unit, "probability": class_1}
        field = arrow.schema.field(index).with_metadata(facts)
        pq.write_table(arrow.cast(arrow.schema.set(index, field)), temporary)


def _refuse_lost(table: "pd.DataFrame", folder: Path) -> None:
    """Refuse a model that gives no number for a crystal that it can read.

    Raises:
        ModelFileError: such as for weights so large that their products overflow.
    """
    import numpy as np

    lost = ~np.isfinite(table["prediction"].to_numpy())
    if lost.any():
        first = plain(table["material_id"].to_numpy()[lost][0])
        raise ModelFileError(
            f"{folder}: {lost.sum():,} of {len(table):,} predictions are not finite numbers (the"
            f" first: {first}); the model is damaged or has diverged: train it again"
        )


def _show_head(model: "Predictor", table: "pd.DataFrame") -> None:
    from rich import box
    from rich.table import Table

    from raymat.cli.terminal import Terminal

    kind = say_class_1(model) if model.task == "classification" else model.unit
    shown = Table(box=box.SIMPLE)
    for name in ("material_id", "formula"):
        shown.add_column(name)
    shown.add_column(f"{model.target} ({kind})" if kind else model.target, justify="right")
    for row in table.head(_SHOWN_ROWS).itertuples():
        std = getattr(row, "std", None)
        spread = "" if std is None else f" ± {std:.2g}"
        shown.add_row(str(row.material_id), str(row.formula), f"{row.prediction:.4g}{spread}")
    hidden = len(table) - _SHOWN_ROWS
    if hidden > 0:
        shown.caption = f"and {hidden:,} more rows"
    Terminal().print(shown)


def say_class_1(model: "Predictor") -> str:
    """Say what the predicted probability is of."""
    if model.class_names not in (None, ZERO_ONE):
        return f"P({plain(model.class_names[1])})"
    if model.threshold is None:
        return "P(class 1)"
    return f"P(above {model.threshold:.4g})"


def _say_summary(model: "Predictor", crystals: "CrystalSet", table: "pd.DataFrame") -> None:
    values = table["prediction"]
    what = f" {say_class_1(model)}" if model.task == "classification" else ""
    typer.echo(
        f"{model.target}{what}: mean {values.mean():.4g}, from {values.min():.4g} to"
        f" {values.max():.4g} {model.unit}".rstrip()
    )
    score = score_against_data(model, crystals, table)
    if score:
        typer.echo(score)


def score_against_data(
    model: "Predictor", crystals: "CrystalSet", table: "pd.DataFrame"
) -> str | None:
    """Give one line on the error, if the data hold numbers under the name of the target."""
    import numpy as np

    from raymat.data.checks import target_numbers
    from raymat.training.metrics import validation_score

    if model.target not in crystals.properties:
        return None
    prop = replace(find_property(model.target), names=model.class_names)
    targets = target_numbers(crystals.properties[model.target], prop)
    has_target = np.isfinite(targets)
    if not has_target.any():
        return None
    if model.threshold is not None:
        targets = np.where(has_target, targets > model.threshold, np.nan)
    predictions = table["prediction"].to_numpy()
    score = validation_score(model.task, targets[has_target], predictions[has_target])
    name = "AUC" if model.task == "classification" else "MAE"
    unit = "" if model.task == "classification" or not model.unit else f" {model.unit}"
    return (
        f"against the data's own {model.target}: {name} {score:.4g}{unit} on"
        f" {int(has_target.sum()):,} rows ({_say_known(table[has_target])})"
    )


def _say_known(scored: "pd.DataFrame") -> str:
    """Say how many of the rows of a score the model has learned from, as far as that is known."""
    if "in_training" not in scored or scored["in_training"].isna().any():
        return "training rows of the model may be among them"
    n = int(scored["in_training"].sum())
    return f"the model learned from {n:,} of them" if n else "none of them a training crystal"
