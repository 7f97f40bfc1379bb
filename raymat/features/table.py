"""What models read of crystals: stored once as arrays, served in batches.

A `TableConfig` says what is computed, a `FeatureTable` holds it for a set of crystals, and a
`FeatureView` is what one configuration of a model reads of it. Graphs and descriptors are the two
kinds; training, tuning and the cache know this module only.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from raymat.config import Config
from raymat.data.crystals import CrystalSet
from raymat.errors import ConfigError

COPIES = 2  # parts are joined into a table while they are still held


class TableConfig(Config):
    """What is computed of every crystal.

    Attributes:
        kind: what a stored table of it is, such as "neighbors"; part of its key in the cache.
        version: to be raised with every change of what `build` returns.
        packages: distributions that compute it; another version of one may give other numbers.
        smaller: what a user can do to make a table smaller, for messages.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ()
    smaller: ClassVar[str]

    @classmethod
    @abstractmethod
    def table_class(cls) -> "type[FeatureTable]":
        """Give the class of its tables."""

    @abstractmethod
    def build(self, crystals: CrystalSet) -> "FeatureTable":
        """Compute the table of some crystals, in this process.

        Raises:
            DataError: a crystal has no usable cell.
        """

    @abstractmethod
    def join(self, tables: list[Any]) -> "FeatureTable":
        """Join the tables of consecutive parts of a crystal set."""

    def holds(self, other: "TableConfig") -> bool:
        """Say whether a table of this configuration has all that one of another has."""
        return self == other

    def union(self, other: "TableConfig") -> "TableConfig | None":
        """Give one configuration whose table holds both, None if each needs its own."""
        return self if self == other else None

    def forecast_bytes(self, crystals: CrystalSet) -> int:
        """Give the memory of the table, as far as it is known before it is computed."""
        del crystals
        return 0

    def check_memory(
        self, crystals: CrystalSet, available_bytes: int, *, n_workers: int = 1
    ) -> None:
        """Check, before anything is computed, that the table can be computed and held.

        Args:
            crystals: of which crystals.
            available_bytes: as `raymat.features.memory.available_memory` gives it.
            n_workers: processes that compute at the same time on this machine.

        Raises:
            ConfigError: it needs more; the message says how much, and what to do.
        """
        del n_workers
        needed = COPIES * self.forecast_bytes(crystals)
        if needed > available_bytes:
            raise ConfigError(
                f"{self.kind} of {len(crystals):,} crystals ({self!r}) take up to"
                f" {needed / 1e9:.3g} GB, {available_bytes / 1e9:.3g} GB are free;"
                f" {self.smaller}, or take fewer crystals"
            )


@dataclass(frozen=True)
class FeatureTable:
    """What was computed, one entry per crystal, as arrays that processes share.

    Attributes:
        dtypes: the array fields and their types; the cache stores exactly these. The first has one
            entry more than there are crystals.
        running: those of them that are running sums from 0. The tables of consecutive parts are
            joined by going on with these sums, and by putting the other arrays end to end.
    """

    dtypes: ClassVar[dict[str, str]]
    running: ClassVar[frozenset[str]]
    config: Any

    def __len__(self) -> int:
        raise NotImplementedError  # abstract

    @property
    def n_sites(self) -> NDArray[np.int64]:
        """(n_crystals,) places that each crystal takes in a batch."""
        raise NotImplementedError  # abstract

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Give the table of the crystals `rows`, in this order: what `build` makes of them."""
        raise NotImplementedError  # abstract

    @property
    def nbytes(self) -> int:
        """Memory of all arrays in bytes."""
        return sum(getattr(self, name).nbytes for name in self.dtypes)

    def facts(self) -> dict[str, Any]:
        """Give what a run says of the table: what it holds and how large it is."""
        return {
            "kind": self.config.kind,
            **self.config.model_dump(mode="json"),
            "n_crystals": len(self),
            "megabytes": round(self.nbytes / 1e6, 3),
            "line": self.line(),
        }

    def line(self) -> str:
        """Give one line for people on what it holds."""
        raise NotImplementedError  # abstract


class Batch(Protocol):
    """Some crystals as tensors."""

    @property
    def n_crystals(self) -> int:
        """Crystals in the batch."""

    def to(self, device: torch.device) -> Self:
        """Give the same batch on another device."""


class FeatureView(Protocol):
    """What one configuration of a model reads."""

    @property
    def table_config(self) -> TableConfig:
        """The smallest table that serves it."""

    def batch(self, table: Any, rows: NDArray[np.int64]) -> Batch:
        """Take the crystals `rows` out of a table that holds `table_config`."""

    def unknown_elements(self, crystals: CrystalSet) -> dict[int, tuple[int, ...]]:
        """Give the rows with elements that the model was not made for, and which these are."""

    def unusable(self, crystals: CrystalSet, table: Any) -> dict[int, str]:
        """Give the rows that the model cannot take, each with the reason."""

    def doubtful(self, crystals: CrystalSet, table: Any) -> dict[int, str]:
        """Give the rows that the model takes, but was not made for, each with the reason."""
