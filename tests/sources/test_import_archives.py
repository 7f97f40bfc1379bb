"""Archives, sound ones and those made to do harm."""

import io
import lzma
import shutil
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raymat.data.crystals import CrystalSet
from raymat.data.files import archives
from raymat.data.readers import TooManyRejectedError, load_crystals
from raymat.errors import DataError
from raymat.sources.files.importing import Imported, ImportRequest, import_crystals

BOMB = 64 << 20  # bytes of zeros
MODEST = 40 << 20  # bytes that reading a bomb may occupy


def run(source: Path, out: Path, **options: object) -> Imported:
    """Import in this process."""
    rejected = out.with_name(f"{out.stem}-rejected.csv")
    return import_crystals(ImportRequest(str(source), out, rejected, **options))  # type: ignore[arg-type]


def reasons(found: Imported) -> dict[str, str]:
    return dict(zip(found.rejected["material_id"], found.rejected["reason"], strict=True))


@pytest.fixture
def folder(tmp_path: Path, twelve_crystals: CrystalSet) -> Path:
    """Twelve CIF files and the list of their targets."""
    path = tmp_path / "crystals"
    path.mkdir()
    for row, name in enumerate(twelve_crystals.material_ids):
        twelve_crystals[row].to_structure().to(str(path / f"{name}.cif"))
    lines = zip(twelve_crystals.material_ids, twelve_crystals.target("y"), strict=True)
    (path / "id_prop.csv").write_text("".join(f"{name},{y}\n" for name, y in lines))
    return path


def pack(folder: Path, ending: str, *, root: bool) -> Path:
    """Pack a folder by the standard library, its own name within or not."""
    kinds = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tar.xz": "xztar", "tar.bz2": "bztar"}
    base = (folder.parent, folder.name) if root else (folder, ".")
    return Path(shutil.make_archive(str(folder.parent / "packed"), kinds[ending], *base))


def by_id(path: Path) -> pd.DataFrame:
    crystals = load_crystals(str(path)).crystals
    coords = [crystals[row].frac_coords.tolist() for row in range(len(crystals))]
    table = crystals.properties.assign(lattice=crystals.lattices.tolist(), coords=coords)
    return table.set_index(pd.Index(crystals.material_ids)).sort_index()


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("listed", [False, True])
def test_archive_gives_what_its_folder_gives(
    tmp_path: Path, folder: Path, ending: str, root: bool, listed: bool
) -> None:
    if not listed:
        (folder / "id_prop.csv").unlink()
    run(folder, tmp_path / "folder.parquet")
    found = run(pack(folder, ending, root=root), tmp_path / "packed.parquet")
    assert (found.source.n_rows, found.source.n_rejected) == (12, 0)
    one, other = by_id(tmp_path / "folder.parquet"), by_id(tmp_path / "packed.parquet")
    assert ("target" in other) == listed
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_list_of_an_archive_names_files_that_are_not_there(tmp_path: Path, folder: Path) -> None:
    with (folder / "id_prop.csv").open("a") as listed:
        listed.write("gone,1.5\n")
    (folder / "extra.cif").write_text("data_x")
    found = run(pack(folder, "tar.gz", root=True), tmp_path / "o.parquet", max_rejected=0.5)
    assert reasons(found) == {"gone": "unreadable CIF: no file gone.cif"}


@pytest.mark.parametrize("n_blocks", [1, 2])
@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_listed_member_longer_than_a_worker_is_given(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str, n_blocks: int
) -> None:
    run(folder, tmp_path / "folder.parquet")
    for path in folder.glob("*.cif"):
        path.write_text(path.read_text() * n_blocks)
    monkeypatch.setattr("raymat.data.files.documents._WHOLE", 100)
    monkeypatch.setattr("raymat.data.files.documents._SECTION", 100)
    packed, out = pack(folder, ending, root=True), tmp_path / "packed.parquet"
    if n_blocks == 1:
        run(packed, out)
        one, other = by_id(tmp_path / "folder.parquet"), by_id(out)
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    else:
        with pytest.raises(TooManyRejectedError, match=r": several structures \(12\); .* lists"):
            run(packed, out)


def write_tar(path: Path, members: list[tarfile.TarInfo], good: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"data" if member.isreg() else b""))
        archive.add(good, "good.cif")
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info


def test_tar_that_reaches_out_of_itself(tmp_path: Path, folder: Path) -> None:
    members = [
        member("../evil.cif"),
        member("/etc/evil.cif"),
        member("a/../../evil.txt"),
        member("link.cif", tarfile.SYMTYPE),
        member("hard.cif", tarfile.LNKTYPE),
        member("pipe.cif", tarfile.FIFOTYPE),
        member("disk.cif", tarfile.BLKTYPE),
        member("null", tarfile.CHRTYPE),
        member("notes", tarfile.SYMTYPE),
        member("inner.zip"),
        member("notes.txt"),
    ]
    path = write_tar(tmp_path / "evil.tar", members, next(folder.glob("*.cif")))
    found = run(path, tmp_path / "o.parquet", max_rejected=1.0)
    kinds = reasons(found)
    assert kinds["../evil.cif"] == "unsafe member: its path leaves the archive"
    assert kinds["/etc/evil.cif"] == "unsafe member: an absolute path"
    assert kinds["a/../../evil.txt"] == "unsafe member: its path leaves the archive"
    for name in ("link.cif", "hard.cif", "pipe.cif", "disk.cif", "null", "notes"):
        assert kinds[name] == "unsafe member: a link or device, not a file"
    assert kinds["inner.zip"].startswith("nested archive: not opened")
    assert found.source.n_used == 1
    assert found.notes == ["1 other file passed over: notes.txt"]
    assert not (tmp_path.parent / "evil.cif").exists()


