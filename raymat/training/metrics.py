"""How good predictions are, with bootstrap intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymat.properties import Task

Floats = NDArray[np.float64]
N_BOOTSTRAP = 10_000
FEWEST_ROWS = 5  # of an interval, of each class where there are classes; below, none is estimated
FEW_ROWS = 10  # below, an interval is named one of few rows


def mae(targets: Floats, predictions: Floats) -> float:
    """Mean absolute error."""
    return float(np.abs(targets - predictions).mean())


def rmse(targets: Floats, predictions: Floats) -> float:
    """Root-mean-square error."""
    return float(np.sqrt(np.square(targets - predictions).mean()))


def r2(targets: Floats, predictions: Floats) -> float:
    """Coefficient of determination against the mean of these targets; nan when they are equal."""
    if len(targets) == 0 or np.ptp(targets) == 0:  # rounding leaves their sum of squares above zero
        return float("nan")
    residual = float(np.square(targets - predictions).sum())
    total = float(np.square(targets - targets.mean()).sum())
    return 1.0 - residual / total if total > 0 else float("nan")


def roc_auc(classes: Floats, scores: Floats) -> float:
    """Area under the receiver operating characteristic, ties counted half; nan for one class.

    The rank-sum form: Hanley & McNeil, Radiology 1982, 143, 29.
    """
    positive = classes > 0.5
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    rank_sum = float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2.0
    return rank_sum / (n_positive * n_negative)


def accuracy(classes: Floats, scores: Floats) -> float:
    """Share of rows on the right side of 0.5; nan without rows."""
    if len(classes) == 0:
        return float("nan")
    return float(((scores > 0.5) == (classes > 0.5)).mean())


def higher_is_better(task: Task) -> bool:
    """Return whether the better of two validation scores is the higher one: AUC, but not MAE."""
    return task == "classification"


def score_name(task: Task, select: str = "mae") -> str:
    """Return what tables call the validation score; `select` is that of the training settings."""
    return "val_auc" if task == "classification" else f"val_{select}"


def gaussian_likelihood(targets: Floats, mean: Floats, std: Floats) -> float:
    """Compute the mean negative log likelihood of a normal distribution, in nats.

    Nix & Weigend, ICNN 1994; targets, mean and std in the target's unit.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        nll = np.log(std) + 0.5 * np.log(2.0 * np.pi) + 0.5 * np.square((targets - mean) / std)
    return float(nll.mean())


def validation_score(task: Task, targets: Floats, predictions: Floats) -> float:
    """Give what model selection looks at: MAE (lower is better) or AUC (higher is better)."""
    if task == "classification":
        return roc_auc(targets, predictions)
    return mae(targets, predictions)


def enough_rows(task: Task, targets: Floats) -> bool:
    """Return whether the rows, or those of either class, are enough for an interval."""
    if task == "classification":
        return min(int((targets > 0.5).sum()), int((targets <= 0.5).sum())) >= FEWEST_ROWS
    return len(targets) >= FEWEST_ROWS


def score_predictions(
    task: Task, targets: Floats, predictions: Floats, *, seed: int = 0
) -> dict[str, Any]:
    """Compute all metrics of one part, with the bootstrap 95 % interval of the leading one.

    What these rows cannot tell is None: R2 of equal targets, AUC of one class, an interval of
    fewer than `FEWEST_ROWS` rows (of either class).
    """
    is_enough = enough_rows(task, targets)
    if task == "classification":
        ones = targets > 0.5
        ends = (
            bootstrap_interval(roc_auc, targets, predictions, n=1000, seed=seed)
            if is_enough
            else None
        )
        return {
            "auc": known(roc_auc(targets, predictions)),
            "accuracy": known(accuracy(targets, predictions)),
            "accuracy_0": known(accuracy(targets[~ones], predictions[~ones])),
            "accuracy_1": known(accuracy(targets[ones], predictions[ones])),
            "n": len(targets),
            "auc_ci95": ends,
        }
    errors = np.abs(targets - predictions)
    return {
        "mae": mae(targets, predictions),
        "rmse": rmse(targets, predictions),
        "r2": known(r2(targets, predictions)),
        "n": len(targets),
        "mae_ci95": bootstrap_mean_interval(errors, seed=seed) if is_enough else None,
    }


def known(value: float) -> float | None:
    """Return a number for JSON, which has no nan: None for what cannot be estimated."""
    return None if np.isnan(value) else value


def bootstrap_mean_interval(values: Floats, *, seed: int = 0) -> list[float]:
    """95 % percentile interval of a mean over `N_BOOTSTRAP` resamples (Efron 1979)."""
    rng = np.random.default_rng(seed)
    n = len(values)
    # Drawing multinomial counts is drawing rows with replacement; in blocks, to bound memory.
    shares, block = np.full(n, 1.0 / n), N_BOOTSTRAP // 20
    blocks = [rng.multinomial(n, shares, size=block) @ values for _ in range(20)]
    means = np.concatenate(blocks) / n
    return [float(q) for q in np.quantile(means, [0.025, 0.975])]


def bootstrap_interval(
    metric: Callable[[Floats, Floats], float],
    targets: Floats,
    predictions: Floats,
    *,
    n: int,
    seed: int = 0,
) -> list[float]:
    """95 % percentile interval of any metric over `n` resamples of the rows, nan left out."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(targets), size=len(targets)) for _ in range(n))
    values = [metric(targets[rows], predictions[rows]) for rows in draws]
    return [float(q) for q in np.nanquantile(values, [0.025, 0.975])]
