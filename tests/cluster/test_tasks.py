"""Tasks on a real local Ray: whole results, errors as they were raised, processes that die."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from raymat.cluster import features
from raymat.cluster.connect import ray_session
from raymat.cluster.tasks import result_of, start_task
from raymat.data.crystals import CrystalSet
from raymat.errors import DataError, RunError
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.neighbors import build_neighbor_table

CONFIG = NeighborConfig(cutoff=5.0, max_neighbors=12)


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    with ray_session(None):
        yield


def dying(times: int, tally: Path) -> Callable[[], int]:
    """Give a function that kills its process the first times; Ray sends it along as it is."""

    def die() -> int:
        deaths = len(list(tally.iterdir()))
        if deaths < times:
            (tally / str(deaths)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return deaths

    return die


def test_error_of_ours_comes_back_as_it_was_raised() -> None:
    def complain(words: str) -> None:
        raise DataError(words)

    with pytest.raises(DataError, match=r"^mp-1: no usable cell$"):
        result_of(start_task(complain, "mp-1: no usable cell"))


def test_other_errors_keep_their_type() -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        result_of(start_task(lambda n: 1 / n, 0))


def test_task_survives_the_death_of_its_process(tmp_path: Path) -> None:
    assert result_of(start_task(dying(1, tmp_path))) == 1


def test_task_whose_process_always_dies_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^a process of the run died 4 times: .*worker.*died"):
        result_of(start_task(dying(99, tmp_path)))
    assert len(list(tmp_path.iterdir())) == 4


def test_graphs_built_in_tasks_are_those_of_one_process(
    twelve_crystals: CrystalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CRYSTALS_PER_TASK", 5)
    heard: list[tuple[int, int]] = []
    built = features.find_or_build_table(
        twelve_crystals, CONFIG, on_progress=lambda *n: heard.append(n), cache=tmp_path
    )
    expected = build_neighbor_table(twelve_crystals, CONFIG)
    for name in ("offsets", "atomic_numbers", "indices", "distances", "n_ambiguous"):
        np.testing.assert_array_equal(getattr(built, name), getattr(expected, name))
    assert heard == [(5, 12), (10, 12), (12, 12), (12, 12)]


def test_graphs_in_the_cache_are_not_built_again(
    twelve_crystals: CrystalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = features.find_or_build_table(
        twelve_crystals, CONFIG, on_progress=lambda *_: None, cache=tmp_path
    )
    monkeypatch.setattr(features, "_build_in_tasks", None)
    again = features.find_or_build_table(
        twelve_crystals, CONFIG, on_progress=lambda *_: None, cache=tmp_path
    )
    np.testing.assert_array_equal(again.distances, first.distances)
