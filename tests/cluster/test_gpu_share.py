"""The share of a GPU that a training takes; what needs a GPU is skipped without one."""

import numpy as np
import pytest
import torch
from spaces import small_space
from test_member import data_of
from tiny_ensembles import TINY

from raymat.cluster.gpu_share import HEADROOM, MOST_ON_ONE, _corners, measure, share_of
from raymat.data.crystals import CrystalSet
from raymat.models import load_spec
from raymat.training.gradient import GradientFit
from raymat.training.loops import start_fit
from raymat.tuning.space_features import configurations_of
from raymat.tuning.trial_config import TrialConfig

GB = 1_000_000_000
needs_gpu = pytest.mark.gpu


def config_of(**values: object) -> TrialConfig:
    return TrialConfig.from_dict({"model": "cgcnn", "config": {**TINY, **values}}, where="here")


@pytest.mark.parametrize(
    ("n_bytes", "share"),
    [
        (None, 1.0),  # not even one batch fits
        (60 * GB, 1.0),
        (33 * GB, 1.0),  # two would fit without headroom
        (32 * GB, 0.5),
        (20 * GB, 0.3333),  # which Ray counts as three
        (9 * GB, 0.1428),
        (GB, 1 / MOST_ON_ONE),
    ],
)
def test_share_is_one_of_equal_parts(n_bytes: int | None, share: float) -> None:
    assert share_of(n_bytes, 80 * GB) == share


@pytest.mark.parametrize("n_bytes", range(GB, 80 * GB, 700_000_000))
def test_those_that_share_fit(n_bytes: int) -> None:
    share = share_of(n_bytes, 80 * GB)
    at_once = int(1 / share)
    assert at_once * n_bytes * HEADROOM <= 80 * GB or at_once == 1
    assert at_once <= MOST_ON_ONE


def test_corners_differ_in_what_memory_depends_on() -> None:
    space = small_space(
        fixed={"model.n_conv": 1},
        space={
            "model.atom_dim": {"int": [8, 64]},
            "training.batch_size": {"choice": [4, 32]},
            "training.lr": {"log_uniform": [1e-4, 1e-1]},
        },
    )
    corners = [config.flat() for config in _corners(configurations_of(space))]
    seen = [(flat["model.atom_dim"], flat["training.batch_size"]) for flat in corners]
    assert len(set(seen)) == len(seen)
    assert {8, 64} <= {atom_dim for atom_dim, _ in seen}
    assert {4, 32} <= {batch_size for _, batch_size in seen}


def test_solutions_in_closed_form_need_no_gpu() -> None:
    assert (
        _corners([TrialConfig.from_dict({"model": "soap_svr", "config": {}}, where="here")]) == []
    )


def test_batch_with_the_most_atoms_is_tried(
    twelve_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(**{"training.batch_size": 3})
    data = data_of(twelve_crystals, config)
    fit = start_fit(load_spec("cgcnn"), config.architecture, config.training, data=data, seed=0)
    assert isinstance(fit, GradientFit)
    step, tried = GradientFit._step, []

    def remember(fit: GradientFit, rows: np.ndarray) -> torch.Tensor:
        tried.append(sorted(rows))
        return step(fit, rows)

    monkeypatch.setattr(GradientFit, "_step", remember)
    fit.try_large_batch()
    (largest, again), tried = tried[:2], []
    assert largest == again
    fit.train_epoch(1)
    sizes = {tuple(rows): int(twelve_crystals.n_sites[rows].sum()) for rows in tried}
    assert sizes[tuple(largest)] == max(sizes.values())


@needs_gpu
def test_peak_grows_with_the_batch(twelve_crystals: CrystalSet) -> None:
    small, large = (
        config_of(**{"training.batch_size": size, "model.atom_dim": dim})
        for size, dim in ((2, 8), (7, 256))
    )
    data = data_of(twelve_crystals, small)
    needs = [measure([config], data) for config in (small, large)]
    assert needs[0].n_bytes < needs[1].n_bytes < needs[1].gpu_bytes
    both = measure([small, large], data)
    assert both.values["model.atom_dim"] == 256
    assert both.n_probes == 2
