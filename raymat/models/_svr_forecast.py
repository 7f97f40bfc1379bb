"""How long fitting support vectors will take, told from small fits before a large one begins."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymat.features.descriptor_table import DescriptorBatch
from raymat.models._spec import ClosedFormModel
from raymat.properties import Task

WARN_ROWS = 20_000  # training crystals from which on a command says how long a fit will take
FORECAST_ROWS = (500, 1000, 2000)
LEAST_EXPONENT = 2.0  # a fit sees every pair of crystals, though small ones are faster than that
LEAST_OF_CLASS = 5  # in every small fit, where there are as many: one for each fold of soap_svr

Build = Callable[[Any, Task], ClosedFormModel[DescriptorBatch]]


def forecast_fit_s(
    build: Build,
    config: Any,
    batch: DescriptorBatch,
    targets: Tensor,
    *,
    task: Task = "regression",
) -> float:
    """Give the seconds that a fit will take on one core of this machine, measured on small fits.

    Random parts of 500, 1,000 and 2,000 crystals are fitted. A straight line through the
    logarithms of size and time, but no flatter than the square of the size, leads from the
    largest part to all crystals. What does not fit the solver's cache of kernel values is
    computed again and again, so for much larger sets this is on the low side.

    Args:
        build: config and task -> model.
        config: of the model.
        batch: all training crystals, on the CPU.
        targets: (n_crystals,) as the model's `solve` takes them.
        task: regression or classification.

    Raises:
        DataError: as the model's `solve`.
    """
    import sklearn.calibration  # before the clock runs
    import sklearn.svm  # noqa: F401

    order = _random_order(targets.double().numpy(), task)
    sizes = sorted({min(size, len(order)) for size in FORECAST_ROWS})
    times = [_fit_time_s(build(config, task), batch, targets, order[:size]) for size in sizes]
    slope = np.polyfit(np.log(sizes), np.log(times), 1)[0] if len(sizes) > 1 else LEAST_EXPONENT
    exponent = max(LEAST_EXPONENT, float(slope))
    return float(times[-1] * (len(order) / sizes[-1]) ** exponent)


def slow_fit_warning(
    build: Build,
    config: Any,
    batch: DescriptorBatch,
    targets: Tensor,
    *,
    task: Task = "regression",
) -> str | None:
    """Give a line with a time forecast above `WARN_ROWS` training crystals, else None.

    Arguments and errors are those of `forecast_fit_s`.
    """
    n_crystals = batch.n_crystals
    if n_crystals <= WARN_ROWS:
        return None
    duration = _duration(forecast_fit_s(build, config, batch, targets, task=task))
    measured = ", ".join(f"{n:,}" for n in FORECAST_ROWS)
    return (
        f"soap_svr: a fit to {n_crystals:,} crystals will take about {duration} on one core, and"
        f" its time grows at least with the square of their number (measured on {measured} of"
        " them); train on fewer crystals, or take another model, such as soap_mlp"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _random_order(targets: NDArray[np.float64], task: Task) -> NDArray[np.int64]:
    """Give all rows in random order; of classes, a few of either first."""
    order = np.random.default_rng(0).permutation(len(targets))
    if task == "regression":
        return order
    of_class = [order[targets[order] == label][:LEAST_OF_CLASS] for label in (0, 1)]
    first = np.concatenate(of_class)
    return np.concatenate([first, order[~np.isin(order, first)]])


def _fit_time_s(
    model: ClosedFormModel[DescriptorBatch],
    batch: DescriptorBatch,
    targets: Tensor,
    rows: NDArray[np.int64],
) -> float:
    part, learned = batch.take(rows), targets[torch.from_numpy(rows)]
    start = time.perf_counter()
    model.solve(part, learned, seed=0)
    return time.perf_counter() - start