def test_zip_that_reaches_out_of_itself(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../evil.cif", "/etc/evil.cif", "C:\\evil.cif", "..\\evil.cif"):
            archive.writestr(name, "data_x")
        link = zipfile.ZipInfo("link.cif")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.write(next(folder.glob("*.cif")), "good.cif")
    found = run(path, tmp_path / "o.parquet", max_rejected=1.0)
    assert sorted(set(found.rejected["reason"])) == [
        "unsafe member: a link or device, not a file",
        "unsafe member: an absolute path",
        "unsafe member: its path leaves the archive",
    ]
    assert len(found.rejected) == 5
    assert found.source.n_used == 1


def test_zip_bomb_is_one_row(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.cif", b"0" * BOMB)
        archive.write(next(folder.glob("*.cif")), "good.cif")
    found = run(path, tmp_path / "o.parquet", max_rejected=1.0)
    assert "give over 200 times as many (a zip bomb?)" in reasons(found)["bomb.cif"]
    assert found.source.n_used == 1


def test_zip_whose_header_lies(tmp_path: Path, folder: Path) -> None:
    """A member says that it is small; only so much is read, and its checksum is then wrong."""
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.cif", b"0" * BOMB)
        archive.write(next(folder.glob("*.cif")), "good.cif")
    size, small = BOMB.to_bytes(4, "little"), (1000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, small))
    tracemalloc.start()
    found = run(path, tmp_path / "o.parquet", max_rejected=1.0)
    assert tracemalloc.get_traced_memory()[1] < MODEST
    tracemalloc.stop()
    assert reasons(found)["bomb"].startswith("unreadable file: Bad CRC-32")
    assert found.source.n_used == 1


def test_zip_of_many_modest_members_that_share_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "shared.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(40):
            archive.writestr(f"{number}.cif", b"0" * (1 << 20))
    with pytest.raises(DataError, match=r"expands too far: .* bytes give over 200 times as many"):
        run(path, tmp_path / "o.parquet")


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_tar_bomb_ends_before_it_fills_the_memory(tmp_path: Path, mode: str) -> None:
    path = tmp_path / f"bomb.tar.{mode}"
    with tarfile.open(path, f"w:{mode}") as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("bomb.cif")
        info.size = BOMB
        archive.addfile(info, io.BytesIO(b"0" * BOMB))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"expands too far: .* if it is sound, unpack it"):
        run(path, tmp_path / "o.parquet")
    assert tracemalloc.get_traced_memory()[1] < MODEST
    tracemalloc.stop()


@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]
)
@pytest.mark.parametrize("opened", [open, lzma.open])
def test_tar_whose_long_name_is_the_bomb(
    tmp_path: Path, kind: bytes, opened: Callable[..., Any]
) -> None:
    """tarfile reads long names and extended headers whole, as long as they say they are."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, BOMB
    path = tmp_path / ("name.tar" if opened is open else "name.tar.xz")
    with opened(path, "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + b"a" * BOMB)
    tracemalloc.start()
    with pytest.raises(DataError, match="expands too far: the header of a member has 67,108,864"):
        run(path, tmp_path / "o.parquet")
    assert tracemalloc.get_traced_memory()[1] < MODEST
    tracemalloc.stop()


def test_tar_with_long_names_and_further_facts(tmp_path: Path, folder: Path) -> None:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form) as archive:
            archive.add(next(folder.glob("*.cif")), "deep/" * 60 + "Ä.cif")
        found = run(path, tmp_path / f"{form}.parquet", ids="path")
        assert found.source.n_used == 1


def test_sparse_member_is_not_expanded(tmp_path: Path) -> None:
    info = tarfile.TarInfo("hole.cif")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (1 << 32)  # its real size: 4 GiB of holes
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "hole.tar").write_bytes(bytes(header) + b"\0" * 1024)
    with pytest.raises(DataError, match=r"unsafe member \(1\)"):
        run(tmp_path / "hole.tar", tmp_path / "o.parquet")


def test_gzip_bomb_in_a_folder(tmp_path: Path, folder: Path) -> None:
    import gzip

    (folder / "id_prop.csv").unlink()
    (folder / "bomb.cif.gz").write_bytes(gzip.compress(b"0" * BOMB))
    found = run(folder, tmp_path / "o.parquet", max_rejected=0.5)
    assert reasons(found)["bomb"].startswith("expands too far")


def test_encrypted_zip(tmp_path: Path, folder: Path) -> None:
    path = pack(folder, "zip", root=False)
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 8] |= 1  # the flag of encryption, which the standard library cannot write
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"is encrypted; decrypt the archive first"):
        run(path, tmp_path / "o.parquet")


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_archive_that_is_cut_off(tmp_path: Path, folder: Path, ending: str) -> None:
    path = pack(folder, ending, root=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="not a readable archive"):
        run(path, tmp_path / "o.parquet")


def test_paths_that_stay_within() -> None:
    for path in ("a.cif", "a/b..c/x.cif", "a b/ü.cif"):
        assert archives.path_problem(path) == ""
