"""CSV, JSON and JSON.GZ tables, and the folder layout of the CGCNN code."""

import gzip
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from raymat.data.raw import ID_COLUMN, ParsedStructure, RawCrystals, split_off_ids
from raymat.data.structure_parser import parse_cif, quiet_pymatgen, read_structure_table
from raymat.errors import DataError


def read_csv(path: Path) -> RawCrystals:
    """Read a CSV file with a ``cif`` or ``structure`` column and a header.

    Raises:
        DataError: no CSV, or no such column.
    """
    return read_structure_table(_csv_table(path, dtype={ID_COLUMN: str}), where=str(path))


def read_json(path: Path) -> RawCrystals:
    """Read JSON or JSON.GZ: records, or columns + index + data as Matbench writes them.

    Raises:
        DataError: no such JSON, or no ``structure``/``cif`` column.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, OSError, EOFError, zlib.error) as cause:
        raise DataError(f"{path}: not a readable JSON file ({cause})") from cause
    return read_structure_table(_json_table(content, path), where=str(path))


def read_cif_folder(folder: Path, target: str | None) -> tuple[RawCrystals, str]:
    """Read ``id_prop.csv`` (id, target; no header) and the ``<id>.cif`` beside it.

    The layout of the public CGCNN code (Xie & Grossman, Phys. Rev. Lett. 2018, 120, 145301). The
    target's column is called `target`, or ``target`` where none is asked for.

    Returns:
        The crystals, and the SHA-256 over id_prop.csv and every CIF file in its order.

    Raises:
        DataError: no ``id_prop.csv``, or an empty one.
    """
    listing = folder / "id_prop.csv"
    if not listing.is_file():
        n_cif = len(list(folder.glob("*.cif")))
        found = f"{n_cif} CIF files" if n_cif else "no CIF files either"
        raise DataError(f"{folder}: no id_prop.csv in this folder ({found}); write lines 'id,y'")
    table = _csv_table(listing, header=None, dtype={0: str}, skipinitialspace=True)
    names = [ID_COLUMN, target or "target", *[f"column_{i}" for i in range(2, table.shape[1])]]
    table.columns = pd.Index(names[: table.shape[1]])
    ids, properties = split_off_ids(table)
    digest = hashlib.sha256(listing.read_bytes())
    with quiet_pymatgen():
        parsed = [_read_cif(folder / f"{name}.cif", digest) for name in ids]
    if _is_header(table, folder):
        parsed[0] = (
            f"header line: no file {ids[0]}.cif; the first line looks like a header, and"
            " id_prop.csv has none"
        )
    return RawCrystals.from_parsed(ids, parsed, properties), digest.hexdigest()


def _is_header(table: pd.DataFrame, folder: Path) -> bool:
    """Say whether the first line names columns: no such CIF, and a word where others have y."""
    first = str(table.iloc[0, 0])
    if table.shape[1] < 2 or (folder / f"{first}.cif").exists():
        return False
    is_number = pd.to_numeric(table.iloc[:, 1], errors="coerce").notna()
    return not is_number.iloc[0] and bool(is_number.iloc[1:].any())


def _read_cif(path: Path, digest: "hashlib._Hash") -> ParsedStructure | str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return f"unreadable CIF: no file {path.name}"
    except (OSError, ValueError) as cause:
        return f"unreadable CIF: {cause}"
    digest.update(path.name.encode() + b"\0" + content)
    return parse_cif(content.decode("utf-8", errors="replace"))


def _csv_table(path: Path, **options: Any) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pd.read_csv(path, low_memory=False, **options)
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError, OSError) as cause:
        problem = " ".join(str(cause).split())
        raise DataError(f"{path}: not a readable CSV file ({problem})") from cause
    return table


def _json_table(content: Any, path: Path) -> pd.DataFrame:
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return pd.DataFrame(content)
    if not (isinstance(content, dict) and {"columns", "data"} <= content.keys()):
        found = f"a {type(content).__name__}"
        wanted = "a list of records, or 'columns', 'index' and 'data'"
        raise DataError(f"{path}: expected {wanted}, found {found}")
    try:
        table = pd.DataFrame(content["data"], columns=content["columns"])
    except (ValueError, TypeError) as cause:
        raise DataError(f"{path}: 'columns' and 'data' do not fit ({cause})") from cause
    index = content.get("index", [])
    # Matbench's own names (mb-log-gvrh-00001) are ids; a running number is not.
    if ID_COLUMN not in table and len(index) == len(table) and all(map(_is_name, index)):
        table.insert(0, ID_COLUMN, index)
    return table


def _is_name(entry: object) -> bool:
    return isinstance(entry, str) and not entry.isdigit()
