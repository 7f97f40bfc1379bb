"""SchNet against its papers: the convolution by hand, the cutoff, sizes and gradients."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.func import functional_call

from raymat.features.graph import CrystalGraph
from raymat.models.schnet import SPEC, SchNetConfig, cut_off, shifted_softplus

SMALL = {"atom_dim": 4, "filter_dim": 3, "n_interactions": 2, "gaussian_step": 0.5}
FLOAT64 = 1e-12  # relative: sums of a few dozen terms in another order


def make(task="regression", **changes):
    torch.manual_seed(0)
    network = SPEC.build(SchNetConfig(**{**SMALL, **changes}), task).double().eval()
    with torch.no_grad():  # biases start at 0, where a lost one would not be missed
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
    return network


def pair(distance):
    """NaCl as two atoms in a large box, `distance` Å apart; they are one crystal."""
    is_near = distance <= SchNetConfig().cutoff
    edges = [[1, 0], [0, 1]] if is_near else [[], []]
    return CrystalGraph(
        atomic_numbers=torch.tensor([11, 17]),
        edge_index=torch.tensor(edges, dtype=torch.int64),
        distances=torch.full((2 if is_near else 0,), distance, dtype=torch.float64),
        crystal_index=torch.zeros(2, dtype=torch.int64),
        n_sites=torch.tensor([2.0], dtype=torch.float64),
        degree=None,
    )


def ssp(x):
    return np.log(0.5 * np.exp(x) + 0.5)


def weights(layer):
    bias = 0.0 if layer.bias is None else layer.bias.detach().numpy()
    return lambda x: x @ layer.weight.detach().numpy().T + bias


def by_equations(network, graph):
    """The network edge by edge, in NumPy; gives one value per atom."""
    config = network.config
    atoms = network.elements.weight.detach().numpy()[graph.atomic_numbers]
    centers = np.arange(0.0, config.cutoff + 1e-9, config.gaussian_step)
    for block in network.interactions:
        convolved, n_neighbors = np.zeros((len(atoms), config.filter_dim)), np.zeros(len(atoms))
        for (j, i), d in zip(graph.edge_index.T.tolist(), graph.distances.tolist(), strict=True):
            gaussians = np.exp(-config.gaussian_gamma * (d - centers) ** 2)
            filter_ = ssp(weights(block.filter.second)(ssp(weights(block.filter.first)(gaussians))))
            if config.cutoff_function == "cosine":
                filter_ = filter_ * 0.5 * (np.cos(np.pi * d / config.cutoff) + 1.0)
            convolved[i] += weights(block.to_filter)(atoms[j]) * filter_
            n_neighbors[i] += 1
        if config.convolution == "mean":
            convolved /= np.maximum(n_neighbors, 1)[:, None]
        atoms = atoms + weights(block.second)(ssp(weights(block.first)(convolved)))
    return weights(network.output)(ssp(weights(network.first)(atoms)))[:, 0]


@pytest.mark.parametrize("convolution", ["mean", "sum"])
@pytest.mark.parametrize("cutoff_function", ["none", "cosine"])
def test_follows_the_equations(convolution, cutoff_function, tiny_crystals):
    network = make(convolution=convolution, cutoff_function=cutoff_function)
    view = SPEC.reads(network.config)
    graph = view.batch(view.table_config.build(tiny_crystals), np.arange(4))
    assert len(graph.distances.unique()) < len(graph.distances)
    values = by_equations(network, graph)
    expected = [values[graph.crystal_index.numpy() == c].mean() for c in range(4)]
    found = network(graph).detach().numpy()[:, 0]
    # The batch's distances are float32, and so are the numbers made of them alone.
    assert found == pytest.approx(expected, rel=1e-6 if cutoff_function == "cosine" else FLOAT64)


def energy(network, distance):
    return float(network(pair(distance)).detach())


def test_a_sum_with_cosine_is_smooth_at_the_cutoff():
    """Value and slope; with the cutoff of the papers an atom that crosses it makes a step."""
    smooth, hard = make(convolution="sum", cutoff_function="cosine"), make(convolution="sum")
    beyond = energy(smooth, 5.1)
    steps = [energy(smooth, 5.0 - h) - beyond for h in (0.0, 1e-3, 1e-2)]
    assert steps[0] == pytest.approx(0.0, abs=1e-15)
    assert steps[1] / steps[2] == pytest.approx(1e-2, rel=0.1), "falls with the square"
    assert abs(energy(hard, 5.0) - energy(hard, 5.1)) > 1e-3


def test_cut_off():
    distances = torch.tensor([0.0, 2.5, 5.0], dtype=torch.float64)
    assert cut_off(distances, 5.0, "cosine").tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert cut_off(distances, 5.0, "none").tolist() == [1.0, 1.0, 1.0]


def test_atoms_without_neighbors_keep_their_elements():
    """No filter acts on them, but they are predicted, alone and beside others."""
    network, graph = make(), pair(5.1)
    before = network(graph)
    with torch.no_grad():
        for block in network.interactions:
            block.to_filter.weight.fill_(9.0)
    assert torch.equal(network(graph), before)
    other = replace(graph, atomic_numbers=torch.tensor([18, 18]))
    assert abs(float((network(other) - before).detach())) > 1e-3


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_number_of_parameters(task):
    config = SchNetConfig(cutoff=4.0, atom_dim=10, filter_dim=7, n_interactions=3)
    f, k, n_centers, out = 10, 7, 41, {"regression": 1, "classification": 2}[task]
    filters = (n_centers + 1) * k + (k + 1) * k
    block = filters + f * k + (k + 1) * f + (f + 1) * f
    readout = (f + 1) * 5 + (5 + 1) * out
    assert SPEC.build(config, task).n_parameters == 101 * f + 3 * block + readout


def test_gradients_are_those_of_the_forward_pass():
    network, graph = make(cutoff_function="cosine"), pair(2.8)
    names, values = zip(*network.named_parameters(), strict=True)

    def predict(*parameters):
        return functional_call(network, dict(zip(names, parameters, strict=True)), (graph,))

    assert torch.autograd.gradcheck(predict, tuple(v.detach().requires_grad_() for v in values))


def test_shifted_softplus():
    x = torch.linspace(-15, 15, 31, dtype=torch.float64)
    assert shifted_softplus(x).numpy() == pytest.approx(ssp(x.numpy()), abs=1e-12)
    assert float(shifted_softplus(torch.zeros(1))) == 0.0


def test_gaussians_stand_where_the_papers_put_them():
    expand = make(gaussian_step=0.1).expand
    assert expand.centers.tolist() == pytest.approx([0.1 * k for k in range(51)])
    at = expand(torch.tensor([2.1], dtype=torch.float64))[0]
    assert float(at[21]) == pytest.approx(1.0)
    assert float(at[22]) == pytest.approx(math.exp(-10 * 0.1**2))


def test_reads_all_neighbors_of_known_elements():
    view = SPEC.reads(SchNetConfig(cutoff=4.5))
    assert (view.cutoff, view.max_neighbors, view.max_atomic_number) == (4.5, None, 100)
    assert view.takes_lone_atoms is False


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"cutoff": 0.1}, "greater than 0.5"),
        ({"atom_dim": 1}, "greater than or equal to 2"),
        ({"cutoff_function": "tanh"}, "'none' or 'cosine'"),
        ({"convolution": "max"}, "'mean' or 'sum'"),
    ],
)
def test_config_bounds(change, problem):
    with pytest.raises(ValidationError, match=problem):
        SchNetConfig(**change)
