"""Where tensors live, and on how many CPU threads they are worked on."""

import torch

from raymat.errors import ClusterError


def choose_device(gpus: float | None) -> str:
    """Give ``cuda`` or ``cpu``: what was asked for, or what there is if nothing was.

    Raises:
        ClusterError: a GPU was asked for and there is none.
    """
    is_there = torch.cuda.is_available()
    if gpus is None:
        return "cuda" if is_there else "cpu"
    if gpus > 0 and not is_there:
        raise ClusterError(
            f"--gpus {gpus:g}: PyTorch sees no GPU here; leave it out to use the CPU"
        )
    return "cuda" if gpus > 0 else "cpu"


def use_threads(n: int) -> None:
    """Work with `n` CPU threads; with one, a run on a CPU repeats bit by bit."""
    torch.set_num_threads(n)


def free_memory(device: str) -> None:
    """Give the memory that PyTorch keeps for later back to the GPU; nothing to do for a CPU."""
    if device == "cuda":
        torch.cuda.empty_cache()
