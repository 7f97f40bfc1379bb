"""MEGNet's parts against slow loops over the paper's equations, and against hand-made numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from raymat.data.crystals import Crystal, CrystalSet
from raymat.features.graph import CrystalGraph
from raymat.features.segments import bond_graph
from raymat.models.megnet import (
    SPEC,
    Attributes,
    Block,
    GraphLayer,
    MEGNetConfig,
    softplus2,
)

CONFIG = MEGNetConfig(hidden_dim=7, attribute_dim=5, element_dim=4, set2set_dim=3)
VIEW = SPEC.reads(CONFIG)
FLOAT64 = 1e-12  # relative: sums of a few dozen terms in another order


def make(task="regression", **changes):
    torch.manual_seed(0)
    return SPEC.build(MEGNetConfig(**{**CONFIG.model_dump(), **changes}), task).double().eval()


def batch(crystals, cutoff=4.0):
    view = SPEC.reads(MEGNetConfig(cutoff=cutoff))
    return view.batch(view.table_config.build(crystals), np.arange(len(crystals)))


@pytest.fixture(scope="module")
def graph(tiny_crystals):
    return batch(tiny_crystals)


def supercell(crystal, repeats, name="supercell"):
    cells = np.array(list(np.ndindex(*repeats)), dtype=float)
    return Crystal(
        name,
        crystal.lattice * np.array(repeats)[:, None],
        np.repeat(crystal.atomic_numbers, len(cells)),
        (crystal.frac_coords[:, None] + cells).reshape(-1, 3) / repeats,
    )


def random_attributes(graph, n_bonds, dim):
    generator = torch.Generator().manual_seed(1)
    sizes = graph.n_atoms, n_bonds, graph.n_crystals
    return Attributes(
        *(torch.randn(n, dim, generator=generator, dtype=torch.float64) for n in sizes)
    )


def by_equations(layer, x, graph, edges):
    """The layer edge by edge on joined rows; `edges` are the attributes of every edge."""
    senders, receivers = graph.edge_index
    crystal = graph.crystal_index

    def phi(update, rows):
        hidden = softplus2(update.first(rows))
        return update.third(softplus2(update.second(hidden)))

    joined = [x.atoms[receivers], x.atoms[senders], edges, x.state[crystal[receivers]]]
    new_edges = phi(layer.phi_e, torch.cat(joined, 1))
    of_atoms = torch.stack(
        [
            new_edges[receivers == i].mean(0) if (receivers == i).any() else new_edges.new_zeros(5)
            for i in range(graph.n_atoms)
        ]
    )
    new_atoms = phi(layer.phi_v, torch.cat([of_atoms, x.atoms, x.state[crystal]], 1))
    means = [
        torch.cat([new_edges[crystal[receivers] == c].mean(0), new_atoms[crystal == c].mean(0)])
        for c in range(graph.n_crystals)
    ]
    new_state = phi(layer.phi_u, torch.cat([torch.stack(means), x.state], 1))
    return new_atoms, new_edges, new_state


def test_layer_follows_the_equations(graph):
    torch.manual_seed(2)
    layer, bonds = GraphLayer(CONFIG).double(), bond_graph(graph)
    counts = bonds.bonds_of_atoms.counts.long()
    assert int(counts.max()) > 1
    x = random_attributes(graph, len(counts), dim=5)
    atoms, edges, state = by_equations(layer, x, graph, x.bonds.repeat_interleave(counts, 0))
    found = layer(x, bonds)
    torch.testing.assert_close(found.atoms, atoms, rtol=FLOAT64, atol=FLOAT64)
    torch.testing.assert_close(
        found.bonds.repeat_interleave(counts, 0), edges, rtol=FLOAT64, atol=FLOAT64
    )
    torch.testing.assert_close(found.state, state, rtol=FLOAT64, atol=FLOAT64)


def test_third_layers_are_linear(graph):
    """Behind an activation nothing could fall below -ln 2."""
    layer, bonds = GraphLayer(CONFIG).double(), bond_graph(graph)
    with torch.no_grad():
        for phi in (layer.phi_e, layer.phi_v, layer.phi_u):
            phi.third.bias.fill_(-50.0)
        found = layer(random_attributes(graph, len(bonds.senders), dim=5), bonds)
    assert all(float(part.max()) < -5.0 for part in (found.atoms, found.bonds, found.state))


def test_softplus2():
    x = torch.linspace(-30, 30, 601, dtype=torch.float64)
    stable = F.relu(x) + torch.log(0.5 * torch.exp(-x.abs()) + 0.5)  # as the authors write it
    torch.testing.assert_close(softplus2(x), stable, rtol=0.0, atol=3e-9)  # linear above 20
    assert float(softplus2(torch.zeros(1))) == 0.0
    assert torch.autograd.gradcheck(softplus2, (x[::60].clone().requires_grad_(),))


def test_only_the_first_block_has_no_nets_of_its_own(graph):
    network = make()
    own = [any(".nets." in f".{name}" for name, _ in b.named_parameters()) for b in network.blocks]
    assert own == [False, True, True]
    x, bonds = random_attributes(graph, len(bond_graph(graph).senders), dim=5), bond_graph(graph)
    for is_first in (True, False):
        block = Block(CONFIG, is_first=is_first).double()
        mapped = x if is_first else block.nets(x)
        torch.testing.assert_close(block(x, bonds).atoms, block.layer(mapped, bonds).atoms)


def test_a_block_adds_to_what_stood_before_its_nets(graph):
    """With updates of zero the attributes stay, though nets stand in front of the layers."""
    network, fewer = make(n_blocks=3), make(n_blocks=1)
    with torch.no_grad():
        for block in network.blocks[1:]:
            for phi in (block.layer.phi_e, block.layer.phi_v, block.layer.phi_u):
                phi.third.weight.zero_()
                phi.third.bias.zero_()
    weights = {k: v for k, v in network.state_dict().items() if not k.startswith("blocks.")}
    weights |= {k: v for k, v in network.state_dict().items() if k.startswith("blocks.0.")}
    fewer.load_state_dict(weights)
    torch.testing.assert_close(network(graph), fewer(graph), rtol=FLOAT64, atol=FLOAT64)


def lone_atom_graph():
    """Atoms 0 and 1 are bonded, atom 2 of the same crystal has no neighbor."""
    return CrystalGraph(
        atomic_numbers=torch.tensor([11, 17, 54]),
        edge_index=torch.tensor([[1, 0], [0, 1]]),
        distances=torch.tensor([2.0, 2.0], dtype=torch.float64),
        crystal_index=torch.zeros(3, dtype=torch.int64),
        n_sites=torch.tensor([3.0], dtype=torch.float64),
        degree=None,
    )


def test_isolated_atom_receives_zero():
    graph = lone_atom_graph()
    layer, bonds = GraphLayer(CONFIG).double(), bond_graph(graph)
    x = random_attributes(graph, 2, dim=5)
    found = layer(x, bonds)
    joined = torch.cat([torch.zeros(1, 5, dtype=torch.float64), x.atoms[2:], x.state], 1)
    torch.testing.assert_close(found.atoms[2:], layer.phi_v(joined))
    # The crystal's mean over bonds is over its two bonds, not over its three atoms.
    means = torch.cat([found.bonds.mean(0), found.atoms.mean(0)])[None]
    torch.testing.assert_close(found.state, layer.phi_u(means, x.state))


def test_isolated_atom_matters_and_trains():
    network, graph = make(), lone_atom_graph()
    out = network(graph)
    out.backward()
    assert torch.isfinite(out).all()
    assert network.elements.weight.grad[54].abs().max() > 0


@pytest.mark.parametrize("set2set", ["reference", "lstm"])
def test_crystals_of_very_different_size(set2set, tiny_crystals):
    network = make(set2set=set2set)
    large = supercell(tiny_crystals[3], (4, 4, 2))  # SrTiO3, 160 atoms
    small = tiny_crystals[2]  # CsCl, 2 atoms
    copper = Crystal("Cu", np.eye(3) * 2.5, np.array([29], dtype=np.uint8), np.zeros((1, 3)))
    crystals = [small, large, copper]
    with torch.inference_mode():
        together = network(batch(CrystalSet.from_crystals(crystals)))
        alone = [network(batch(CrystalSet.from_crystals([c]))) for c in crystals]
        cell = network(batch(CrystalSet.from_crystals([tiny_crystals[3]])))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(together[1:2], cell, rtol=1e-6, atol=1e-8)


def test_the_state_of_a_crystal_is_read_where_it_has_one(graph):
    network = make(state_dim=3)
    zeros, ones = (torch.full((4, 3), value) for value in (0.0, 1.0))
    ones[2] = 0.0
    with torch.inference_mode():
        without = network(graph)
        torch.testing.assert_close(network(replace(graph, state=zeros)), without, rtol=0, atol=0)
        changed = (network(replace(graph, state=ones)) - without).abs()[:, 0]
    assert (changed[[0, 1, 3]] > 1e-6).all()
    assert changed[2] == 0.0  # a state is its own crystal's
    moved = replace(graph, state=ones).to(torch.device("meta"))
    assert moved.state.device.type == "meta"


def test_the_state_trains(graph):
    network = make()
    state = torch.ones(4, 2, dtype=torch.float64)
    network(replace(graph, state=state)).sum().backward()
    assert network.nets.state.first.weight.grad.abs().max() > 0
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        network(replace(graph, state=state[:, :1]))


def test_a_large_cell_trains(tiny_crystals):
    network = make().train()
    crystal = supercell(tiny_crystals[3], (4, 4, 2))
    assert len(crystal.atomic_numbers) == 160
    network(batch(CrystalSet.from_crystals([crystal]), cutoff=5.0)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def saved_bytes(network, graph):
    """Memory that the forward pass keeps for the backward pass."""
    held = {}
    parameters = {p.data_ptr() for p in network.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = network(graph)
    assert out.requires_grad
    return sum(held.values())


def test_memory_grows_linearly_with_edges(tiny_crystals):
    network = make()
    small, large = (
        batch(CrystalSet.from_crystals([supercell(tiny_crystals[3], repeats)]))
        for repeats in ((3, 3, 3), (6, 6, 3))  # wide enough that no neighbor has two images
    )
    assert len(large.distances) == 4 * len(small.distances)
    assert saved_bytes(network, large) < 4.05 * saved_bytes(network, small)


def test_number_of_parameters():
    for task in ("regression", "classification"):
        assert SPEC.build(MEGNetConfig(), task).n_parameters == 167_761


def test_reads_all_neighbors_of_known_elements():
    view = SPEC.reads(MEGNetConfig(cutoff=4.5))
    assert (view.cutoff, view.max_neighbors, view.max_atomic_number) == (4.5, None, 94)
    assert view.takes_lone_atoms


def test_an_element_beyond_the_table_is_named():
    americium = Crystal("Am", np.eye(3) * 3.0, np.array([95], dtype=np.uint8), np.zeros((1, 3)))
    crystals = CrystalSet.from_crystals([americium])
    unusable = VIEW.unusable(crystals, VIEW.table_config.build(crystals))
    assert list(unusable) == [0]
    assert "Am" in unusable[0]


def test_classes_are_two_probabilities_of_one_logit(graph):
    classifier, regressor = make("classification"), make()
    regressor.load_state_dict(classifier.state_dict())
    with torch.inference_mode():
        log_probabilities, logit = classifier(graph), regressor(graph)
    assert log_probabilities.shape == (4, 2)
    torch.testing.assert_close(log_probabilities.exp().sum(1), torch.ones(4).double())
    torch.testing.assert_close(log_probabilities[:, 1:].exp(), torch.sigmoid(logit))


def test_a_certain_class_has_a_finite_logarithm(graph):
    classifier = make("classification")
    with torch.no_grad():
        classifier.output.bias.fill_(1e4)
        found = classifier(graph)
    assert torch.isfinite(found).all()
    assert float(found[:, 0].max()) < -9e3


def test_lstm_is_another_network(graph):
    reference, lstm = make(), make(set2set="lstm")
    lstm.load_state_dict(reference.state_dict())
    with torch.inference_mode():
        assert float((reference(graph) - lstm(graph)).abs().min()) > 1e-5


def test_dropout_acts_in_training_only(graph):
    dropping, keeping = make(dropout=0.5), make()
    dropping.load_state_dict(keeping.state_dict())
    assert torch.equal(dropping(graph), keeping(graph))
    dropping.train()
    assert not torch.equal(dropping(graph), dropping(graph))


def test_first_weights_are_those_of_keras():
    torch.manual_seed(0)
    network = SPEC.build(MEGNetConfig(), "regression")
    table = network.elements.weight.detach()
    assert 0.049 < float(table.abs().max()) <= 0.05
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear) and "recurrent" not in name:
            glorot = (6 / (module.in_features + module.out_features)) ** 0.5
            largest = float(module.weight.detach().abs().max())
            assert 0.8 * glorot < largest <= glorot, name
            assert not module.bias.any(), name


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"cutoff": 0.1}, "greater than 0.5"),
        ({"n_blocks": 0}, "greater than or equal to 1"),
        ({"set2set": "gru"}, "'reference' or 'lstm'"),
        ({"set2set_steps": 0}, "greater than or equal to 1"),
    ],
)
def test_config_bounds(change, problem):
    with pytest.raises(ValidationError, match=problem):
        MEGNetConfig(**change)
