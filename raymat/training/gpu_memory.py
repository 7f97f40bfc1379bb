"""What one training takes of a GPU's memory, measured by training a little."""

import torch

from raymat.training.device import OutOfMemoryError, free_memory
from raymat.training.gradient import GradientFit

# Of a process that uses the GPU at all, besides its tensors: the driver's context and the kernels.
CONTEXT_BYTES = 600_000_000


def measure_peak_bytes(fit: GradientFit) -> int | None:
    """Train on one large batch, predict some rows, and give the most memory held for tensors.

    The weights of the fit change, so it is of no further use. What the process takes besides
    tensors (`CONTEXT_BYTES`) is not in the number.

    Args:
        fit: on a GPU.

    Returns:
        Bytes, or None if the batch does not fit into the GPU at all.
    """
    torch.cuda.synchronize(fit.device)
    free_memory(fit.device.type)
    torch.cuda.reset_peak_memory_stats(fit.device)
    try:
        fit.try_large_batch()
    except OutOfMemoryError:
        return None
    torch.cuda.synchronize(fit.device)
    return int(torch.cuda.max_memory_reserved(fit.device))


def gpu_bytes() -> int:
    """Give the memory of the GPU that this process uses."""
    return int(torch.cuda.get_device_properties(0).total_memory)
