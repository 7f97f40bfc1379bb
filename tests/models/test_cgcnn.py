"""CGCNN's parts against slow loops over the paper's equations, and against hand-made numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import GRAPHS, golden_crystals
from pydantic import ValidationError

from raymat.features.graph import mean_over_crystals
from raymat.features.graph_view import GraphView, batch_graph
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.neighbors import build_neighbor_table
from raymat.models.cgcnn import (
    CGCNN,
    LEARNED_DIM,
    CGCNNConfig,
    ElementVectors,
    GatedConv,
    LayerReadout,
    SumConv,
)

FLOAT64 = 1e-12  # relative: sums of a few dozen terms in another order


def inverse_softplus(values: torch.Tensor) -> torch.Tensor:
    return torch.log(torch.expm1(values))


@pytest.fixture(scope="module", params=["mask", "reference"])
def graph(request, tiny_crystals):
    table = build_neighbor_table(tiny_crystals, NeighborConfig(cutoff=4.0, max_neighbors=14))
    graph = batch_graph(table, np.arange(4), GraphView(4.0, 14, request.param))
    # SrTiO3's oxygen has 14 neighbors, the others fewer: two ways to sum over neighbors.
    assert graph.degree == {"mask": None, "reference": 14}[request.param]
    return graph


@pytest.fixture
def atoms(graph):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(graph.n_atoms, 5, generator=generator, dtype=torch.float64)


@pytest.fixture
def edges(graph):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(len(graph.distances), 3, generator=generator, dtype=torch.float64)


def concatenated(atoms, edges, graph):
    """z_ij = v_i + v_j + u_ij, joined, for every edge."""
    senders, receivers = graph.edge_index
    return torch.cat([atoms[receivers], atoms[senders], edges], dim=1)


def authors_gated_conv(conv, atoms, edges, graph, statistics):
    """Give Eq. 5 as the authors' network has it: rows joined per edge, one batch norm, a loop."""
    products = conv.fc_full(concatenated(atoms, edges, graph))
    normalized = F.batch_norm(
        products, *statistics, conv.bn1.weight, conv.bn1.bias, training=conv.training
    )
    sums = [torch.zeros_like(atoms[0])] * graph.n_atoms
    for edge, receiver in enumerate(graph.edge_index[1].tolist()):
        gate, core = normalized[edge, :5], normalized[edge, 5:]
        sums[receiver] = sums[receiver] + torch.sigmoid(gate) * F.softplus(core)
    return F.softplus(atoms + conv.bn2(torch.stack(sums)))


def gradients(conv, atoms, output):
    """Give the gradients of a fixed mixture of outputs by atoms and every parameter."""
    mixture = torch.linspace(-1.0, 2.0, output.numel(), dtype=output.dtype)
    return torch.autograd.grad(output.flatten() @ mixture, [atoms, *conv.parameters()])


@pytest.mark.parametrize("is_training", [True, False])
def test_gated_convolution_is_the_authors_network(graph, atoms, edges, is_training):
    torch.manual_seed(0)
    conv = GatedConv(5, 3).double().train(is_training)
    conv.bn1.running_mean.normal_()
    conv.bn1.weight.data.normal_()
    conv.bn1.bias.data.normal_()
    conv.bn2.running_var.uniform_(0.5, 2.0)
    statistics = conv.bn1.running_mean.clone(), conv.bn1.running_var.clone()
    atoms = atoms.clone().requires_grad_()
    expected = authors_gated_conv(conv, atoms, edges, graph, statistics)
    found = conv(atoms, edges, graph)
    close = {"rtol": 1e3 * FLOAT64, "atol": 1e3 * FLOAT64}
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(
        gradients(conv, atoms, found), gradients(conv, atoms, expected), **close
    )
    # Both have moved the running statistics in training, and neither has otherwise.
    torch.testing.assert_close(conv.bn1.running_mean, statistics[0], **close)
    torch.testing.assert_close(conv.bn1.running_var, statistics[1], **close)


def test_sum_convolution_is_equation_4(graph, atoms, edges):
    torch.manual_seed(0)
    conv = SumConv(5, 3).double()
    expected = torch.zeros_like(atoms)
    for i in range(graph.n_atoms):
        received = (graph.edge_index[1] == i).nonzero().squeeze(1)
        z = torch.cat([atoms[graph.edge_index[0, received]], edges[received]], dim=1).sum(0)
        expected[i] = F.softplus(
            conv.neighbors.weight @ z + conv.center.weight @ atoms[i] + conv.center.bias
        )
    torch.testing.assert_close(conv(atoms, edges, graph), expected, rtol=FLOAT64, atol=FLOAT64)


@pytest.mark.parametrize(
    ("name", "shares"),
    [("1000041", (3.0, 3.0, 0.0)), ("1000050", (4.0, 0.0, 4.0))],  # Cl, Na, K
)
def test_equation_4_by_hand(name, shares):
    """y(NaCl) = 3 wc1 + 3 wc2 + ws1/2 + ws2/2; y(KCl) = 4 wc1 + 4 wc3 + ws1/2 + ws3/2.

    g is softplus in the code and the identity in this check, so softplus is taken off again.
    """
    w_c = torch.tensor([0.31, -0.47, 0.83], dtype=torch.float64)
    w_s = torch.tensor([1.1, 0.9, -0.7], dtype=torch.float64)
    row = list(GRAPHS).index(name)
    table = build_neighbor_table(golden_crystals(), NeighborConfig(cutoff=3.3, max_neighbors=12))
    graph = batch_graph(table, np.array([row]), GraphView(3.3, 12, "mask"))
    one_hot = (graph.atomic_numbers[:, None] == torch.tensor([17, 11, 19])).double()
    conv = SumConv(3, 1).double()
    with torch.no_grad():
        conv.neighbors.weight.copy_(F.pad(w_c, (0, 1)).expand(3, 4))
        conv.center.weight.copy_(w_s.expand(3, 3))
        conv.center.bias.zero_()
        no_edge_vector = torch.zeros(len(graph.distances), 1, dtype=torch.float64)
        linear = inverse_softplus(conv(one_hot, no_edge_vector, graph))
    present = torch.tensor([float(s > 0) for s in shares], dtype=torch.float64)
    expected = float(torch.tensor(shares, dtype=torch.float64) @ w_c + 0.5 * present @ w_s)
    found = mean_over_crystals(linear, graph)[0]
    assert found.tolist() == pytest.approx([expected] * 3, rel=1e-9)


