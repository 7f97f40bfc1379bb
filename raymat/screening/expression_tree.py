"""The checked tree of an expression: numbers, names and operations, and what they compute."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymat.screening.operations import OPERATIONS, Kind


@dataclass(frozen=True)
class Number:
    """A number that stands in the text, or a constant."""

    value: np.float64


@dataclass(frozen=True)
class Name:
    """A name whose values are given at evaluation."""

    name: str


@dataclass(frozen=True)
class Apply:
    """An operator or function of `raymat.screening.operations`, by its key there."""

    operation: str
    arguments: tuple["Node", ...]


Node = Number | Name | Apply


def compute(node: Node, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Compute a tree on arrays that broadcast against each other."""
    match node:
        case Number(value):
            return np.asarray(value)
        case Name(name):
            return values[name]
        case Apply(operation, arguments):
            computed = (compute(argument, values) for argument in arguments)
            result: NDArray[np.float64] = OPERATIONS[operation].compute(*computed)
            return result


def kind_of(node: Node) -> Kind:
    """Say whether a tree is a number or a condition; every name is a number."""
    return OPERATIONS[node.operation].gives if isinstance(node, Apply) else "number"


def has_names(node: Node) -> bool:
    """Say whether the value of a tree depends on any name."""
    if isinstance(node, Apply):
        return any(has_names(argument) for argument in node.arguments)
    return isinstance(node, Name)


def joined(operation: str, parts: list[Node]) -> Node:
    """Fold an operation of two arguments over one or more parts, from the left."""
    tree = parts[0]
    for part in parts[1:]:
        tree = Apply(operation, (tree, part))
    return tree
