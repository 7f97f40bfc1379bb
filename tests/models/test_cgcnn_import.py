"""Public checkpoints: read with the restricted loader, or refused in one clear line."""

import os
import pickle

import numpy as np
import pytest
import torch
from golden import public_state

from raymat.errors import ModelFileError
from raymat.models._cgcnn_import import from_public_state, read_public_checkpoint
from raymat.models.cgcnn import CGCNN, CGCNNConfig

AUTHORS_PATH = "/home/author/cgcnn/data/root_dir"


@pytest.fixture
def state():
    return public_state("B_small_3h")


def write_checkpoint(path, state, **extra):
    """Write what the public files hold, in their old, non-zip format."""
    content = {
        "epoch": 457,
        "state_dict": state,
        "best_mae_error": torch.tensor(0.37),
        "optimizer": {"state": {}, "param_groups": []},
        "normalizer": {"mean": torch.tensor(2.5), "std": torch.tensor(1.5)},
        "args": {"data_options": [AUTHORS_PATH], "lr": 0.05},
        **extra,
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def test_round_trip(state):
    network = from_public_state(state)
    assert isinstance(network, CGCNN)
    assert network.config == CGCNNConfig(
        atom_dim=16, n_conv=2, hidden_dim=24, n_hidden=3, pad="reference"
    )
    own = {k.removeprefix("head."): v for k, v in network.state_dict().items()}
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    assert set(own) - counters == set(state)
    assert all(torch.equal(own[name], state[name]) for name in state)
    again = from_public_state(own)  # newer torch writes the counters; they are welcome
    assert again.config == network.config


def test_other_cutoff(state):
    """The cutoff is read off the number of Gaussians, 0.2 Å apart: 26 reach 5 Å."""
    for i in range(2):
        state[f"convs.{i}.fc_full.weight"] = state[f"convs.{i}.fc_full.weight"][:, :-15]
    assert from_public_state(state).config.cutoff == 5.0


def test_class_is_told_by_two_outputs():
    assert from_public_state(public_state("C_class")).predicts == "classification"
    assert from_public_state(public_state("A_default")).predicts == "regression"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("embedding.weight", None, r"missing \['embedding.weight'\]"),
        ("convs.1.bn2.running_var", None, r"missing \['convs.1.bn2.running_var'\]"),
        ("fc_out.bias", None, r"missing \['head.fc_out.bias'\]"),
        ("convs.0.bn3.weight", torch.zeros(4), r"left over \['convs.0.bn3.weight'\]"),
        ("convs.1.bn1.bias", torch.zeros(3), r"'convs.1.bn1.bias' has shape \(3,\); expected"),
        ("embedding.weight", torch.zeros(16, 90), "element vectors of 90 numbers; expected 92"),
        ("embedding.weight", torch.zeros(92), "'embedding.weight' has shape .* a matrix"),
        ("convs.0.fc_full.weight", torch.zeros(32, 32), "sizes out of bounds .cutoff: .*-0.2"),
    ],
)
def test_what_does_not_fit_is_named(state, name, tensor, message):
    state.pop(name, None)
    if tensor is not None:
        state[name] = tensor
    with pytest.raises(ModelFileError, match=message) as caught:
        from_public_state(state)
    assert "\n" not in str(caught.value)


def test_checkpoint(tmp_path, state):
    imported = read_public_checkpoint(write_checkpoint(tmp_path / "a.pth.tar", state))
    assert (imported.mean, imported.std, imported.epoch) == (2.5, 1.5, 457)
    assert torch.equal(imported.network.embedding.weight, state["embedding.weight"])


def test_authors_paths_are_left_behind(tmp_path, state):
    imported = read_public_checkpoint(write_checkpoint(tmp_path / "a.pth.tar", state))
    assert AUTHORS_PATH.encode() in (tmp_path / "a.pth.tar").read_bytes()
    assert AUTHORS_PATH.encode() not in pickle.dumps(imported)


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_scalar_in_the_classifier(tmp_path, module):
    """Its best score is a numpy scalar, pickled by numpy 1 or 2."""
    path = tmp_path / "a.pth.tar"
    write_checkpoint(path, public_state("C_class"), best_mae_error=np.float64(0.95))
    content = path.read_bytes()
    assert content.count(b"numpy._core.multiarray") == 1
    path.write_bytes(content.replace(b"numpy._core.multiarray", module))
    assert read_public_checkpoint(path).network.predicts == "classification"


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_is_refused_and_not_run(tmp_path, state, is_zip):
    path, mark = tmp_path / "evil.pth.tar", tmp_path / "was_run"
    content = {"state_dict": state, "args": Payload(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ModelFileError, match=r"refused by the restricted loader .*posix\.mkdir"):
        read_public_checkpoint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # it would have run: the check above can fail
    assert mark.exists()


def test_refusal_does_not_advise_to_load_it_anyway(tmp_path, state):
    path = tmp_path / "evil.pth.tar"
    torch.save({"state_dict": state, "args": Payload(tmp_path / "x")}, path)
    with pytest.raises(ModelFileError, match="only tensors and plain values are read") as caught:
        read_public_checkpoint(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.pth\.tar: cannot be read"),
        (b"hello world, this is no checkpoint", r"a\.pth\.tar: (cannot be read|refused)"),
        (b"PK\x03\x04 cut short", r"a\.pth\.tar: cannot be read"),
    ],
)
def test_other_files(tmp_path, content, message):
    (tmp_path / "a.pth.tar").write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_public_checkpoint(tmp_path / "a.pth.tar")
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match="No such file"):
        read_public_checkpoint(tmp_path / "none.pth.tar")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": [1]}])
def test_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "a.pth.tar")
    with pytest.raises(ModelFileError, match="no 'state_dict' in it; expected a public CGCNN"):
        read_public_checkpoint(tmp_path / "a.pth.tar")


def test_restricted_loader_is_left_as_it_was(tmp_path, state):
    before = set(torch.serialization.get_safe_globals())
    read_public_checkpoint(write_checkpoint(tmp_path / "a.pth.tar", state))
    assert set(torch.serialization.get_safe_globals()) == before
