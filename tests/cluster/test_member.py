"""A member's task, run here: what it refuses to call a trained member."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_ensembles import TINY

from raymat.cluster import member as member_module
from raymat.cluster.member import train_member
from raymat.data.crystals import CrystalSet
from raymat.ensembles.members import MemberPlan
from raymat.errors import DivergedError
from raymat.features.store import FeatureStore
from raymat.training import results
from raymat.training.fit import FitData
from raymat.tuning.trial_config import TrialConfig

TRAIN, VALIDATION, TEST = np.arange(7), np.array([7, 8, 9]), np.array([10, 11])
PLAN = MemberPlan(number=0, attempt=0, configuration=0, seed=1, rows=TRAIN)


def data_of(crystals: CrystalSet, config: TrialConfig) -> FitData:
    from raymat.models import load_spec

    table = load_spec("cgcnn").reads(config.architecture).table_config.build(crystals)
    return FitData(
        features=FeatureStore(crystals, (table,)),
        targets=crystals.target("y"),
        train=TRAIN,
        validation=VALIDATION,
        task="regression",
    )


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(member_module.ray, "get_gpu_ids", list)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("loss", ["mse", "gaussian_nll"])
@pytest.mark.parametrize("column", [0, 1], ids=["mean", "variance"])
def test_prediction_of_a_test_row_must_be_finite(
    loss: str,
    column: int,
    twelve_crystals: CrystalSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Validation rows are fine: no epoch saw anything wrong."""
    content = {"model": "cgcnn", "config": {**TINY, "training.loss": loss}}
    config = TrialConfig.from_dict(content, where="here")
    data = data_of(twelve_crystals, config)
    found = train_member(PLAN, config, data, folder=tmp_path / "fine", n_cpus=1)
    assert (found.result.n_lost, found.row["n_train"]) == (0, 7)
    evaluate = results.evaluate_networks

    def overflow(*arguments: Any, **options: Any) -> Any:
        outputs = evaluate(*arguments, **options)
        outputs[:, TEST[0], column] = np.inf
        return outputs

    monkeypatch.setattr(results, "evaluate_networks", overflow)
    if (loss, column) == ("mse", 1):  # has no such column
        train_member(PLAN, config, data, folder=tmp_path / "other", n_cpus=1)
        return
    words = r"^training diverged: the weights of epoch \d give no finite prediction of 1 of 12 cry"
    with pytest.raises(DivergedError, match=words):
        train_member(PLAN, config, data, folder=tmp_path / "bad", n_cpus=1)
