"""Bring in the public CGCNN checkpoints of `txie-93/cgcnn` (MIT, copyright 2018 Tian Xie).

Their tensor names are those of this project's CGCNN but for the head, and so are their shapes:
the columns of `fc_full` are center, neighbor, distance; its rows are gate, then core.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from raymat.errors import ModelFileError
from raymat.models.cgcnn import CGCNN, CGCNNConfig
from raymat.properties import Task

_HEAD = ("conv_to_fc", "fcs", "fc_out")
_ELEMENT_DIM, _DISTANCE_STEP = 92, 0.2


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
    except (OSError, RuntimeError, ValueError, EOFError) as cause:
        raise ModelFileError(f"{path}: cannot be read ({_first_line(cause)})") from cause
    except UnpicklingError as cause:
        raise ModelFileError(
            f"{path}: refused by the restricted loader ({_first_line(cause)})"
        ) from cause
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ModelFileError(f"{path}: no 'state_dict' in it; expected a public CGCNN checkpoint")
    normalizer = content.get("normalizer", {})
    return ImportedCGCNN(
        network=from_public_state(content["state_dict"]),
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
        config, task = _config_of(state)
        network = CGCNN(config, task)
        renamed = {_own_name(name): tensor for name, tensor in state.items()}
        missing, unexpected = network.load_state_dict(renamed, strict=False)
    except (KeyError, RuntimeError) as cause:
        raise ModelFileError(f"not a CGCNN state dict: {_first_line(cause)}") from cause
    # The public files predate this counter; it plays no part in evaluation.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ModelFileError(f"not a CGCNN state dict: missing {missing}, left over {unexpected}")
    return network.eval()


def _config_of(state: Mapping[str, Tensor]) -> tuple[CGCNNConfig, Task]:
    atom_dim, element_dim = state["embedding.weight"].shape
    edge_dim = state["convs.0.fc_full.weight"].shape[1] - 2 * atom_dim
    if element_dim != _ELEMENT_DIM:
        raise ModelFileError(f"element vectors of {element_dim} numbers; expected {_ELEMENT_DIM}")
    config = CGCNNConfig(
        atom_dim=atom_dim,
        n_conv=_count(state, "convs"),
        hidden_dim=state["conv_to_fc.weight"].shape[0],
        n_hidden=1 + _count(state, "fcs"),
        cutoff=round((edge_dim - 1) * _DISTANCE_STEP, 6),
        pad="reference",
    )
    return config, "classification" if len(state["fc_out.bias"]) == 2 else "regression"


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(f"{prefix}.")})


def _own_name(public: str) -> str:
    return f"head.{public}" if public.split(".")[0] in _HEAD else public


def _numpy_scalars() -> list[Any]:
    # The classifier stores its best score as a numpy scalar, under the module's old name.
    import numpy as np
    from numpy._core.multiarray import scalar

    return [(scalar, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
