"""Clusters that this user has named on this machine.

Whoever is behind the address of a cluster receives the user's token and sends pickles, which run
code. So an address that stands in a file, such as the `run.json` of somebody else, is used only
after the user has typed it once.
"""

import json
import os
import platform
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from raymat.errors import RunError
from raymat.text import plain, quoted

_MOST = 100  # addresses of a machine, the latest last
_MOST_BYTES = 100_000


def remember_address(address: str) -> None:
    """Note that the user has named an address; a home folder that cannot be written is no error."""
    known = _read()
    here = [one for one in known.get(platform.node(), []) if one != address]
    known[platform.node()] = [*here, address][-_MOST:]
    path = _record()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file, indent=2)
        Path(temporary).replace(path)


def check_address(address: object, run: Path) -> None:
    """Check that the address in a run's `run.json` is one that the user has named.

    Raises:
        RunError: it is not.
    """
    if address in (None, "local") or address in _read().get(platform.node(), []):
        return
    shown = plain(address) if isinstance(address, str) else quoted(address)
    raise RunError(
        f"{run}: the run was made on the Ray cluster {shown}, which you have not named on this"
        f" machine; if you trust it, name it with --address {shown}, or run here with"
        " --address local"
    )


def _record() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    folder = Path(base) if base.startswith("/") else Path.home() / ".config"
    return folder / "raymat" / "addresses.json"


def _read() -> dict[str, list[str]]:
    """Return host -> addresses; nothing of a record that others could have written."""
    try:
        with _record().open("rb") as file:
            facts = os.fstat(file.fileno())
            is_own = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
            if not is_own or facts.st_mode & 0o022 or facts.st_size > _MOST_BYTES:
                return {}
            content = json.load(file)
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no home folder, deep nesting
        return {}
    hosts = content.items() if isinstance(content, dict) else ()
    return {
        host: [one for one in named if isinstance(one, str)]
        for host, named in hosts
        if isinstance(named, list)
    }
