"""Descriptors: one sparse vector per crystal, stored as rows and served as tensors.

Of the 11,484 SOAP features of 87 elements a crystal of three elements has 18; nothing here ever
fills in the zeros, except `DescriptorBatch.to_dense`.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from raymat.data.crystals import offsets_of, ranges
from raymat.features.table import FeatureTable, TableConfig


@dataclass(frozen=True)
class DescriptorBatch:
    """The descriptors of some crystals; crystal i owns values ``offsets[i]:offsets[i + 1]``.

    Attributes:
        columns: (n_values,) int64, which feature; ascending in a row.
        values: (n_values,) float64.
        offsets: (n_crystals + 1,) int64.
        n_features: length of the vectors.
    """

    columns: Tensor
    values: Tensor
    offsets: Tensor
    n_features: int

    @property
    def n_crystals(self) -> int:
        """Crystals in the batch."""
        return len(self.offsets) - 1

    def to(self, device: torch.device) -> Self:
        """Give the same batch on another device."""
        return type(self)(
            columns=self.columns.to(device),
            values=self.values.to(device),
            offsets=self.offsets.to(device),
            n_features=self.n_features,
        )

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Give the crystals `rows`, in this order; on the CPU only."""
        starts = self.offsets.numpy()
        counts = np.diff(starts)[rows]
        places = torch.from_numpy(ranges(starts[rows], counts))
        return replace(
            self,
            columns=self.columns[places],
            values=self.values[places],
            offsets=torch.from_numpy(offsets_of(counts)),
        )

    def matmul(self, weight: Tensor) -> Tensor:
        """Multiply with a matrix, summing over the stored values only.

        Args:
            weight: (n_features, k), float32 or float64; gradients flow to it.

        Returns:
            (n_crystals, k) in the type of `weight`; zeros for a crystal without values.
        """
        return F.embedding_bag(
            self.columns,
            weight,
            self.offsets,
            mode="sum",
            per_sample_weights=self.values.to(weight.dtype),
            include_last_offset=True,
        )

    def squared_norms(self) -> Tensor:
        """(n_crystals,) float64, the scalar product of each vector with itself."""
        norms = self.values.new_zeros(self.n_crystals)
        return norms.index_add(0, self._rows(), self.values.square())

    def to_dense(self) -> Tensor:
        """(n_crystals, n_features) float64, zeros filled in."""
        dense = self.values.new_zeros(self.n_crystals, self.n_features)
        dense[self._rows(), self.columns] = self.values
        return dense

    def _rows(self) -> Tensor:
        """(n_values,) the crystal of each value."""
        counts = self.offsets.diff()
        rows = torch.arange(self.n_crystals, device=counts.device)
        return torch.repeat_interleave(rows, counts, output_size=len(self.values))


@dataclass(frozen=True)
class DescriptorTable(FeatureTable):
    """The descriptors of a crystal set; crystal i owns ``row_offsets[i]:row_offsets[i + 1]``.

    Attributes:
        row_offsets: (n_crystals + 1,) int64, first value of each crystal.
        columns: (n_values,) int32, which feature; ascending in a row.
        values: (n_values,) float64, none of them 0.
        config: what was computed; its `n_features` is the length of the vectors.
    """

    dtypes: ClassVar[dict[str, str]] = {"row_offsets": "<i8", "columns": "<i4", "values": "<f8"}
    running: ClassVar[frozenset[str]] = frozenset({"row_offsets"})
    row_offsets: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row_offsets) - 1

    @property
    def n_sites(self) -> NDArray[np.int64]:
        """(n_crystals,) ones: a descriptor takes one place, however large its crystal."""
        return np.ones(len(self), dtype=np.int64)

    @property
    def n_features(self) -> int:
        """Length of the vectors."""
        return int(self.config.n_features)

    def line(self) -> str:
        """Give one line for people on the vectors."""
        n_empty = int((np.diff(self.row_offsets) == 0).sum())
        empty = f" ({n_empty:,} without any)" if n_empty else ""
        return (
            f"{self.config.kind}: {len(self.values):,} values in {self.n_features:,} features of"
            f" {len(self):,} crystals{empty}, {self.nbytes / 1e6:.3g} MB"
        )

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Give the table of the crystals `rows`, in this order."""
        counts = np.diff(self.row_offsets)[rows]
        places = ranges(self.row_offsets[rows], counts)
        return replace(
            self,
            row_offsets=offsets_of(counts),
            columns=self.columns[places],
            values=self.values[places],
        )

    def batch(self, rows: NDArray[np.int64]) -> DescriptorBatch:
        """Give the crystals `rows` as tensors, in this order."""
        taken = self.take(rows)
        return DescriptorBatch(
            columns=torch.from_numpy(taken.columns.astype(np.int64)),
            values=torch.from_numpy(taken.values),
            offsets=torch.from_numpy(taken.row_offsets),
            n_features=self.n_features,
        )

    @classmethod
    def from_rows(
        cls,
        config: TableConfig,
        rows: list[tuple[NDArray[np.int32], NDArray[np.float64]]],
    ) -> Self:
        """Join the (columns, values) of single crystals into a table."""
        counts = np.array([len(columns) for columns, _ in rows], dtype=np.int64)
        return cls(
            config=config,
            row_offsets=offsets_of(counts),
            columns=np.concatenate([np.zeros(0, np.int32), *[columns for columns, _ in rows]]),
            values=np.concatenate([np.zeros(0, np.float64), *[values for _, values in rows]]),
        )

    @classmethod
    def from_parts(cls, config: TableConfig, tables: "list[DescriptorTable]") -> Self:
        """Join the tables of consecutive parts of a crystal set."""
        counts = [np.zeros(0, np.int64), *[np.diff(table.row_offsets) for table in tables]]
        return cls(
            config=config,
            row_offsets=offsets_of(np.concatenate(counts)),
            columns=np.concatenate([np.zeros(0, np.int32), *[t.columns for t in tables]]),
            values=np.concatenate([np.zeros(0, np.float64), *[t.values for t in tables]]),
        )
