"""Where tensors live."""

import pytest
import torch

from raymat.errors import ClusterError
from raymat.training.device import choose_device, free_memory, use_threads


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


def test_threads():
    before = torch.get_num_threads()
    use_threads(1)
    assert torch.get_num_threads() == 1
    use_threads(before)


@pytest.mark.parametrize(("device", "freed"), [("cuda", 1), ("cpu", 0)])
def test_memory_is_given_back(monkeypatch, device, freed):
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(1))
    free_memory(device)
    assert len(calls) == freed
