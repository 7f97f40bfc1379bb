"""What validation rows decide of an ensemble: its members' weights, and the factor on its spread.

The same rows chose the epoch of every member, and in a search the configurations, so residuals on
them are a little smaller than on rows that nothing was chosen by.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raymat.ensembles.calibration import has_spread, score_probabilities
from raymat.ensembles.predictions import Floats, MemberPredictions
from raymat.ensembles.recalibration import (
    MIN_ROWS,
    Recalibration,
    StdScaling,
    fit_recalibrations,
    score_recalibrations,
)
from raymat.ensembles.selection import select_members
from raymat.errors import DataError
from raymat.tracking.run_directory import RunDirectory
from raymat.training.inputs import RunInputs

Weighting = Literal["equal", "greedy"]
Rows = NDArray[np.int64]
CALIBRATION = "calibration.json"
_FEWEST = 2  # members with a weight: one alone has no spread
_LEAST_SHARE = 0.1  # of the test rows that have a spread; below, the members are the same
_HALVES = 1  # keeps the random division from following the split, which has the same seed


@dataclass(frozen=True)
class ValidationRows:
    """Which validation rows decide what.

    Attributes:
        weights: rows that choose the members' weights; none for equal weights.
        spread: rows that recalibrate the spread.
    """

    weights: Rows
    spread: Rows

    @property
    def remark(self) -> str:
        """One sentence on what else these rows decided."""
        start = "validation rows also chose what a member is (its epoch, a search's configuration)"
        if not len(self.weights):
            how = ", so that the recalibrated spread may be a little too narrow"
        elif np.array_equal(self.weights, self.spread):
            how = " and the members' weights, so that the recalibrated spread may be too narrow"
        else:
            how = (
                f"; {len(self.weights):,} of them chose the members' weights, the other"
                f" {len(self.spread):,} recalibrate the spread, which may be a little too narrow"
            )
        return start + how


def divide_validation(inputs: RunInputs, weighting: Weighting) -> ValidationRows:
    """Give greedy weights one half of the validation rows, and the spread the other.

    The halves are random, by the seed of the split. Where a half would be too small to recalibrate
    on, and for classes, which have no spread, weights take all rows, and so does the spread.
    """
    rows = inputs.split.rows("validation")
    if weighting == "equal":
        return ValidationRows(rows[:0], rows)
    half = len(rows) // 2
    if half < MIN_ROWS or inputs.prop.task == "classification":
        return ValidationRows(rows, rows)
    drawn = np.random.default_rng((inputs.split.config.seed, _HALVES)).permutation(rows)
    return ValidationRows(np.sort(drawn[:half]), np.sort(drawn[half:]))


def weigh_members(found: MemberPredictions, inputs: RunInputs, rows: Rows) -> MemberPredictions:
    """Give the same members with weights by greedy selection on `rows`; as they are for none.

    Of members that predict the same everywhere the first stands for all: chosen as the best two,
    they would have no spread.
    """
    if not len(rows):
        return found
    first: dict[bytes, int] = {}
    for member, values in enumerate(found.values):
        first.setdefault(values.tobytes(), member)
    enough = len(first) >= _FEWEST
    members = np.array(sorted(first.values())) if enough else np.arange(found.n_members)
    weights = np.zeros(found.n_members)
    weights[members] = select_members(
        found.values[np.ix_(members, rows)],
        inputs.targets[rows],
        task=inputs.prop.task,
        n_start=_FEWEST,
    )
    return MemberPredictions(found.values, found.noise, weights)


def calibrate(
    inputs: RunInputs, predictions: MemberPredictions, rows: ValidationRows, run: RunDirectory
) -> dict[str, Recalibration]:
    """Write `calibration.json` and give what was fitted; for classes there is nothing to fit.

    Rows in which all members agree have no spread to be fitted or scored; they are counted.

    Raises:
        DataError: hardly any test row has a spread.
    """
    test = inputs.split.rows("test")
    content: dict[str, Any] = {
        "target": inputs.prop.name,
        "unit": inputs.prop.unit,
        "split": inputs.split.config.kind,
        "n_members": predictions.n_members,
        "fitted_on": {"part": "validation", "n": len(rows.spread)},
        "scored_on": {"part": "test", "n": len(test)},
    }
    if len(rows.weights):
        content["weighted_on"] = {"part": "validation", "n": len(rows.weights)}
    fitted: dict[str, Recalibration] = {}
    if inputs.prop.task == "classification":
        content["before"] = score_probabilities(inputs.targets[test], predictions.mean[test])
    else:
        fitted, found = _recalibrate(inputs, predictions, rows, run)
        content |= found
    run.write_json(CALIBRATION, content)
    return fitted


def _recalibrate(
    inputs: RunInputs, predictions: MemberPredictions, rows: ValidationRows, run: RunDirectory
) -> tuple[dict[str, Recalibration], dict[str, Any]]:
    test, fit_on = inputs.split.rows("test"), _with_spread(predictions, rows.spread)
    scored_on = _with_spread(predictions, test)
    _check_spread(len(scored_on), len(test))
    fitted: dict[str, Recalibration] = {}
    if len(fit_on) < MIN_ROWS:
        left = "" if len(fit_on) == len(rows.spread) else " that have a spread"
        few = f"{len(fit_on)} validation rows{left}, {MIN_ROWS} are needed"
        run.emit("warning", text=f"the spread is not recalibrated: {few}")
    else:
        fitted = fit_recalibrations(*_columns(inputs, predictions, fit_on))
    scores = score_recalibrations(fitted, *_columns(inputs, predictions, scored_on))
    content = {
        "fitted_on": _counts("validation", rows.spread, fit_on),
        "scored_on": _counts("test", test, scored_on),
        "remark": rows.remark if fitted else None,
        "before": scores.pop("before"),
        "after": scores.get(StdScaling.kind),
        "methods": {
            kind: {"scores": scores[kind], "fitted": found.to_dict()}
            for kind, found in fitted.items()
        },
    }
    return fitted, content


def _with_spread(predictions: MemberPredictions, rows: Rows) -> Rows:
    return rows[has_spread(predictions.take(rows).total)]


def _counts(part: str, rows: Rows, used: Rows) -> dict[str, Any]:
    return {"part": part, "n": len(used), "without_spread": len(rows) - len(used)}


def _check_spread(n_scored: int, n_test: int) -> None:
    if n_scored < _LEAST_SHARE * n_test:
        raise DataError(
            f"the members agree to the last digit in {n_test - n_scored:,} of {n_test:,} test rows,"
            " so they are the same and have no spread; train an ensemble whose members differ, by"
            " a --fraction below 1 or by their configurations"
        )


def _columns(
    inputs: RunInputs, predictions: MemberPredictions, rows: Rows
) -> tuple[Floats, Floats, Floats]:
    some = predictions.take(rows)
    return inputs.targets[rows], some.mean, some.total
