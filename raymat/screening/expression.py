"""Expressions of a criterion file, such as ``band_gap > 0.5 and log10_bulk < 1.6``.

The text is read once into a tree of numbers, names and the operations that
`raymat.screening.operations` lists, and evaluated on NumPy arrays. No code of a file is ever run.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.errors import ConfigError, did_you_mean
from raymat.screening.expression_parser import Parser, short
from raymat.screening.expression_tree import Node, compute, kind_of
from raymat.screening.operations import CONSTANTS, FUNCTIONS, Kind


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes:
        text: as it stood in the file, on one line.
        where: file and key, for messages.
        gives: whether it is a number or a condition.
        positions: the names it reads -> where each stands first, counted from 1.
    """

    text: str
    where: str
    gives: Kind
    positions: Mapping[str, int]
    _tree: Node

    @property
    def names(self) -> frozenset[str]:
        """Names that `evaluate` must be given values for."""
        return frozenset(self.positions)

    def evaluate(self, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Compute the expression on arrays that broadcast against each other.

        Nothing is raised or warned about: where a number cannot be had, such as log10(-1), the
        result is NaN. A condition is 1, 0, or NaN where it cannot be told.

        Args:
            values: an array for every one of `names`.
        """
        with np.errstate(all="ignore"):
            return np.asarray(compute(self._tree, values), dtype=np.float64)

    def check_names(self, known: Collection[str], instead: Mapping[str, str] | None = None) -> None:
        """Check that every name is one of `known`.

        Args:
            known: names that have a value here.
            instead: names that stand elsewhere in the file -> why not here, and what to do.

        Raises:
            ConfigError: a name is not known here.
        """
        for name, position in self.positions.items():
            if name in known:
                continue
            if instead and name in instead:
                stood = f"'{name}' at character {position}"
                raise ConfigError(f"{self.where}: {stood} {instead[name]}")
            hint = did_you_mean(name, {*known, *FUNCTIONS, *CONSTANTS})
            raise ConfigError(f"{self.where}: unknown name '{name}' at character {position}{hint}")


def parse_expression(text: str, *, where: str, gives: Kind | None = None) -> Expression:
    """Check an expression; nothing in it is run.

    Args:
        text: such as ``"10 ** bulk"``.
        where: file and key, for messages, such as ``"soft.yaml: values: bulk_gpa"``.
        gives: what it must be, None for either.

    Raises:
        ConfigError: it is no expression, or holds something that expressions may not.
    """
    text = " ".join(text.split())
    parser = Parser(text, where)
    tree = parser.parse()
    found = kind_of(tree)
    if gives not in (None, found):
        wish = "compare it, such as 'x > 0'" if gives == "condition" else "leave the comparison out"
        raise ConfigError(f"{where}: '{short(text)}' is a {found}, a {gives} is needed; {wish}")
    return Expression(text, where, found, parser.positions, tree)
