"""Errors cross processes whole: a worker raises them, the driver tells them."""

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from ray import cloudpickle

import raymat
from raymat.errors import DivergedError, RaymatError, UnknownElementError, one_line


def kinds(of: type[RaymatError] = RaymatError) -> Iterator[type[RaymatError]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


@pytest.fixture(scope="module")
def every_kind() -> list[type[RaymatError]]:
    for module in pkgutil.walk_packages(raymat.__path__, "raymat."):
        importlib.import_module(module.name)
    return sorted({k for k in kinds() if k.__module__.startswith("raymat")}, key=str)


def made(kind: type[RaymatError]) -> RaymatError:
    """Make an error of a kind, whatever its arguments are."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    named = {p.name: (p.name, 7) for p in parameters if p.kind is p.KEYWORD_ONLY}
    error = kind("what was wrong", **named)
    error.note = [1]  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("travel", [pickle, cloudpickle])
def test_every_error_crosses_processes(every_kind: list[type[RaymatError]], travel: Any) -> None:
    assert len(every_kind) > 10
    for kind in every_kind:
        error = made(kind)
        there = travel.loads(travel.dumps(error))
        assert type(there) is kind
        assert str(there) == str(error)
        assert there.args == error.args
        assert vars(there) == vars(error)
        assert one_line(there) == one_line(error)


def test_attributes_cross_processes() -> None:
    unknown = UnknownElementError("no Xe", atomic_numbers=(54,))
    assert pickle.loads(pickle.dumps(unknown)).atomic_numbers == (54,)
    diverged = DivergedError("diverged", epoch=3)
    assert pickle.loads(pickle.dumps(diverged)).epoch == 3
