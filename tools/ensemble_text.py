"""What `export_screening.py` says in words of ensembles: their errors, and their spread's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raymat.errors import DataError
from raymat.reports.number_text import number, spread

_CALIBRATION = {
    "nll": "NLL",
    "miscalibration_area": "miscalibration area",
    "coverage_50": "coverage of 50 %",
    "coverage_90": "of 90 %",
    "coverage_95": "of 95 %",
    "sharpness": "sharpness",
    "spearman": "error against spread",
}
_METHODS = {
    "before": "as predicted",
    "std_scaling": "std scaling",
    "isotonic": "isotonic",
    "split_conformal": "split conformal",
}


def ensembles_text(ensembles: Sequence[Mapping[str, Any]]) -> str:
    """Give the scores of ensembles in Markdown; of each what `ensemble_scores` gives."""
    lines = ["# The ensembles on test rows that no member saw", ""]
    for scores in ensembles:
        lines += [describe_ensemble(scores), ""]
    lines += [*head("target", "split", "MAE", "95 % interval", "RMSE", "R²", "average member's MAE",
                     "gain", "composition baseline")]  # fmt: skip
    lines += [row_of(*_error_cells(scores)) for scores in ensembles]
    lines += [
        "",
        "The spread before and after recalibration, which was fitted on the validation rows. NLL"
        " in nats; sharpness, in the target's unit, is the root mean square std; error against"
        " spread is Spearman's rank correlation.",
        "",
        *head("target", "split", "spread", *_CALIBRATION.values()),
    ]
    for scores in ensembles:
        for kind, found in scores["calibration"].items():
            cells = [_score(found.get(name)) for name in _CALIBRATION]
            named = (scores["target"], split_name(scores), _METHODS.get(kind, kind))
            lines.append(row_of(*named, *cells))
    return "\n".join(lines) + "\n"


def ensemble_scores(
    header: Mapping[str, Any], metrics: Mapping[str, Any], calibration: Mapping[str, Any]
) -> dict[str, Any]:
    """Give what a report says of an ensemble, from its run's files; nothing of the machine.

    Raises:
        DataError: the ensemble is one of classes, which no lithium interface has.
    """
    if metrics["task"] != "regression":
        raise DataError(f"{metrics['target']}: an ensemble of classes; expected one of a modulus")
    arguments, data = header["arguments"], header["data"]
    methods = calibration["methods"]
    return {
        "target": metrics["target"],
        "unit": metrics["unit"],
        "data": {key: data[key] for key in ("name", "sha256", "n_used")},
        "split": {key: header["split"][key] for key in ("kind", "seed", "rows")},
        "configs": list(arguments["configs"]),
        "fraction": arguments["fraction"],
        "weights": arguments["weights"],
        "seed": arguments["seed"],
        "members": metrics["members"],
        "test": metrics["test"],
        "validation": metrics["validation"],
        "baselines": metrics["baselines"],
        "leakage": metrics["leakage"],
        "calibration": {
            "before": calibration["before"],
            **{kind: found["scores"] for kind, found in methods.items()},
        },
        "std_factor": methods.get("std_scaling", {}).get("fitted", {}).get("factor"),
    }


def describe_ensemble(scores: Mapping[str, Any]) -> str:
    """Say what an ensemble is and what it learned from."""
    members, data, split = scores["members"], scores["data"], scores["split"]
    models = sorted({config["model"] for config in scores["configs"]})
    factor = scores["std_factor"]
    scaled = "" if factor is None else f" Its std is scaled by {factor:.3f}."
    n_configs = len(scores["configs"])
    rows = split["rows"]
    return (
        f"`{scores['target']}` ({scores['unit']}): {members['trained']} of {members['planned']}"
        f" members ({', '.join(models)}; {n_configs} configuration{'s' * (n_configs > 1)};"
        f" {members['retried']} tried twice), {scores['weights']} weights, each on"
        f" {scores['fraction']:.0%} of the training rows; data `{data['name']}`,"
        f" {data['n_used']:,} crystals, SHA-256 {data['sha256'][:12]}; split {split_name(scores)},"
        f" seed {split['seed']}: {rows['train']:,} training, {rows['validation']:,} validation and"
        f" {rows['test']:,} test rows.{scaled}"
    )


def split_name(scores: Mapping[str, Any]) -> str:
    """Give the kind of an ensemble's split in words."""
    return str(scores["split"]["kind"]).replace("_", " ")


def _error_cells(scores: Mapping[str, Any]) -> Iterator[str]:
    test, members = scores["test"], scores["members"]
    alone = members["test_mae_mean"]
    low, high = test["mae_ci95"]
    yield from (f"{scores['target']} ({scores['unit']})", split_name(scores))
    yield from (f"{test['mae']:.4f}", f"{low:.4f} to {high:.4f}")
    yield from (f"{test['rmse']:.4f}", f"{test['r2']:.3f}")
    yield spread(alone, members["test_mae_std"])
    yield f"{100 * (1 - test['mae'] / alone):.1f} %"
    yield f"{scores['baselines']['composition']['mae']:.4f}"


def _score(value: float | None) -> str:
    return "-" if value is None else number(value)


def head(*titles: str) -> Iterator[str]:
    """Give the first two lines of a Markdown table."""
    yield row_of(*titles)
    yield row_of(*["---"] * len(titles))


def row_of(*cells: object) -> str:
    """Give one line of a Markdown table."""
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"
