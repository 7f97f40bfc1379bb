"""Which crystals train, validate and test: four kinds of split, deterministic and hash-stamped."""

import hashlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from raymat.config import Config, Seed
from raymat.data.composition import chemical_systems, reduced_formulas
from raymat.data.crystals import CrystalSet
from raymat.errors import DataError
from raymat.reading import regular_file

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
_UNUSED = "unused"
_METADATA_KEY = b"raymat_split"
_ROUNDING = 1e-9  # so that 0.1 * 30 counts as 3


class SplitConfig(Config):
    """How crystals are divided.

    Rows left over by rounding train. If the fractions sum to less than 1, the rest is unused.
    """

    kind: Literal["random", "formula", "chemical_system", "kfold"] = "random"
    seed: Seed = 0
    train: float = Field(0.8, gt=0.0, le=1.0)  # kfold: ignored, whatever is left trains
    validation: float = Field(0.1, ge=0.0, lt=1.0)  # kfold: of the rows outside the test fold
    test: float = Field(0.1, ge=0.0, lt=1.0)  # kfold: ignored, one fold tests
    n_folds: int = Field(5, ge=2, le=100_000)  # kfold only
    fold: int = Field(0, ge=0)  # kfold only; 0 to n_folds - 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.train + self.validation + self.test
        if total > 1.0 + _ROUNDING:
            raise ValueError(f"train + validation + test is {total:g}, expected at most 1")
        for part in ("validation",) if self.kind == "kfold" else ("validation", "test"):
            if getattr(self, part) == 0.0:
                raise ValueError(
                    f"'{part}' must be above 0: a run selects on validation rows and is scored on"
                    " test rows (found 0)"
                )
        if self.fold >= self.n_folds:
            raise ValueError(f"fold {self.fold} does not exist, expected 0 to {self.n_folds - 1}")
        return self


def fewest_rows(config: SplitConfig) -> int:
    """Return how many crystals a random split needs so that no part is empty."""
    smallest = min(config.validation, config.test)
    return math.ceil((1.0 - _ROUNDING) / smallest)


@dataclass(frozen=True)
class Split:
    """The part of every crystal.

    Attributes:
        config: how it was made.
        material_ids: (n,) object array of str, in the order of the crystals.
        parts: (n,) object array of ``train``, ``validation``, ``test`` (or ``unused``).
    """

    config: SplitConfig
    material_ids: NDArray[np.object_]
    parts: NDArray[np.object_]

    def rows(self, part: Part) -> NDArray[np.int64]:
        """Give the row numbers of one part, ascending."""
        return np.flatnonzero(self.parts == part).astype(np.int64)

    def without(self, rows: NDArray[np.int64]) -> "Split":
        """Give the same split with some rows in no part."""
        parts = self.parts.copy()
        parts[rows] = _UNUSED
        return Split(self.config, self.material_ids, parts)

    @property
    def sha256(self) -> str:
        """Hash over configuration and (id, part) pairs; the order of the rows does not matter."""
        pairs = sorted(zip(self.material_ids.tolist(), self.parts.tolist(), strict=True))
        content = json.dumps([self.config.model_dump(mode="json"), pairs])
        return hashlib.sha256(content.encode()).hexdigest()


def make_split(crystals: CrystalSet, config: SplitConfig) -> Split:
    """Divide crystals; the same ids and seed give the same parts, in whatever order they come.

    ``formula`` and ``chemical_system`` keep every reduced formula, or every set of elements, in
    one part; their sizes come as close to the fractions as whole groups, met in random order,
    allow. ``kfold`` tests on fold `config.fold` of `config.n_folds`.

    Raises:
        DataError: a part, or another fold, would be empty.
    """
    order = np.argsort(crystals.material_ids.astype(str), kind="stable")
    rng = np.random.default_rng(config.seed)
    if config.kind == "kfold":
        parts = _kfold_parts(order, config, rng)
    elif config.kind == "random":
        parts = _random_parts(order, config, rng)
    else:
        names = _GROUPS[config.kind](crystals)
        parts = _group_parts(names.astype(str), config, rng)
    split = Split(config, crystals.material_ids, parts)
    _refuse_empty(split)
    return split


def reference_split(
    n: int, train_ratio: float, val_ratio: float, test_ratio: float
) -> dict[Part, NDArray[np.int64]]:
    """Give the row numbers of each part as the public CGCNN code draws them, in its order.

    Rows are shuffled once by Python's `random` with seed 123; then train is the first
    ``int(train_ratio * n)``, test the last ``int(test_ratio * n)``, validation the block before
    test. Rows left over by rounding are unused.
    """
    rows = list(range(n))
    random.Random(123).shuffle(rows)
    shuffled = np.array(rows, dtype=np.int64)
    n_train, n_val, n_test = (int(r * n) for r in (train_ratio, val_ratio, test_ratio))
    first_test = n - n_test
    return {
        "train": shuffled[:n_train],
        "validation": shuffled[first_test - n_val : first_test],
        "test": shuffled[first_test:],
    }


