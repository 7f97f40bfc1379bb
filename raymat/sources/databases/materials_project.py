"""What the Materials Project does not give by OPTIMADE, by its own interface (`mp-api`).

Structures always come by OPTIMADE, so one filter selects them; moduli, gaps and the like are asked
for by the ids of each page. The key is read where `mp-api` and pymatgen expect it, goes into the
request's header, and is in no message.
"""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from raymat.errors import ConfigError, DataError
from raymat.sources.databases.answers import printable
from raymat.sources.databases.columns import Column

KEY_NAMES = ("MP_API_KEY", "PMG_MAPI_KEY")
_CONFIG_FILES = ("~/.config/.pmgrc.yaml", "~/.pmgrc.yaml")
_ENDPOINT = "MP_API_ENDPOINT"  # mp-api's own variable, for a mirror
_SHOWN = 200  # characters of what mp-api says
_KEY_LENGTH = 32  # characters, as mp-api checks
_STATUS = re.compile(r"status code (\d{3})\b")  # in the words of mp-api, which keeps it nowhere
_ID = re.compile(r"\bmp-\d+\b")
_REFUSED = re.compile(r"\b(401|403)\b|Unauthorized|Forbidden|Invalid authentication|API key")


def find_key() -> str:
    """Give the key of the Materials Project.

    It is looked for in MP_API_KEY, PMG_MAPI_KEY, then as ``PMG_MAPI_KEY`` in ~/.config/.pmgrc.yaml
    and ~/.pmgrc.yaml.

    Raises:
        ConfigError: there is none, or what is there is no key.
    """
    places = [(name, os.environ.get(name)) for name in KEY_NAMES]
    places += [(name, _key_in(Path(name).expanduser())) for name in _CONFIG_FILES]
    for place, key in places:
        if key:
            return _checked(key.strip(), place)
    files = " or ".join(_CONFIG_FILES)
    how = "set MP_API_KEY (a key is free at https://next-gen.materialsproject.org/api)"
    raise ConfigError(f"no key of the Materials Project in {', '.join(KEY_NAMES)}, {files}; {how}")


def _key_in(path: Path) -> str | None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    found = content.get("PMG_MAPI_KEY") if isinstance(content, Mapping) else None
    return str(found) if found else None


def _checked(key: str, place: str) -> str:
    if len(key) != _KEY_LENGTH or not key.isalnum():
        what = f"{len(key)} characters"
        raise ConfigError(f"{place}: holds no key of the Materials Project ({what}, expected 32)")
    return key


class MaterialsProject:
    """Asks the summary of materials by id.

    Args:
        rester: an open `mp_api.client.MPRester`.
        fields: of the summary.
        key: never to be shown.
    """

    def __init__(self, rester: Any, fields: Sequence[str], key: str) -> None:
        self._rester, self._fields, self._key = rester, list(fields), key

    def ask(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Give the fields of these materials, by id; ids that it does not know are left out.

        Raises:
            ConfigError: the key is refused.
            DataError: the interface fails.
        """
        wanted = [name for name in ids if name.startswith("mp-")]
        if not wanted:
            return {}
        with _quietly(self._key):
            found = self._rester.materials.summary.search(
                material_ids=wanted, fields=["material_id", *self._fields]
            )
        return {str(document["material_id"]): _plain(document) for document in found}


@contextmanager
def open_materials_project(columns: Iterable[Column]) -> Iterator[MaterialsProject | None]:
    """Open the interface if a column needs it; None otherwise.

    Raises:
        ConfigError: no key, a key that is refused, or `mp-api` is not installed.
        DataError: the interface cannot be reached.
    """
    needed = [c for c in columns if c.interface == "mp-api"]
    if not needed:
        yield None
        return
    key = find_key()
    client = _import_client(needed[0])
    with _quietly(key):
        rester = client(
            key,
            endpoint=os.environ.get(_ENDPOINT),
            use_document_model=False,
            mute_progress_bars=True,
        )
    try:
        yield MaterialsProject(rester, list(dict.fromkeys(c.root for c in needed)), key)
    finally:
        rester.session.close()


def _import_client(column: Column) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mp_api.client import MPRester
    except ImportError as cause:
        advice = "it needs mp-api: pip install 'raymat[mp]'"
        raise ConfigError(f"--properties {column.name}: not in OPTIMADE; {advice}") from cause
    return MPRester


@contextmanager
def _quietly(key: str) -> Iterator[None]:
    """Turn whatever mp-api raises into one line without the key."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as cause:  # noqa: BLE001  mp-api lets errors of its many parts through
        words = printable(str(cause).replace(key, "(key)"))
        if _is_refusal(words):
            where = "see https://next-gen.materialsproject.org/api"
            raise ConfigError(f"the Materials Project refuses the key; {where}") from None
        shown = words[:_SHOWN]
        raise DataError(f"the Materials Project's interface failed: {shown}") from None


def _is_refusal(words: str) -> bool:
    """Tell whether the key was refused: by the status, else by words, in which ids have no say."""
    status = _STATUS.search(words)
    if status is not None:
        return status[1] in ("401", "403")
    return _REFUSED.search(_ID.sub("", words)) is not None


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in dict(document).items() if name != "material_id"}
