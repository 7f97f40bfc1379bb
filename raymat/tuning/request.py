"""What a user asks of `raymat tune`, in a form that `run.json` keeps for `raymat resume`."""

from typing import Any

from pydantic import Field

from raymat.config import Concurrency, Config, Gpus, Seed
from raymat.data.limits import MAX_REJECTED
from raymat.data.splits import SplitConfig
from raymat.training.inputs import ClassRule


class TuneRequest(Config):
    """A search, completely described.

    Attributes:
        space: the search space in its YAML form.
        space_path: where it was read from, for messages.
        data: a file, a folder or the name of a built-in set.
        target: the column to learn.
        classes: learn whether a number lies above the median of the training rows, or above a
            value, instead of the number; "none" learns a column of 0 and 1 as a number; None
            leaves it to the values.
        split: how rows are divided.
        seed: of the split, the search and the trials (trial k trains with seed + k).
        address: a Ray cluster; None for a local Ray.
        time_budget_s: seconds after which no trial goes on.
        concurrency: trials at a time; None leaves it to the resources.
        gpus: GPUs per trial; None leaves it to the space and the machine.
        max_rejected: share of unusable rows that is tolerated.
    """

    space: dict[str, Any]
    space_path: str
    data: str
    target: str
    classes: ClassRule | None = None
    split: SplitConfig
    seed: Seed = 0
    address: str | None = None
    time_budget_s: float | None = Field(None, gt=0.0, le=3.2e8)  # ten years
    concurrency: Concurrency | None = None
    gpus: Gpus | None = None
    max_rejected: float = Field(MAX_REJECTED, ge=0.0, le=1.0)