def test_layer_readout_is_s12_and_s13(graph, atoms):
    torch.manual_seed(0)
    readout = LayerReadout(5, n_conv=2).double()
    layers = [atoms, atoms.square(), atoms.sin()]
    expected = torch.zeros(4, 5, dtype=torch.float64)
    for crystal in range(4):
        own = (graph.crystal_index == crystal).nonzero().squeeze(1)
        for layer, linear in zip(layers, readout.maps, strict=True):
            for i in own:
                scores = torch.exp(linear.weight @ layer[i] + linear.bias)
                expected[crystal] += scores / scores.sum() / len(own)
    found = readout(layers, graph)
    torch.testing.assert_close(found, expected, rtol=FLOAT64, atol=FLOAT64)
    # Softmax over the components: what every layer gives an atom sums to one.
    torch.testing.assert_close(found.sum(1), torch.full((4,), 3.0, dtype=torch.float64))


@pytest.mark.parametrize("pad", ["mask", "reference"])
def test_mean_readout_takes_softplus_before_the_head(tiny_crystals, pad):
    config = CGCNNConfig(atom_dim=6, n_conv=2, hidden_dim=7, n_hidden=3, pad=pad)
    torch.manual_seed(0)
    network = CGCNN(config, "regression").eval()
    table = build_neighbor_table(tiny_crystals, NeighborConfig())
    graph = batch_graph(table, np.arange(4), GraphView(8.0, 12, pad))
    with torch.inference_mode():
        hidden = F.softplus(mean_over_crystals(network.atom_vectors(graph)[-1], graph))
        for linear in (network.head.conv_to_fc, *network.head.fcs):
            hidden = F.softplus(linear(hidden))
        torch.testing.assert_close(network(graph), network.head.fc_out(hidden))


@pytest.mark.parametrize(
    ("kind", "width"),
    [
        ("properties_2", 19 + 7),
        ("properties_3", 19 + 7 + 10),
        ("properties_9", 92),
        ("learned", LEARNED_DIM),
    ],
)
def test_width_of_element_vectors(kind, width):
    network = CGCNN(CGCNNConfig(element_features=kind, atom_dim=10, n_conv=1), "regression")
    assert ElementVectors(kind).dim == width
    assert network.embedding.in_features == width
    assert ("elements.table" in network.state_dict()) == (kind == "learned")


def test_learned_element_vectors_are_trained(tiny_crystals):
    config = CGCNNConfig(element_features="learned", atom_dim=8, n_conv=1, hidden_dim=8)
    network = CGCNN(config, "regression")
    before = network.elements.table.detach().clone()
    table = build_neighbor_table(tiny_crystals, NeighborConfig())
    graph = batch_graph(table, np.array([0, 2]), GraphView(8.0, 12))
    network(graph).square().sum().backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    moved = (network.elements.table.detach() != before).any(dim=1).nonzero().squeeze(1)
    assert moved.tolist() == [11, 17, 55]  # Na and Cl, Cs and Cl


def test_more_convolutions_reach_further(tiny_crystals):
    """An atom hears of a site two bonds away through two convolutions, not through one."""
    table = build_neighbor_table(tiny_crystals, NeighborConfig(cutoff=2.0))
    graph = batch_graph(table, np.array([3]), GraphView(2.0, 12))  # SrTiO3: Ti-O bonds only
    for n_conv, hears in ((1, False), (2, True)):
        torch.manual_seed(0)
        network = CGCNN(CGCNNConfig(cutoff=2.0, n_conv=n_conv, atom_dim=8), "regression").eval()
        vectors = network.embedding(network.elements(graph.atomic_numbers)).detach()
        vectors.requires_grad_()
        updated = vectors
        for conv in network.convs:
            updated = conv(updated, network.radial(graph.distances), graph)
        updated[2].sum().backward()  # the first oxygen
        assert (vectors.grad[3].abs().sum() > 0) == hears  # the second
        assert vectors.grad[1].abs().sum() > 0  # titanium
        assert vectors.grad[0].abs().sum() == 0  # strontium is further than 2 Å


def test_linear_readout_refuses_dropout():
    with pytest.raises(ValidationError, match="readout 'linear' has no hidden layer"):
        CGCNNConfig(readout="linear", dropout=0.1)


@pytest.mark.parametrize("readout", ["mean", "linear", "layers"])
def test_classes_are_log_probabilities(tiny_crystals, readout):
    network = CGCNN(CGCNNConfig(atom_dim=6, n_conv=1, readout=readout), "classification").eval()
    table = build_neighbor_table(tiny_crystals, NeighborConfig())
    with torch.inference_mode():
        out = network(batch_graph(table, np.arange(4), GraphView(8.0, 12)))
    assert out.shape == (4, 2)
    torch.testing.assert_close(out.exp().sum(1), torch.ones(4))
