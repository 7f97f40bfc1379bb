"""Which format a file has and what its crystal is called, by the file's name."""

from pathlib import PurePosixPath
from typing import Literal

Format = Literal["cif", "xyz", "poscar", "json"]

_ENDINGS: dict[str, Format] = {
    ".cif": "cif",
    ".xyz": "xyz",
    ".extxyz": "xyz",
    ".vasp": "poscar",
    ".poscar": "poscar",
    ".json": "json",
}
_VASP_NAMES = ("POSCAR", "CONTCAR")
KNOWN = ".cif, .xyz, .extxyz, POSCAR, CONTCAR, .vasp, .json; each also with .gz"

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_NESTED = (*ARCHIVES, ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst")


def format_of(path: str) -> Format | None:
    """Give the format of a file with crystals, None for any other; ``.gz`` may follow."""
    name = _bare_name(path)
    for ending, found in _ENDINGS.items():
        if name.lower().endswith(ending):
            return found
    return "poscar" if _is_vasp_name(name) else None


def is_archive(path: str) -> bool:
    """Say whether a file name is that of an archive that can be imported."""
    return path.lower().endswith(ARCHIVES)


def is_packed(path: str) -> bool:
    """Say whether a file name is that of an archive or of something compressed."""
    return path.lower().endswith(_NESTED)


def is_hidden(path: str) -> bool:
    """Say whether a file is one that systems leave about: hidden, or macOS' shadow of another."""
    parts = PurePosixPath(path).parts
    return any(part == "__MACOSX" or (part[:1] == "." and part != "..") for part in parts)


def id_of(path: str) -> str:
    """Give the name without its ending; a bare POSCAR or CONTCAR is called after its folder."""
    name = _bare_name(path)
    if name in _VASP_NAMES:
        return PurePosixPath(path).parent.name or name
    ending = next((e for e in _ENDINGS if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)] or name


def without_ending(name: str) -> str:
    """Return a name without the ending of a file of crystals, if it has one."""
    bare = name[:-3] if name.lower().endswith(".gz") else name
    ending = next((e for e in _ENDINGS if bare.lower().endswith(e)), "")
    return bare[: -len(ending)] if ending and bare != ending else name


def _bare_name(path: str) -> str:
    name = PurePosixPath(path).name
    return name[:-3] if name.lower().endswith(".gz") else name


def _is_vasp_name(name: str) -> bool:
    """Say whether a name is POSCAR or CONTCAR, or one of them with more behind ``_ . -``."""
    starts = [word for word in _VASP_NAMES if name.startswith(word)]
    return bool(starts) and name[len(starts[0]) :][:1] in ("", "_", ".", "-")
