"""Bring in the public CGCNN checkpoints of `txie-93/cgcnn` (MIT, copyright 2018 Tian Xie).

Their tensor names are those of this project's CGCNN but for the head, and so are their shapes:
the columns of `fc_full` are center, neighbor, distance; its rows are gate, then core.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from raymat.errors import ModelFileError
from raymat.models._spec import Output
from raymat.models._weights import load_weights
from raymat.models.cgcnn import CGCNN, CGCNNConfig

_HEAD = ("conv_to_fc", "fcs", "fc_out")
_ELEMENT_DIM, _DISTANCE_STEP = 92, 0.2
_WHERE = "not a CGCNN state dict"
# What torch's loaders raise for a file that is missing, cut short or something else altogether.
_UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class ImportedCGCNN:
    """A public checkpoint: the network, and ``prediction = output * std + mean``."""

    network: CGCNN
    mean: float
    std: float
    epoch: int


def read_public_checkpoint(path: Path) -> ImportedCGCNN:
    """Read one `.pth.tar` file with the restricted loader: no code in it is run.

    Raises:
        ModelFileError: it is not such a checkpoint.
    """
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as cause:
        raise ModelFileError(f"{path}: refused by the restricted loader ({_why(cause)})") from cause
    except _UNREADABLE as cause:
        raise ModelFileError(f"{path}: cannot be read ({_first_line(cause)})") from cause
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ModelFileError(f"{path}: no 'state_dict' in it; expected a public CGCNN checkpoint")
    normalizer = content.get("normalizer", {})
    return ImportedCGCNN(
        network=from_public_state(state),
        mean=float(normalizer.get("mean", 0.0)),
        std=float(normalizer.get("std", 1.0)),
        epoch=int(content.get("epoch", 0)),
    )


def from_public_state(state: Mapping[str, Tensor]) -> CGCNN:
    """Build the network that a public state dict describes, in evaluation mode.

    Sizes are read off the tensors. The graph is the one they were trained on: 12 neighbors
    within 8 Å, empty places filled with atom 0 (`pad` "reference").

    Raises:
        ModelFileError: tensors are missing, left over or of the wrong shape.
    """
    try:
        config, output = _config_of(state)
    except KeyError as cause:
        raise ModelFileError(f"{_WHERE}: missing [{cause}]") from cause
    except ValidationError as cause:
        raise ModelFileError(f"{_WHERE}: sizes out of bounds ({_problem(cause)})") from cause
    network = CGCNN(config, output)
    load_weights(network, {_own_name(k): v for k, v in state.items()}, where=_WHERE)
    return network.eval()


def _config_of(state: Mapping[str, Tensor]) -> tuple[CGCNNConfig, Output]:
    atom_dim, element_dim = _matrix_shape(state, "embedding.weight")
    edge_dim = _matrix_shape(state, "convs.0.fc_full.weight")[1] - 2 * atom_dim
    if element_dim != _ELEMENT_DIM:
        raise ModelFileError(f"element vectors of {element_dim} numbers; expected {_ELEMENT_DIM}")
    config = CGCNNConfig(
        atom_dim=atom_dim,
        n_conv=_count(state, "convs"),
        hidden_dim=_matrix_shape(state, "conv_to_fc.weight")[0],
        n_hidden=1 + _count(state, "fcs"),
        cutoff=round((edge_dim - 1) * _DISTANCE_STEP, 6),
        pad="reference",
    )
    n_outputs, _ = _matrix_shape(state, "fc_out.weight")
    return config, "classification" if n_outputs == 2 else "regression"


def _matrix_shape(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    shape = state[name].shape
    if len(shape) != 2:
        raise ModelFileError(f"{_WHERE}: '{name}' has shape {tuple(shape)}; expected a matrix")
    return shape[0], shape[1]


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(f"{prefix}.")})


def _own_name(public: str) -> str:
    return f"head.{public}" if public.split(".")[0] in _HEAD else public


def _numpy_scalars() -> list[Any]:
    # The classifier stores its best score as a numpy scalar, under the module's old name; files
    # written again with numpy 2 have the new one.
    import numpy as np
    from numpy._core.multiarray import scalar

    names: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar")]
    return [*names, np.dtype, np.dtypes.Float64DType]


def _why(error: UnpicklingError) -> str:
    # torch's own words advise to switch the restricted loader off; only the name is passed on.
    named = re.search(r"GLOBAL (\S+)", str(error))
    held = f"it holds {named[1]}; " if named else ""
    return f"{held}only tensors and plain values are read"


def _problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, found {problem['input']}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
