"""A straightforward CGCNN, written for comparison: what raymat's is measured against.

The same network as `raymat/models/cgcnn.py` with `pad` "reference", done the plain way: every
edge gets its own row of center, neighbor and distance vectors, joined and multiplied as they
stand; a crystal is kept as the tensors that the network reads; a batch is their `torch.cat`.
Weights carry the names of the public checkpoints.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymat.features.elements import element_features
from raymat.features.neighbor_table import NeighborTable

GAUSSIAN_STEP = 0.2  # Å


@dataclass(frozen=True)
class ReferenceCrystal:
    """One crystal: elements (n, 92), gaussians (n, M, 41), neighbors (n, M), target (1,)."""

    elements: Tensor
    gaussians: Tensor
    neighbors: Tensor
    target: Tensor

    @property
    def nbytes(self) -> int:
        """Memory of the tensors that describe the graph, in bytes."""
        return sum(t.nbytes for t in (self.elements, self.gaussians, self.neighbors))


@dataclass(frozen=True)
class ReferenceBatch:
    """Crystals joined along their atoms; `counts` are the atoms of each."""

    elements: Tensor
    gaussians: Tensor
    neighbors: Tensor
    counts: list[int]
    targets: Tensor


def make_crystals(table: NeighborTable, scaled_targets: np.ndarray) -> list[ReferenceCrystal]:
    """Expand a neighbor table; missing neighbors are atom 0 at cutoff + 1 Å."""
    cutoff = table.config.cutoff
    vectors = element_features("properties_9")
    centers = np.arange(round(cutoff / GAUSSIAN_STEP) + 1) * GAUSSIAN_STEP
    crystals = []
    for k in range(len(table)):
        atoms = slice(table.offsets[k], table.offsets[k + 1])
        distances = table.distances[atoms].astype(np.float64)
        distances[np.isinf(distances)] = cutoff + 1.0
        gaussians = np.exp(-(((distances[:, :, None] - centers) / GAUSSIAN_STEP) ** 2))
        crystals.append(
            ReferenceCrystal(
                torch.tensor(vectors[table.atomic_numbers[atoms]]),
                torch.tensor(gaussians, dtype=torch.float32),
                torch.tensor(table.indices[atoms].astype(np.int64)),
                torch.tensor(scaled_targets[k : k + 1], dtype=torch.float32),
            )
        )
    return crystals


def collate(crystals: list[ReferenceCrystal]) -> ReferenceBatch:
    counts = [len(crystal.elements) for crystal in crystals]
    neighbors, first = [], 0
    for crystal, count in zip(crystals, counts, strict=True):
        neighbors.append(crystal.neighbors + first)
        first += count
    return ReferenceBatch(
        torch.cat([crystal.elements for crystal in crystals]),
        torch.cat([crystal.gaussians for crystal in crystals]),
        torch.cat(neighbors),
        counts,
        torch.cat([crystal.target for crystal in crystals]),
    )


class ReferenceConv(nn.Module):
    """Eq. 5 with the authors' two batch norms, on joined vectors (n_atoms, M, 2 F + 41)."""

    def __init__(self, atom_dim: int, edge_dim: int) -> None:
        super().__init__()
        self.fc_full = nn.Linear(2 * atom_dim + edge_dim, 2 * atom_dim)
        self.bn1 = nn.BatchNorm1d(2 * atom_dim)
        self.bn2 = nn.BatchNorm1d(atom_dim)

    def forward(self, atoms: Tensor, gaussians: Tensor, neighbors: Tensor) -> Tensor:
        """Update (n_atoms, F) from (n_atoms, M, 41) and (n_atoms, M)."""
        n, m = neighbors.shape
        center = atoms.unsqueeze(1).expand(n, m, -1)
        joined = torch.cat([center, atoms[neighbors], gaussians], dim=2)
        products = self.fc_full(joined)
        products = self.bn1(products.view(n * m, -1)).view(n, m, -1)
        gate, core = products.chunk(2, dim=2)
        summed = (torch.sigmoid(gate) * F.softplus(core)).sum(dim=1)
        return F.softplus(atoms + self.bn2(summed))


class ReferenceCGCNN(nn.Module):
    """Embedding, `n_conv` convolutions, mean over atoms, one hidden layer."""

    def __init__(self, atom_dim: int = 64, n_conv: int = 3, hidden_dim: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Linear(92, atom_dim)
        self.convs = nn.ModuleList(ReferenceConv(atom_dim, 41) for _ in range(n_conv))
        self.conv_to_fc = nn.Linear(atom_dim, hidden_dim)
        self.fc_out = nn.Linear(hidden_dim, 1)

    def forward(self, batch: ReferenceBatch) -> Tensor:
        """Give (n_crystals, 1)."""
        atoms = self.embedding(batch.elements)
        for conv in self.convs:
            atoms = conv(atoms, batch.gaussians, batch.neighbors)
        pooled = torch.stack([crystal.mean(dim=0) for crystal in atoms.split(batch.counts)])
        return self.fc_out(F.softplus(self.conv_to_fc(F.softplus(pooled))))

    def take_weights_of(self, network: nn.Module) -> None:
        """Copy the weights of a raymat CGCNN of the same sizes."""
        state = {name.removeprefix("head."): t for name, t in network.state_dict().items()}
        self.load_state_dict(state)


def train_epoch(
    network: ReferenceCGCNN,
    optimizer: torch.optim.Optimizer,
    crystals: list[ReferenceCrystal],
    batches: list[np.ndarray],
) -> float:
    """Train on batches of row numbers; give the mean squared error of the scaled targets."""
    network.train()
    total = 0.0
    for rows in batches:
        batch = collate([crystals[k] for k in rows])
        optimizer.zero_grad()
        loss = F.mse_loss(network(batch).squeeze(1), batch.targets)
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * len(rows)
    return total / sum(map(len, batches))
