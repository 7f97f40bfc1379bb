"""Where tensors live, and how a process works on them."""

import platform
import subprocess
import sys

import pytest
import torch

from raymat.errors import ClusterError
from raymat.training.device import (
    choose_device,
    forget_peak,
    free_memory,
    peak_memory_gb,
    prepare_process,
)


@pytest.mark.parametrize(
    ("gpus", "is_there", "expected"),
    [
        (None, False, "cpu"),
        (None, True, "cuda"),
        (0.0, True, "cpu"),
        (0.5, True, "cuda"),
        (0.0, False, "cpu"),
    ],
)
def test_choice(monkeypatch, gpus, is_there, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    assert choose_device(gpus) == expected


def test_asked_for_what_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ClusterError, match=r"--gpus 1: PyTorch sees no GPU here; leave it out"):
        choose_device(1.0)


def test_memory_of_a_cpu_is_not_counted():
    forget_peak("cpu")
    assert peak_memory_gb("cpu") is None


@pytest.mark.gpu
def test_peak_of_a_gpu_is_forgotten():
    first = torch.zeros(250_000_000, device="cuda")  # 1 GB
    assert peak_memory_gb("cuda") > 1.0
    del first
    free_memory("cuda")
    forget_peak("cuda")
    assert peak_memory_gb("cuda") < 0.5


def test_threads():
    before = torch.get_num_threads()
    prepare_process(1)
    assert torch.get_num_threads() == 1
    prepare_process(before)


DENORMALS = """
import sys, threading
import torch
from raymat.training.device import prepare_process

def count():
    weight = torch.full((1_000_000,), 1e-30, requires_grad=True)  # enough for two threads
    product = weight * 1e-10
    product.sum().mul(1e-40).backward()
    return int(torch.count_nonzero(product.detach())) + int(torch.count_nonzero(weight.grad))

found = []
if sys.argv[1] == "prepared":
    prepare_process(2)
torch.set_num_threads(2)
thread = threading.Thread(target=lambda: found.append(count()))
found.append(count())
thread.start()
thread.join()
print(sum(found))
"""


def test_denormal_numbers_are_zero_in_every_thread():
    plain, prepared = (
        int(subprocess.check_output([sys.executable, "-c", DENORMALS, how]))
        for how in ("plain", "prepared")
    )
    assert plain > 0, "this processor has no denormal numbers"
    assert prepared == 0


PAGES_FETCHED = """
import resource, sys
import torch
from raymat.training.device import prepare_process

def step():
    values = torch.ones(13_000, 64, requires_grad=True)  # the edges of a batch
    for _ in range(20):
        values = torch.sigmoid(values) * values
    values.sum().backward()

torch.set_num_threads(1)
if sys.argv[1] == "prepared":
    prepare_process(1)
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_not_fetched_again():
    plain, prepared = (
        int(subprocess.check_output([sys.executable, "-c", PAGES_FETCHED, how]))
        for how in ("plain", "prepared")
    )
    assert prepared < plain / 3


@pytest.mark.parametrize(("device", "freed"), [("cuda", 1), ("cpu", 0)])
def test_memory_is_given_back(monkeypatch, device, freed):
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(1))
    free_memory(device)
    assert len(calls) == freed
