"""Put stored tensors into a network, or say exactly what does not fit or is damaged."""

from collections.abc import Mapping

from torch import Tensor, nn

from raymat.errors import ModelFileError
from raymat.models._spec import ClosedFormModel

# Files from before torch 0.4.1 lack this counter; it plays no part in evaluation.
_OPTIONAL = "num_batches_tracked"


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Copy tensors into a network by name.

    Raises:
        ModelFileError: a tensor is missing, left over, of the wrong shape, or holds what no
            training leaves behind; `where` begins the message.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in weights and not name.endswith(_OPTIONAL)]
    unexpected = [name for name in weights if name not in own]
    if missing or unexpected:
        raise ModelFileError(f"{where}: missing {missing}, left over {unexpected}")
    takes_any_size = isinstance(network, ClosedFormModel)
    for name, tensor in weights.items():
        found, expected = tuple(tensor.shape), tuple(own[name].shape)
        if found != expected and not (takes_any_size and len(found) == len(expected)):
            wanted = f"{len(expected)} dimensions" if takes_any_size else expected
            raise ModelFileError(f"{where}: '{name}' has shape {found}; expected {wanted}")
        _refuse_damaged(name, tensor, where)
    network.load_state_dict(weights, strict=False)
    problem = network.find_damage() if isinstance(network, ClosedFormModel) else None
    if problem is not None:
        raise ModelFileError(f"{where}: damaged: {problem}; copy or train the model again")


def _refuse_damaged(name: str, tensor: Tensor, where: str) -> None:
    if not bool(tensor.isfinite().all()):
        problem = "holds NaN or infinite numbers"
    elif name.endswith("running_var") and bool((tensor < 0).any()):
        problem = "holds negative variances"
    else:
        return
    raise ModelFileError(f"{where}: damaged: '{name}' {problem}; copy or train the model again")
