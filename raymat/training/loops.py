"""Which loop trains a model: the one its spec names."""

from typing import Any

from raymat.config import Config
from raymat.models._spec import FitKind, ModelSpec
from raymat.training.closed_form import ClosedFormFit
from raymat.training.config import ClosedFormConfig, FitConfig
from raymat.training.fit import Fit, FitData
from raymat.training.gradient import GradientFit

_LOOPS: dict[FitKind, tuple[type[Config], Any]] = {
    "gradient": (FitConfig, GradientFit),
    "closed_form": (ClosedFormConfig, ClosedFormFit),
}


def training_config(spec: ModelSpec) -> type[Config]:
    """Give the class of a model's training settings."""
    return _LOOPS[spec.fit][0]


def start_fit(
    spec: ModelSpec,
    model_config: Config,
    training: Config,
    *,
    data: FitData,
    seed: int,
    device: str = "cpu",
) -> Fit:
    """Prepare the fit of one configuration.

    Raises:
        DataError: the rows are too few, or of one class.
    """
    loop = _LOOPS[spec.fit][1]
    fitting: Fit = loop(spec, model_config, training, data=data, seed=seed, device=device)
    return fitting
