"""SOAP-MLP: the head of CGCNN on sparse vectors, against the same on filled ones."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from raymat.features.descriptor_table import DescriptorBatch
from raymat.features.store import FeatureStore
from raymat.models._layers import Head
from raymat.models.soap_mlp import SOAPMLP, SPEC, SOAPMLPConfig
from raymat.training.config import FitConfig
from raymat.training.fit import FitData
from raymat.training.gradient import GradientFit

SAME = 1e-12  # float64 sums of a few dozen terms in another order
SPECIES = (8, 11, 14, 17, 22, 38, 55)  # of the tiny crystals
N_FEATURES = 84  # 3 * 7 * 8 / 2


def make_model(task="regression", **changes) -> SOAPMLP:
    torch.manual_seed(0)
    return SOAPMLP(SOAPMLPConfig(species=SPECIES, **changes), task).double()


@pytest.fixture(scope="module")
def batch(twelve_crystals) -> DescriptorBatch:
    view = SPEC.reads(SOAPMLPConfig(species=SPECIES))
    return view.batch(view.config.build(twelve_crystals), np.arange(12))


@pytest.mark.parametrize("scaling", ["none", "norm", "sqrt"])
@pytest.mark.parametrize("softplus", [False, True])
def test_same_as_the_head_on_filled_vectors(batch, scaling, softplus):
    model = make_model(n_hidden=2, feature_scaling=scaling, input_softplus=softplus).eval()
    dense = batch.to_dense()
    if scaling == "norm":
        dense = dense / dense.norm(dim=1, keepdim=True)
    if scaling == "sqrt":
        dense = dense.sign() * dense.abs().sqrt()
    expected = model.head(F.softplus(dense) if softplus else dense)
    torch.testing.assert_close(model(batch), expected, rtol=SAME, atol=SAME)
    assert expected.std() > 1e-6


def test_same_gradients_as_on_filled_vectors(batch):
    for softplus in (False, True):
        model = make_model(input_softplus=softplus)
        dense = batch.to_dense()
        gradients = []
        for out in (model(batch), model.head(F.softplus(dense) if softplus else dense)):
            model.zero_grad()
            out.square().sum().backward()
            gradients.append([p.grad.clone() for p in model.parameters()])
        torch.testing.assert_close(*gradients, rtol=SAME, atol=SAME)


def test_parameters_of_the_thesis():
    """Science d: 87 elements, 11,484 features and H 128 are 1,470,209 parameters."""
    config = SOAPMLPConfig(species=tuple(range(1, 88)))
    model = SOAPMLP(config, "regression")
    assert config.soap.n_features == 11_484
    assert model.n_parameters == 1_470_209
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "head.conv_to_fc.weight": (128, 11_484),
        "head.conv_to_fc.bias": (128,),
        "head.fc_out.weight": (1, 128),
        "head.fc_out.bias": (1,),
    }


def test_first_weights_are_those_of_a_linear_layer():
    model = make_model()
    torch.manual_seed(0)
    head = Head(N_FEATURES, 128, 1, output="regression", dropout=None).double()
    for own, other in zip(model.head.parameters(), head.parameters(), strict=True):
        assert torch.equal(own, other)
    bound = N_FEATURES**-0.5
    weight = model.head.conv_to_fc.weight
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_defaults_are_those_of_the_thesis():
    config = SOAPMLPConfig()
    assert (config.hidden_dim, config.n_hidden, config.dropout) == (128, 1, None)
    assert (config.input_softplus, config.feature_scaling) == (False, "none")
    settings = FitConfig()
    assert (settings.optimizer, settings.lr, settings.momentum) == ("sgd", 0.01, 0.9)


def test_classes(batch):
    model = make_model("classification").eval()
    got = model(batch)
    assert got.shape == (12, 2)
    torch.testing.assert_close(got.exp().sum(1), torch.ones(12).double())
    assert model.head.dropout.p == 0.5


def test_a_crystal_alone_and_in_a_batch(batch, twelve_crystals):
    model = make_model(feature_scaling="norm").eval()
    view = SPEC.reads(model.config)
    table = view.config.build(twelve_crystals)
    together = model(batch)
    for row in range(12):
        alone = model(view.batch(table, np.array([row])))
        torch.testing.assert_close(alone[0], together[row], rtol=SAME, atol=SAME)


def test_weights_decide_the_type(batch):
    model = SOAPMLP(SOAPMLPConfig(species=SPECIES), "regression").eval()
    single = model(batch)
    assert single.dtype == torch.float32
    torch.testing.assert_close(model.double()(batch).float(), single, rtol=1e-5, atol=1e-5)


def test_twelve_crystals_are_learned(twelve_crystals):
    rows = np.arange(12)
    data = FitData(
        features=FeatureStore(twelve_crystals.without_properties(), (table_of(twelve_crystals),)),
        targets=twelve_crystals.target("y"),
        train=rows,
        validation=rows,
        task="regression",
    )
    config = SOAPMLPConfig(species=SPECIES)
    settings = FitConfig(optimizer="adam", lr=5e-3, epochs=300, batch_size=4, schedule="cosine")
    fitting = GradientFit(SPEC, config, settings, data=data, seed=0)
    while not fitting.finished:
        fitting.run_epoch()
    assert fitting.best.val_score < 0.15 * float(data.targets.std())


def table_of(crystals):
    return SPEC.reads(SOAPMLPConfig(species=SPECIES)).config.build(crystals)


@pytest.mark.gpu
def test_on_a_gpu(batch):
    model, cuda = (
        make_model(feature_scaling="norm", input_softplus=True).eval(),
        torch.device("cuda"),
    )
    expected = model(batch)
    got = model.to(cuda)(batch.to(cuda))
    torch.testing.assert_close(got.cpu(), expected, rtol=SAME, atol=SAME)
