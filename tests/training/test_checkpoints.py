"""Checkpoints: whole or not at all, without code, and refused when they do not fit."""

import os
import re

import numpy as np
import pytest
import torch
from fitting import make_data, make_fit, run, same_weights, weights
from tmpfs import fill, mounted

from raymat.errors import RunError
from raymat.training import checkpoints
from raymat.training.checkpoints import load_checkpoint, save_checkpoint, write_atomically


@pytest.fixture
def small_disk(tmp_path):
    with mounted(tmp_path / "disk", kilobytes=512) as folder:
        yield folder


@pytest.fixture
def fitting(twelve_crystals):
    return run(make_fit(make_data(twelve_crystals)), 1)


def test_none_there(fitting, tmp_path):
    assert not load_checkpoint(fitting, tmp_path / "last.pt")


def test_holds_history_best_epoch_and_optimiser(fitting, tmp_path):
    save_checkpoint(run(fitting, 2), tmp_path / "last.pt")
    again = make_fit(fitting.data, seed=5)
    assert load_checkpoint(again, tmp_path / "last.pt")
    assert again.history == fitting.history
    assert again.best == fitting.best
    moments = [state["exp_avg"] for state in fitting.optimizer.state.values()]
    restored = [state["exp_avg"] for state in again.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, restored, strict=True))
    assert all(torch.equal(v, fitting.best_weights[k]) for k, v in again.best_weights.items())


def test_best_weights_are_those_of_the_best_epoch(fitting, tmp_path, monkeypatch):
    at_best = weights(fitting)
    monkeypatch.setattr("raymat.training.fit.validation_score", lambda *_: 1e9)
    save_checkpoint(run(fitting, 2), tmp_path / "last.pt")
    again = make_fit(fitting.data, seed=5)
    load_checkpoint(again, tmp_path / "last.pt")
    assert again.best.epoch == 1
    assert same_weights(again, fitting)
    again.use_best_weights()
    assert all(np.array_equal(v, weights(again)[k]) for k, v in at_best.items())
    assert not same_weights(again, fitting)


def test_before_the_first_epoch(fitting, tmp_path):
    fresh = make_fit(fitting.data)
    save_checkpoint(fresh, tmp_path / "last.pt")
    again = make_fit(fitting.data, seed=3)
    load_checkpoint(again, tmp_path / "last.pt")
    assert again.epoch == 0
    assert again.best is None


def test_nothing_else_is_left_in_the_folder(fitting, tmp_path):
    for _ in range(2):
        save_checkpoint(fitting, tmp_path / "last.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_interrupted_write_keeps_the_old_one(fitting, tmp_path, monkeypatch):
    save_checkpoint(fitting, tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "last.pt", {"epoch": 7})
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_damaged(fitting, tmp_path, keep):
    path = tmp_path / "last.pt"
    save_checkpoint(fitting, path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    message = re.escape(f"{path}: not a checkpoint of this configuration, or damaged")
    with pytest.raises(RunError, match=message + ".*delete it to train from the start"):
        load_checkpoint(fitting, path)


def test_other_configuration(fitting, tmp_path):
    save_checkpoint(fitting, tmp_path / "last.pt")
    other = make_fit(fitting.data, model={"atom_dim": 9})
    with pytest.raises(RunError, match="not a checkpoint of this configuration"):
        load_checkpoint(other, tmp_path / "last.pt")


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_code_in_it_is_not_run(fitting, tmp_path):
    torch.save({**fitting.state(), "extra": Payload(tmp_path / "run")}, tmp_path / "last.pt")
    with pytest.raises(RunError, match="not a checkpoint of this configuration"):
        load_checkpoint(fitting, tmp_path / "last.pt")
    assert not (tmp_path / "run").exists()


def test_missing_folder(fitting, tmp_path):
    path = tmp_path / "none" / "last.pt"
    with pytest.raises(RunError, match=r"last\.pt: the checkpoint cannot be written \(No such"):
        save_checkpoint(fitting, path)


def test_full_disk(fitting, small_disk):
    """torch.save itself would hide it behind a RuntimeError about its zip file."""
    path = small_disk / "last.pt"
    save_checkpoint(fitting, path)
    before = path.read_bytes()
    fill(small_disk)
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\); free"):
        save_checkpoint(fitting, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "last.pt"]
