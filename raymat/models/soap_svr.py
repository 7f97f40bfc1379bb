r"""SOAP-SVR: support vector regression on SOAP vectors.

The kernel model of Abenza's thesis (section 2.3.3), fitted by scikit-learn, which finds the support
vectors :math:`x_k` and their coefficients:

.. math:: y(x) = b + \sum_k a_k \exp(-\gamma \lvert x - x_k \rvert^2)

Errors below `epsilon` cost nothing. All settings are scikit-learn's defaults, as in the thesis,
but for one: targets are learned in standard deviations, not in their own unit. In the thesis'
setting, ``training.target_scaling: none``, a property that spreads less than 0.1, such as the
Poisson ratio (standard deviation 0.06), is fitted by little more than a constant. The time of a fit
grows at least with the square of the number of crystals.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from raymat.errors import DataError
from raymat.features.descriptor_table import DescriptorBatch
from raymat.models._soap_fields import (
    SoapModelConfig,
    elements_of,
    scale_features,
    soap_view,
)
from raymat.models._spec import ClosedFormModel, ModelSpec, Output
from raymat.models._svr_forecast import slow_fit_warning

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]

CACHE_MB = 500  # of kernel values during a fit: all of 7,900 crystals, in float32
N_FOLDS = 5  # of the cross-validation behind class probabilities, as in libsvm
CHUNK_VALUES = 4_000_000  # float64 that one step of a prediction may fill in, 32 MB
SAME = 1e-12  # relative: values that spread less than this are one number and its rounding
N_PROJECTIONS = 64  # bits of a uint64; distances are kept to about 1 / sqrt(2 * 64) = 9 %


class SOAPSVRConfig(SoapModelConfig):
    """Choices of SOAP-SVR; defaults are those of the thesis, which are scikit-learn's.

    (The thesis' targets are unscaled, which `ClosedFormConfig` has as an option.)

    Attributes:
        C: what an error costs, against a flatter function.
        epsilon: error that costs nothing, in the unit of the (scaled) target; not for classes.
        gamma: inverse squared width of the kernel; "scale" is 1 / (n_features Var(X)) of the
            values X of the training vectors, zeros included.
        gamma_factor: multiplies gamma. Unlike gamma itself, it means the same for every
            descriptor and scaling, so it is what a search varies.
        tol: where the solver stops.
        feature_scaling: of the vectors. "norm" and "sqrt" as for every model on SOAP vectors;
            "max_abs" divides each feature by its largest absolute value among the training
            crystals, one that none of them has by the largest of all. Zeros stay zero.
    """

    C: float = Field(1.0, gt=0.0, le=1e6)
    epsilon: float = Field(0.1, ge=0.0, le=100.0)
    gamma: Literal["scale"] | float = "scale"
    gamma_factor: float = Field(1.0, gt=0.0, le=1e6)
    tol: float = Field(1e-3, ge=1e-9, le=0.1)
    feature_scaling: Literal["none", "max_abs", "norm", "sqrt"] = "none"

    @field_validator("gamma", mode="before")
    @classmethod
    def _usable_gamma(cls, gamma: Any) -> Any:
        is_number = isinstance(gamma, int | float) and not isinstance(gamma, bool)
        if gamma != "scale" and not (is_number and gamma > 0):
            raise ValueError("must be a number above 0, or 'scale'")
        return gamma


class SOAPSVR(ClosedFormModel[DescriptorBatch]):
    r"""Support vectors, their coefficients, and predictions from them by torch alone.

    Classes are told apart by the sign of the same function. Its value f becomes a probability by
    Platt's logistic curve :math:`1 / (1 + e^{A f + B})`, with A and B from the values that
    crystals get when they are left out of the fit (cross-validation, so a fit takes about five
    times as long).
    """

    columns: Tensor  # (n_values,) of all support vectors: which feature
    values: Tensor  # (n_values,) scaled as `feature_scaling` says
    offsets: Tensor  # (n_support + 1,)
    coefficients: Tensor  # (n_support,)
    intercept: Tensor  # (1,)
    gamma: Tensor  # (1,)
    divisors: Tensor  # (n_features,) for "max_abs", else (0,)
    platt: Tensor  # (2,) A and B for classes, else (0,)

    def __init__(self, config: SOAPSVRConfig, output: Output) -> None:
        super().__init__()
        self.config, self.predicts, self.n_features = config, output, config.soap.n_features
        for name in ("columns", "offsets"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))
        for name in ("values", "coefficients", "intercept", "gamma", "divisors", "platt"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.float64))

    @property
    def n_parameters(self) -> int:
        """Numbers that training sets.

        These are the values of the support vectors, their coefficients, the intercept and gamma;
        for classes A and B, for "max_abs" the divisors. The whole numbers that say which feature a
        value belongs to are not counted.
        """
        return sum(buffer.numel() for buffer in self.buffers() if buffer.is_floating_point())

    def prepare(self) -> None:
        """Import scikit-learn."""
        import sklearn.calibration
        import sklearn.svm  # noqa: F401

    def solve(self, batch: DescriptorBatch, targets: Tensor, *, seed: int) -> None:
        """Fit to all training rows: targets (n_crystals,), scaled, or classes 0 and 1.

        Args:
            batch: the training crystals.
            targets: what to learn.
            seed: of the folds behind class probabilities; numbers draw nothing.

        Raises:
            DataError: all values are equal where gamma is "scale", or a class has fewer than two
                crystals.
        """
        self.divisors = _largest(batch) if self.config.feature_scaling == "max_abs" else _none()
        x, y = _matrix(self._scaled(batch)), targets.double().numpy()
        gamma = self.config.gamma_factor * (
            _scale_gamma(x) if self.config.gamma == "scale" else self.config.gamma
        )
        self.gamma = torch.tensor([gamma], dtype=torch.float64)
        if self.predicts == "classification":
            machine, self.platt = _fit_classes(self._machine(), x, y, seed=seed)
        else:
            machine, self.platt = self._machine().fit(x, y), _none()
        support = _batch(x[machine.support_])
        self.columns, self.values, self.offsets = support.columns, support.values, support.offsets
        self.coefficients = torch.tensor(machine.dual_coef_.toarray().ravel())
        self.intercept = torch.tensor(machine.intercept_)

    def find_damage(self) -> str | None:
        """Return what no fit leaves in the buffers, such as features that do not exist."""
        n_values, steps = len(self.values), self.offsets.diff()
        n_curve = 2 if self.predicts == "classification" else 0
        n_divisors = self.n_features if self.config.feature_scaling == "max_abs" else 0
        if (len(self.gamma), len(self.intercept)) != (1, 1) or float(self.gamma) <= 0:
            return "it holds no fitted gamma above 0 and intercept"
        if len(self.offsets) != len(self.coefficients) + 1 or len(self.columns) != n_values:
            return "coefficients, offsets and values are of different support vectors"
        if (int(self.offsets[0]), int(self.offsets[-1])) != (0, n_values) or (steps < 0).any():
            return "offsets do not divide the values"
        if ((self.columns < 0) | (self.columns >= self.n_features)).any():
            return f"columns lie outside the {self.n_features:,} features"
        if len(self.platt) != n_curve:
            return f"it holds {len(self.platt)} numbers of a logistic curve, expected {n_curve}"
        if len(self.divisors) != n_divisors or (self.divisors <= 0).any():
            return f"it does not hold the {n_divisors:,} positive divisors of feature_scaling"
        return None

    def latent(self, batch: DescriptorBatch) -> Tensor:
        """Give (n_crystals, 1 + 64) in float64: the decision function, and where a crystal lies.

        A kernel model has no hidden vector: it knows a crystal by its distances to others, and
        those are what a random projection of the (scaled) vectors keeps (Johnson & Lindenstrauss,
        Contemp. Math. 1984, 26, 189), at a width that depends neither on the number of features
        nor on that of the support vectors.

        Raises:
            RuntimeError: the model has not been fitted.
        """
        if len(self.gamma) == 0:
            raise RuntimeError("this SOAP-SVR has no support vectors yet; fit or load it first")
        scaled = self._scaled(batch)
        parts = [self._decide(part) for part in self._chunks(scaled)]
        decisions = torch.cat([self.intercept.new_zeros(0), *parts])
        projection = _projection(self.n_features).to(decisions.device)
        return torch.cat([decisions[:, None], scaled.matmul(projection)], dim=1)

    def from_latent(self, crystals: Tensor) -> Tensor:
        """Predict from the decision function; see `CrystalModel.forward`."""
        decisions = crystals[:, 0]
        if self.predicts == "regression":
            return decisions[:, None]
        slope, shift = self.platt
        logits = slope * decisions + shift  # of class 0
        return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], dim=1)

    def _machine(self) -> Any:
        """Give scikit-learn's estimator."""
        from sklearn.svm import SVC, SVR

        config = self.config
        shared = {"kernel": "rbf", "C": config.C, "gamma": float(self.gamma), "tol": config.tol}
        if self.predicts == "classification":
            return SVC(**shared, cache_size=CACHE_MB)
        return SVR(**shared, cache_size=CACHE_MB, epsilon=config.epsilon)

    def _scaled(self, batch: DescriptorBatch) -> DescriptorBatch:
        if self.config.feature_scaling == "max_abs":
            return replace(batch, values=batch.values / self.divisors[batch.columns])
        return scale_features(batch, self.config.feature_scaling)

    def _decide(self, batch: DescriptorBatch) -> Tensor:  # (n_crystals,)
        """Give b + sum_k a_k exp(-gamma |x - x_k|^2)."""
        support = DescriptorBatch(self.columns, self.values, self.offsets, self.n_features)
        if support.n_crystals == 0:  # no error was larger than epsilon
            return self.intercept.expand(batch.n_crystals)
        # The support vectors stay sparse: only the few crystals of a chunk are filled in.
        products = support.matmul(batch.to_dense().t().contiguous())
        norms = support.squared_norms()[:, None] + batch.squared_norms()
        kernel = torch.exp(-self.gamma * (norms - 2 * products).clamp(min=0))
        return self.coefficients @ kernel + self.intercept

    def _chunks(self, batch: DescriptorBatch) -> Iterator[DescriptorBatch]:
        """Cut a batch, so that neither its zeros nor its kernel values take much memory."""
        size = max(1, CHUNK_VALUES // max(self.n_features, len(self.coefficients)))
        for first in range(0, batch.n_crystals, size):
            offsets = batch.offsets[first : first + size + 1]
            values = slice(int(offsets[0]), int(offsets[-1]))
            yield replace(
                batch,
                columns=batch.columns[values],
                values=batch.values[values],
                offsets=offsets - offsets[0],
            )


def _fit_classes(machine: Any, x: "csr_matrix", y: Floats, *, seed: int) -> tuple[Any, Tensor]:
    """Fit a classifier and the A and B of its probabilities."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold

    counts = [int(np.sum(y == label)) for label in (0, 1)]
    if min(counts) < 2:
        raise DataError(
            f"the training rows hold {counts[0]:,} crystals of class 0 and {counts[1]:,} of class"
            " 1; soap_svr needs two of each to leave some out for its probabilities; use more"
            " rows, another split.seed, or soap_mlp"
        )
    folds = StratifiedKFold(min(N_FOLDS, *counts), shuffle=True, random_state=seed % 2**32)
    both = CalibratedClassifierCV(machine, method="sigmoid", cv=folds, ensemble=False).fit(x, y)
    (fitted,) = both.calibrated_classifiers_
    (curve,) = fitted.calibrators
    return fitted.estimator, torch.tensor([curve.a_, curve.b_], dtype=torch.float64)


def _scale_gamma(x: "csr_matrix") -> float:
    """Give 1 / (n_features Var(X)), the zeros of X included."""
    n_values = x.shape[0] * x.shape[1]
    mean = x.data.sum() / n_values
    n_zeros = n_values - x.nnz
    variance = (np.square(x.data - mean).sum() + n_zeros * mean**2) / n_values
    if variance <= (SAME * mean) ** 2:
        raise DataError(
            f"all values in the SOAP vectors of the {x.shape[0]:,} training crystals are equal, so"
            " there is no width for model.gamma 'scale'; set model.gamma to a number, or choose"
            " another model.compression or model.feature_scaling"
        )
    return float(1.0 / (x.shape[1] * variance))


@cache
def _projection(n_features: int) -> Tensor:
    """Give (n_features, 64) of random signs over 8, the same for every model of that length.

    Signs keep distances as well as normal numbers do (Achlioptas, J. Comput. Syst. Sci. 2003, 66,
    671), and the raw bits of a generator, unlike what is drawn from them, never change.
    """
    bits = np.random.PCG64(0).random_raw(n_features).astype("<u8")[:, None].view(np.uint8)
    signs = 2.0 * np.unpackbits(bits, axis=1) - 1.0
    return torch.from_numpy(signs / N_PROJECTIONS**0.5)


def _largest(batch: DescriptorBatch) -> Tensor:
    """(n_features,) largest absolute value; where there is none, the largest of all features."""
    found = batch.values.new_zeros(batch.n_features)
    found.scatter_reduce_(0, batch.columns, batch.values.abs(), "amax")
    return found.where(found > 0, found.max())


def _matrix(batch: DescriptorBatch) -> "csr_matrix":
    """Give scipy's form of a batch, with the 32-bit indices that libsvm takes."""
    from scipy.sparse import csr_matrix

    parts = (batch.values.numpy(), batch.columns.int().numpy(), batch.offsets.int().numpy())
    return csr_matrix(parts, shape=(batch.n_crystals, batch.n_features))


def _batch(matrix: "csr_matrix") -> DescriptorBatch:
    return DescriptorBatch(
        columns=torch.from_numpy(matrix.indices.astype(np.int64)),
        values=torch.from_numpy(matrix.data),
        offsets=torch.from_numpy(matrix.indptr.astype(np.int64)),
        n_features=matrix.shape[1],
    )


def _none() -> Tensor:
    return torch.zeros(0, dtype=torch.float64)


SPEC = ModelSpec(
    config=SOAPSVRConfig,
    build=SOAPSVR,
    reads=soap_view,
    fit="closed_form",
    warn=partial(slow_fit_warning, SOAPSVR),
    from_data=elements_of,
)
