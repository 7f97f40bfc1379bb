"""Where a command may write: never over its own source, never over the files of a run.

One rule for all files that a command writes for its user: one that exists is refused unless
``--overwrite`` is given, and a missing folder is made, both before any work is done. A run
directory is never written over.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from raymat.errors import ConfigError, RunError
from raymat.reading import real_path, user_path
from raymat.text import plain

_DATA_ENDING = re.compile(
    r"\.(parquet|csv|json|cif|xyz|extxyz|vasp|poscar|zip|db|tgz|txz|tbz2|tar(\.(xz|bz2))?)(\.gz)?$",
    re.IGNORECASE,
)


def say_notes(notes: Iterable[str]) -> None:
    """Say on stderr how a source was read where that is not as a matter of course."""
    for note in notes:
        sys.stderr.write(f"note: {plain(note)}\n")


def source_stem(source: str) -> str:
    """Give the name of a data source without its ending: ``new`` of ``data/new.json.gz``."""
    return _DATA_ENDING.sub("", real_path(user_path(source)).name)


def rejected_beside(out: Path) -> Path:
    """Give where the rejected rows of an output are listed: ``OUT-rejected.csv``."""
    return out.with_name(f"{out.stem}-rejected.csv")


def check_output(out: Path, source: str, *, endings: tuple[str, ...]) -> None:
    """Check a file to write, and the list of rejected rows beside it, before anything is read.

    Raises:
        ConfigError: the name has another ending, or something would be lost: the source, a file
            among those of the source's folder, or a file of a run.
    """
    check_ending(out, endings)
    read = real_path(user_path(source))
    for path in (out, rejected_beside(out)):
        written = real_path(path)
        if written == read:
            raise ConfigError(f"-o {out}: {path} is the source itself; choose another -o")
        if read.is_dir() and written.is_relative_to(read):
            raise ConfigError(f"-o {out}: lies inside the source {source}; choose another -o")
        if path.exists() and (written.parent / "run.json").exists():
            raise ConfigError(f"-o {out}: {path} belongs to a run; choose another -o")


def check_ending(out: Path, endings: tuple[str, ...]) -> None:
    """Check the name of a file to write.

    Raises:
        ConfigError: it has another ending.
    """
    if out.suffix not in endings:
        raise ConfigError(f"-o {out}: expected a name that ends in {' or '.join(endings)}")


def prepare_files(*files: Path, overwrite: bool, option: str = "-o") -> None:
    """Check before any work that files may be written, and make their folders.

    A list of rejected rows follows the file that it lies beside, and is not checked itself.

    Raises:
        ConfigError: one exists and is not to be replaced, or is no file.
        RunError: a folder cannot be made.
    """
    for path in files:
        if path.is_dir():
            raise ConfigError(f"{option} {path}: is a folder; name a file")
        if path.exists() and not overwrite:
            raise ConfigError(
                f"{option} {path}: exists already; choose another {option}, or replace it with"
                " --overwrite"
            )
        if path.exists() and not path.is_file():
            raise ConfigError(f"{option} {path}: is not a regular file; choose another {option}")
    for folder in {path.parent for path in files}:
        make_folder(folder, option=option)


def check_new_folder(out: Path, source: str) -> None:
    """Check a folder to make before anything is read: it must be new or empty.

    Raises:
        ConfigError: it holds files, is a file itself, or lies inside the source.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise ConfigError(f"-o {out}: exists already and {what}; choose another -o, or remove it")
    read = real_path(user_path(source))
    if read.is_dir() and real_path(out).is_relative_to(read):
        raise ConfigError(f"-o {out}: lies inside the source {source}; choose another -o")


def refuse_run_folder(folder: Path) -> None:
    """Refuse to write among the files of a run.

    Raises:
        ConfigError: the folder is one.
    """
    if (folder / "run.json").exists():
        raise ConfigError(f"--out {folder}: is the folder of a run; choose another --out")


def make_folder(folder: Path, *, option: str = "--out") -> None:
    """Make a folder, and those above it, where they are missing.

    Raises:
        RunError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        problem = cause.strerror or str(cause)
        raise RunError(f"{folder}: cannot be made ({problem}); choose another {option}") from cause
