"""A screening on three Ray nodes."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from made_screening import Study, assert_same_ranking, rank, write_study
from nodes import ray_nodes

from raymat.cluster.screen import screen
from raymat.data.shards import iter_shards
from raymat.screening.criterion import read_criterion
from raymat.screening.shard import screen_shard
from raymat.tracking.events import read_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

N_NODES = 3


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of three nodes of one core each, all on this machine."""
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    with ray_nodes(N_NODES) as address:
        yield address


def test_three_nodes_rank_as_one(address: str, tmp_path: Path) -> None:
    study: Study = write_study(tmp_path)
    path = tmp_path / "run"
    metrics = screen(study.request(shard_size=4, address=address), path)
    events = read_events(path / "events.jsonl")
    ended = [event["shard"] for event in events if event["event"] == "shard_ended"]
    assert sorted(ended) == list(range(12))
    (shard,) = iter_shards(str(study.candidates), size=1000)
    criterion = read_criterion("lithium_metal")
    whole = screen_shard(shard.crystals, criterion, study.ensembles, cache=tmp_path / "cache")
    table = pd.read_parquet(path / "screening.parquet")
    assert_same_ranking(table, rank(whole.table, criterion))
    assert metrics["ranked"] == len(table)
    assert not [event for event in events if event["event"] == "warning"]
