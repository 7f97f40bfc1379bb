"""Placement groups of searches that run inside a Ray task.

Ray frees what a driver occupies when the driver dies. A task that drives a search is no driver:
what it occupied when its process was killed stays occupied, and it would wait for itself when it
is run again. So the groups are named after their owner, and freed by that name.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution import ResourceRequest
from ray.util import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)


@contextmanager
def groups_named(owner: str) -> Iterator[None]:
    """Name the groups that Ray Tune makes in this process after `owner`; free its older ones."""
    free_groups(owner)

    def make_named(request: ResourceRequest) -> Any:
        name = f"{owner}#{uuid.uuid4().hex}"
        return placement_group(request.bundles, request.strategy, name=name)

    requests: Any = ResourceRequest
    make, requests.to_placement_group = requests.to_placement_group, make_named
    try:
        yield
    finally:
        requests.to_placement_group = make


def free_groups(owner: str) -> None:
    """Free the placement groups of an owner whose process is no more."""
    for group in placement_group_table().values():
        if group["name"].startswith(f"{owner}#") and group["state"] != "REMOVED":
            remove_placement_group(get_placement_group(group["name"]))
