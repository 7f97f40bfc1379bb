"""Columns whose parts disagree on a type: joined without loss, or refused in one line."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.errors import DataError
from raymat.sources.files.columns import join_types
from raymat.sources.files.importing import ImportRequest, import_crystals
from raymat.sources.files.parts import PREFIX

BEYOND = 2**53 + 1  # the first whole number that a float cannot hold
DATE, TIME = pa.date32(), pa.timestamp("us")


def joined(*types: pa.DataType, largest: int = 0) -> pa.DataType:
    schemas = [pa.schema([(f"{PREFIX}x", kind)]) for kind in types]
    return join_types(schemas, {"x": largest}, "a.json")["x"]


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        ((pa.null(), DATE, pa.null()), DATE),
        ((pa.bool_(), pa.int64()), pa.float64()),
        ((pa.int64(), pa.float64()), pa.float64()),
        ((pa.int64(), pa.float32()), pa.float64()),
        ((pa.float32(), pa.float32()), pa.float32()),
        ((pa.int64(), pa.string(), pa.float64()), pa.large_string()),
        ((DATE, pa.string()), pa.large_string()),
        ((pa.dictionary(pa.int8(), pa.string()), pa.string()), pa.string()),
        ((pa.dictionary(pa.int8(), pa.string()), pa.int64()), pa.large_string()),
    ],
)
def test_types_that_go_together(types: tuple[pa.DataType, ...], wanted: pa.DataType) -> None:
    assert joined(*types) == wanted


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ((DATE, pa.float64()), r"holds date32\[day\] in some rows and double in others; write one"),
        ((pa.int64(), TIME), r"holds int64 in some rows and timestamp\[us\] in others"),
        ((pa.bool_(), DATE), "holds bool in some rows"),
        ((pa.list_(pa.int64()), pa.string()), "holds list<item: int64> in some rows"),
    ],
)
def test_types_that_do_not(types: tuple[pa.DataType, ...], words: str) -> None:
    with pytest.raises(DataError, match=rf"^a.json: column 'x' {words}"):
        joined(*types)


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        ((1, 1.5), [1.0, 1.5]),
        ((BEYOND, 2), [BEYOND, 2]),
        ((BEYOND, "a"), [str(BEYOND), "a"]),
        ((-BEYOND, 1.5), f"holds the integer {BEYOND} in some rows and double in others"),
        ((BEYOND, True), f"holds the integer {BEYOND} in some rows and double in others"),
        ((2**63, -1), f"holds the integer {2**63} in some rows and int64 in others"),
    ],
)
def test_integers_keep_their_digits(
    tmp_path: Path,
    tiny_crystals: CrystalSet,
    monkeypatch: pytest.MonkeyPatch,
    cells: tuple[object, ...],
    wanted: list[object] | str,
) -> None:
    """Two files, each a part of its own."""
    monkeypatch.setattr("raymat.data.files.chunks.SIZE", 1)
    folder, out = tmp_path / "s", tmp_path / "o.parquet"
    folder.mkdir()
    for row, cell in enumerate(cells):
        record = {"n": cell, "structure": tiny_crystals[row].to_structure().as_dict()}
        (folder / f"{row}.json").write_text(json.dumps(record))
    request = ImportRequest(str(folder), out, tmp_path / "r.csv")
    if isinstance(wanted, str):
        with pytest.raises(DataError, match=f"s: column 'n' {wanted}, .* digits; write one kind"):
            import_crystals(request)
        assert not (tmp_path / "r.csv").exists()
    else:
        import_crystals(request)
        assert load_crystals(str(out)).crystals.properties["n"].tolist() == wanted
