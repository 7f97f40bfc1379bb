from pathlib import Path

import pytest
from made_runs import ADDRESS

from raymat.tracking.known_addresses import remember_address


@pytest.fixture(autouse=True)
def _address_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The made runs say that they were made on a cluster, which this user has named."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path.with_name(f"{tmp_path.name}-config")))
    remember_address(ADDRESS)