def write_split(split: Split, path: Path) -> None:
    """Write ``material_id, part`` with configuration and hash in the schema's metadata.

    Raises:
        DataError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from raymat.data.writers import atomic_file

    stamp = json.dumps({"config": split.config.model_dump(mode="json"), "sha256": split.sha256})
    columns = {"material_id": split.material_ids.tolist(), "part": split.parts.tolist()}
    schema = pa.schema([(name, pa.string()) for name in columns], {_METADATA_KEY: stamp})
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary)


def read_split(path: Path) -> Split:
    """Read what `write_split` wrote.

    Raises:
        DataError: the file is missing, is no split, or was changed since it was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(regular_file(path)).read()
        stamp = json.loads(table.schema.metadata[_METADATA_KEY])
        split = Split(
            config=SplitConfig(**stamp["config"]),
            material_ids=np.array(table["material_id"].to_pylist(), dtype=object),
            parts=np.array(table["part"].to_pylist(), dtype=object),
        )
        expected = stamp["sha256"]
    except FileNotFoundError:
        raise DataError(f"{path}: no such split file") from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as cause:
        raise DataError(f"{path}: not a split that raymat wrote ({cause!r})") from cause
    if split.sha256 != expected:
        raise DataError(f"{path}: changed since it was written (hash differs); make a new split")
    return split


_GROUPS = {"formula": reduced_formulas, "chemical_system": chemical_systems}


def _random_parts(
    order: NDArray[np.intp], config: SplitConfig, rng: np.random.Generator
) -> NDArray[np.object_]:
    shuffled = order[rng.permutation(len(order))]
    n_train, n_val, n_test = _sizes(len(order), config)
    parts = np.full(len(order), _UNUSED, dtype=object)
    parts[shuffled[:n_test]] = "test"
    parts[shuffled[n_test : n_test + n_val]] = "validation"
    parts[shuffled[n_test + n_val : n_test + n_val + n_train]] = "train"
    return parts


def _kfold_parts(
    order: NDArray[np.intp], config: SplitConfig, rng: np.random.Generator
) -> NDArray[np.object_]:
    if config.n_folds > len(order):
        raise DataError(
            f"kfold split of {len(order)} crystals into {config.n_folds} folds leaves folds empty;"
            f" set n_folds to at most {len(order)}, or use more crystals"
        )
    folds = np.array_split(order[rng.permutation(len(order))], config.n_folds)
    others = np.concatenate([f for i, f in enumerate(folds) if i != config.fold])
    n_val = math.floor(config.validation * len(others) + _ROUNDING)
    parts = np.full(len(order), "train", dtype=object)
    parts[folds[config.fold]] = "test"
    parts[others[:n_val]] = "validation"
    return parts


def _group_parts(
    names: NDArray[np.str_], config: SplitConfig, rng: np.random.Generator
) -> NDArray[np.object_]:
    _, group_of, sizes = np.unique(names, return_inverse=True, return_counts=True)
    n_train, n_val, n_test = _sizes(len(names), config)
    left = rng.permutation(len(sizes)).tolist()
    part_of = np.full(len(sizes), _UNUSED, dtype=object)
    wanted = {"test": n_test, "validation": n_val, "train": n_train}
    if sum(wanted.values()) == len(names):
        wanted["train"] = len(names)  # all that the others leave
    for part, size in wanted.items():
        chosen = _fill(left, sizes, size)
        part_of[chosen] = part
        taken = set(chosen)
        left = [group for group in left if group not in taken]
    parts: NDArray[np.object_] = part_of[group_of]
    return parts


def _fill(groups: Sequence[int], sizes: NDArray[np.int64], wanted: int) -> list[int]:
    """Take groups in their order while they fit; one too many if that comes closer."""
    chosen, missing = [], wanted
    for group in groups:
        if sizes[group] <= missing:
            chosen.append(group)
            missing -= int(sizes[group])
    rest = set(groups) - set(chosen)
    if rest and missing:
        smallest = min(rest, key=lambda group: (sizes[group], group))
        if sizes[smallest] - missing < missing:
            chosen.append(smallest)
    return chosen


def _sizes(n: int, config: SplitConfig) -> tuple[int, int, int]:
    """Give rows to train, validate and test; what rounding leaves over trains."""
    n_val = math.floor(config.validation * n + _ROUNDING)
    n_test = math.floor(config.test * n + _ROUNDING)
    used = math.floor((config.train + config.validation + config.test) * n + _ROUNDING)
    return min(used, n) - n_val - n_test, n_val, n_test


def _refuse_empty(split: Split) -> None:
    config = split.config
    for part in PARTS:
        if not len(split.rows(part)):
            n = len(split.parts)
            raise DataError(
                f"{config.kind} split of {n} crystals leaves no {part} rows; "
                f"use more crystals or other fractions (train {config.train:g}, "
                f"validation {config.validation:g}, test {config.test:g})"
            )
