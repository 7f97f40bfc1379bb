"""What the naming of Ray Tune's placement groups rests on: Ray's own, so it is pinned here."""

import inspect

import pytest
from ray.air.execution import ResourceRequest

from raymat.cluster import placement_groups


def test_tune_makes_its_groups_where_they_are_named() -> None:
    """Tune's resource manager asks the request for its group; another name would not be seen."""
    from ray.air.execution.resources.placement_group import PlacementGroupResourceManager

    source = inspect.getsource(PlacementGroupResourceManager.request_resources)
    assert "to_placement_group()" in source
    assert list(inspect.signature(ResourceRequest.to_placement_group).parameters) == ["self"]


def test_groups_are_named_within_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    monkeypatch.setattr(placement_groups, "free_groups", lambda _owner: None)
    monkeypatch.setattr(
        placement_groups,
        "placement_group",
        lambda bundles, strategy, name: named.append(name) or (bundles, strategy),
    )
    before = ResourceRequest.to_placement_group
    with placement_groups.groups_named("runs/a/cells/b"):
        made = ResourceRequest([{"CPU": 1.0}]).to_placement_group()
    assert made == ([{"CPU": 1.0}], "PACK")
    assert named[0].startswith("runs/a/cells/b#")
    assert ResourceRequest.to_placement_group is before
