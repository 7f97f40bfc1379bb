"""What does not fit is refused before anything is computed; what takes long is told."""

from typing import Any

import numpy as np
import pytest

from raymat.data.crystals import CrystalSet
from raymat.errors import ConfigError
from raymat.features.store import FeatureStore
from raymat.models import _svr_forecast, available, load_spec
from raymat.training.fit import FitData
from raymat.training.forecast import count_parameters, count_training_bytes, slow_fit_warning
from raymat.tuning import forecast
from raymat.tuning.forecast import check_memory
from raymat.tuning.trial_config import TrialConfig


def configured(model: str, **values: Any) -> TrialConfig:
    content = {key.replace("__", "."): value for key, value in values.items()}
    return TrialConfig.from_dict({"model": model, "config": content}, where="test.yaml")


def decided(model: str, crystals: CrystalSet, **values: Any) -> TrialConfig:
    return configured(model, **values).decided_by(crystals)


@pytest.mark.parametrize("model", available())
def test_defaults_fit_into_any_machine(model: str, tiny_crystals: CrystalSet) -> None:
    config = decided(model, tiny_crystals)
    for task in ("regression", "classification"):
        check_memory([config], tiny_crystals, task, n_workers=2)


def test_parameters_are_counted_without_allocating_them(tiny_crystals: CrystalSet) -> None:
    config = decided("cgcnn", tiny_crystals)
    spec = load_spec("cgcnn")
    built = spec.build(config.architecture, "regression")
    assert count_parameters(spec, config.architecture, "regression") == built.n_parameters
    assert count_training_bytes(1000) == 20_000
    closed = decided("soap_svr", tiny_crystals)
    assert count_parameters(load_spec("soap_svr"), closed.architecture, "regression") == 0


def test_network_that_does_not_fit(
    tiny_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "available_memory", lambda: 3_000_000)
    config = decided("cgcnn", tiny_crystals, model__hidden_dim=2048)
    with pytest.raises(ConfigError, match=r"^cgcnn has [\d,]+ parameters with ") as caught:
        check_memory([config], tiny_crystals, "regression", n_workers=2)
    message = str(caught.value)
    assert "with model.hidden_dim 2048: training 2 at a time takes " in message
    assert " GB, 0.003 GB are free; make the network" in message
    assert "\n" not in message


def test_table_that_does_not_fit(
    tiny_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "available_memory", lambda: 10_000)
    config = decided("megnet", tiny_crystals, model__cutoff=8.0)
    with pytest.raises(ConfigError, match=r"^edges of 4 crystals .* lower model.cutoff") as caught:
        check_memory([config], tiny_crystals, "regression", n_workers=1)
    assert "\n" not in str(caught.value)


def test_descriptor_that_does_not_fit_comes_with_advice(
    tiny_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "available_memory", lambda: 2_100_000)
    config = decided("soap_svr", tiny_crystals, model__n_max=8, model__l_max=8)
    with pytest.raises(
        ConfigError, match=r"features .*free; set compression to crossover"
    ) as caught:
        check_memory([config], tiny_crystals, "regression", n_workers=1)
    assert "\n" not in str(caught.value)


def test_every_configuration_is_looked_at(
    tiny_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "available_memory", lambda: 3_000_000)
    sizes = [decided("cgcnn", tiny_crystals, model__hidden_dim=size) for size in (8, 16, 2048)]
    check_memory(sizes[:2], tiny_crystals, "regression", n_workers=1)
    with pytest.raises(ConfigError, match="hidden_dim 2048"):
        check_memory(sizes, tiny_crystals, "regression", n_workers=1)


def test_slow_fit_is_told(twelve_crystals: CrystalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    config = decided("soap_svr", twelve_crystals)
    data = FitData(
        features=FeatureStore(twelve_crystals.without_properties()),
        targets=twelve_crystals.target("y"),
        train=np.arange(9),
        validation=np.arange(9, 12),
        task="regression",
    )
    spec = load_spec("soap_svr")
    assert slow_fit_warning(spec, config.architecture, data) is None
    monkeypatch.setattr(_svr_forecast, "WARN_ROWS", 8)
    text = slow_fit_warning(spec, config.architecture, data)
    assert text is not None
    assert text.startswith("soap_svr: a fit to 9 crystals will take about ")
    assert "\n" not in text
    cgcnn = decided("cgcnn", twelve_crystals)
    assert slow_fit_warning(load_spec("cgcnn"), cgcnn.architecture, data) is None
