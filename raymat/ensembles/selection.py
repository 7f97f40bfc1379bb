"""Weights of members by greedy selection on validation rows.

Forward selection with replacement: Caruana et al., ICML 2004. The mean of a good but small choice
of models beats the best of them, and one drawn twice weighs twice.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from raymat.errors import DataError
from raymat.properties import Task

Floats = NDArray[np.float64]

SMALLEST = 1e-15  # probability that the log loss still tells from 0


def select_members(
    values: Floats,
    targets: Floats,
    *,
    task: Task = "regression",
    n_rounds: int = 100,
    n_start: int = 1,
) -> Floats:
    """Give each member's weight in the mean that is best on validation rows.

    Starts from the `n_start` best members, then adds, round by round and with replacement, the one
    that lowers the loss of the mean most (on a tie the first), and keeps the best of all rounds.
    The loss is MAE, for classes the log loss. What it reaches on these rows is too good to report.

    Args:
        values: (n_members, n_rows) predictions of validation rows, in the unit of the target or
            probabilities of class 1.
        targets: (n_rows,).
        task: of the target.
        n_rounds: members drawn in all, more than `n_start` at most.
        n_start: best members that are in from the beginning; more than 1 guards few validation
            rows against chance (sorted initialisation, section 2.2 of the paper).

    Returns:
        (n_members,), sum 1; 0 for members that were never drawn.

    Raises:
        DataError: shapes that do not fit, values that are not finite, or a bad number of rounds.
    """
    _check(values, targets, n_rounds, n_start)
    loss = _LOSSES[task]
    best_first = np.argsort(loss(values, targets), kind="stable")
    drawn = [int(member) for member in best_first[:n_start]]
    total = values[drawn].sum(axis=0)
    best_loss, n_best = float(loss((total / n_start)[None], targets)[0]), n_start
    while len(drawn) < n_rounds:
        losses = loss((total + values) / (len(drawn) + 1), targets)
        member = int(np.argmin(losses))
        drawn.append(member)
        total = total + values[member]
        if losses[member] < best_loss:
            best_loss, n_best = float(losses[member]), len(drawn)
    counts = np.bincount(drawn[:n_best], minlength=len(values))
    weights: Floats = counts / n_best
    return weights


def _absolute_error(values: Floats, targets: Floats) -> Floats:
    errors: Floats = np.abs(values - targets).mean(axis=1)
    return errors


def _log_loss(values: Floats, targets: Floats) -> Floats:
    of_class = np.where(targets > 0.5, values, 1.0 - values)
    losses: Floats = -np.log(np.clip(of_class, SMALLEST, 1.0)).mean(axis=1)
    return losses


_LOSSES: dict[Task, Callable[[Floats, Floats], Floats]] = {
    "regression": _absolute_error,
    "classification": _log_loss,
}


def _check(values: Floats, targets: Floats, n_rounds: int, n_start: int) -> None:
    if values.ndim != 2 or 0 in values.shape or values.shape[1:] != targets.shape:
        raise DataError(
            f"members' values have shape {values.shape}, validation targets {targets.shape};"
            " expected (n_members, n_rows) and (n_rows,), with a row at least"
        )
    if not np.isfinite(targets).all():
        raise DataError("a validation target is not finite; leave that row out")
    lost = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(lost):
        raise DataError(
            f"member {int(lost[0])} gives values that are not finite on validation rows;"
            " leave that member out"
        )
    if not 1 <= n_start <= min(n_rounds, len(values)):
        raise DataError(
            f"n_start={n_start} with n_rounds={n_rounds} and {len(values)} members; expected"
            " 1 <= n_start <= n_rounds and no more than there are members"
        )
