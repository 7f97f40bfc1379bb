"""Where tensors live, and how a process works on them."""

import ctypes

import torch

from raymat.errors import ClusterError

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 2**25  # bytes of one block: the most that every glibc accepts
_NEVER = 2**31 - 1

OutOfMemoryError = torch.OutOfMemoryError  # of a GPU
# What PyTorch raises where the device is at fault, and not what it computes.
DEVICE_ERRORS = (torch.AcceleratorError, OutOfMemoryError)


def sees_gpu() -> bool:
    """Say whether PyTorch can use a GPU in this process."""
    return torch.cuda.is_available()


def choose_device(gpus: float | None) -> str:
    """Give ``cuda`` or ``cpu``: what was asked for, or what there is if nothing was.

    Raises:
        ClusterError: a GPU was asked for and there is none.
    """
    is_there = sees_gpu()
    if gpus is None:
        return "cuda" if is_there else "cpu"
    if gpus > 0 and not is_there:
        raise ClusterError(
            f"--gpus {gpus:g}: PyTorch sees no GPU here; leave it out to use the CPU"
        )
    return "cuda" if gpus > 0 else "cpu"


def prepare_process(threads: int) -> None:
    """Make this process ready to compute with `threads` CPU threads.

    With one thread, a run on a CPU repeats bit by bit. Denormal numbers (below 1e-38 in float32),
    such as an optimizer's moments of a weight that is no longer used, are computed as 0: many
    processors take dozens of cycles for each. This is a state of a thread, which the threads that
    it starts inherit, so it holds in all of them if this is called before PyTorch computes.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next tensor.

    glibc gives blocks of some megabytes back to the system and asks for them again at once, page
    by page: at every layer of every batch. Elsewhere nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another system, or another C library
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)


def peak_memory_gb(device: str) -> float | None:
    """Give the most memory of a GPU that PyTorch has held since `forget_peak`; None for a CPU."""
    return torch.cuda.max_memory_reserved(device) / 1e9 if device.startswith("cuda") else None


def forget_peak(device: str) -> None:
    """Let `peak_memory_gb` count from here; nothing to do for a CPU."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def free_memory(device: str) -> None:
    """Give the memory that PyTorch keeps for later back to the GPU; nothing to do for a CPU."""
    if device == "cuda":
        torch.cuda.empty_cache()
