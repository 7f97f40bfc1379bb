"""Fetching from the reference server, and from one that has bad days."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from optimade_database import Database, served, shared, structure, whole

from raymat.data.readers import load_crystals
from raymat.errors import ConfigError, DataError, RunError
from raymat.sources.databases.answers import UnreachableError
from raymat.sources.databases.fetching import FetchRequest, fetch
from raymat.sources.databases.join import Joined, read_provenance
from raymat.sources.databases.polite_requests import Manners
from raymat.sources.databases.providers import find_provider
from raymat.sources.databases.state import open_state
from raymat.sources.partial_folder import partial_folder

N = 60
QUICK = Manners(requests_per_second=1000.0, patience_s=30.0)


GOOD = '_oqmd_prototype="CsCl"'


def bad_entries() -> list[dict[str, Any]]:
    """Entries that a server may well have, and that are no crystals for a model."""
    disordered = [shared("Li", "Na"), whole("Cl")]
    vacant = [shared("Na", "vacancy"), whole("Cl")]
    line = [[0.05 * i, 0.0, 0.0] for i in range(600)]
    huge = {"cartesian_site_positions": line, "species_at_sites": ["K"] * 600, "nsites": 600}
    made = [
        structure(900, species=disordered, species_at_sites=["Li", "Cl"]),
        structure(901, species=vacant, species_at_sites=["Na", "Cl"]),
        structure(902, species=[whole("K")], **huge),
        structure(903, cartesian_site_positions=[[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]]),
    ]
    flat = [structure(910 + i, nperiodic_dimensions=2, prototype="flat") for i in range(3)]
    return [m | {"prototype": "bad"} for m in made] + flat


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One server for all tests of this file."""
    made = [structure(i) for i in range(N)] + bad_entries()
    with served(tmp_path_factory.mktemp("database"), made, licence="CC-BY-4.0") as database:
        yield database


@pytest.fixture
def database(server: Database) -> Iterator[Database]:
    """The server, well-behaved again after each test."""
    yield server
    server.misbehave()


def fetch_from(
    database: Database, out: Path, *, manners: Manners = QUICK, listen: Any = None, **asked: Any
) -> Joined:
    asked = {"filter": GOOD, "page_size": 20} | asked
    request = FetchRequest(find_provider(database.base_url), **asked)
    rejected = out.with_name(f"{out.stem}-rejected.csv")
    return fetch(
        request,
        out,
        rejected_file=rejected,
        manners=manners,
        listen=listen or (lambda _event: None),
    )


def test_structures_and_properties_arrive_exactly(tmp_path, database):
    out = tmp_path / "made.parquet"
    before = len(database.page_requests())
    names = ("formation_energy_per_atom", "e_above_hull", "band_gap", "_oqmd_volume")
    joined = fetch_from(database, out, properties=(*names, "_oqmd_prototype", "_oqmd_tags"))
    assert len(database.page_requests()) - before == 3
    assert (joined.n_rows, joined.n_entries, len(joined.rejected)) == (N, N, 0)
    crystals = load_crystals(str(out), target="formation_energy_per_atom").crystals
    made = [structure(i) for i in range(N)]
    assert crystals.material_ids.tolist() == [m["id"] for m in made]
    np.testing.assert_array_equal(crystals.lattices, [m["lattice_vectors"] for m in made])
    np.testing.assert_allclose(crystals.frac_coords[1::2], 0.5, atol=1e-14)
    values = crystals.properties
    assert values["formation_energy_per_atom"].tolist() == [m["delta_e"] for m in made]
    assert values["band_gap"].isna().sum() == joined.n_rows - joined.filled["band_gap"] == 6
    assert values["_oqmd_volume"].tolist() == [m["volume"] for m in made]
    assert values["_oqmd_prototype"].tolist() == ["CsCl"] * N
    assert [json.loads(v) for v in values["_oqmd_tags"]] == [m["tags"] for m in made]
    assert not partial_folder(out).exists()


def test_the_file_says_where_it_came_from(tmp_path, database):
    out = tmp_path / "made.parquet"
    query = 'elements HAS "Li" AND _oqmd_band_gap > 5.01 AND _oqmd_entry_id < 60'
    fetch_from(database, out, filter=query, properties=("band_gap", "_oqmd_volume"))
    found = read_provenance(out)
    assert found is not None
    assert (found["provider"], found["base_url"]) == ("oqmd", database.base_url)
    assert (found["filter"], found["licence"]) == (query, "CC-BY-4.0")
    assert (found["n_pages"], found["api_version"][:2]) == (1, "1.")
    assert found["fetched_from"] <= found["fetched_until"]
    assert len(found["sha256"]) == len(found["page_sha256"][0]) == 64
    fields = {f.name: f.metadata for f in pq.read_schema(out)}
    assert fields["band_gap"][b"unit"] == b"eV"
    assert fields["band_gap"][b"field"] == b"_oqmd_band_gap"
    assert b"PBE" in fields["band_gap"][b"method"]
    assert fields["_oqmd_volume"][b"unit"] == b"angstrom^3"
    again = tmp_path / "again.parquet"
    fetch_from(database, again, filter=query, properties=("band_gap", "_oqmd_volume"))
    assert read_provenance(again)["sha256"] == found["sha256"]  # the same answer, the same hash


def test_at_most_so_many(tmp_path, database):
    joined = fetch_from(database, tmp_path / "few.parquet", max_entries=30)
    assert joined.n_rows == joined.n_entries == 30
    assert joined.provenance["max_entries"] == 30


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"filter": "nelements=7"}, "no entry matches the filter 'nelements=7'"),
        ({"filter": "nelements=="}, "is no OPTIMADE filter .at character 11"),
        ({"filter": "elements HAS"}, "is no OPTIMADE filter .it ends too early"),
        ({"filter": "_oqmd_nonsense=1"}, "400 Bad Request: '_oqmd_nonsense' is not a known"),
        ({"properties": ("_oqmd_bandgap",)}, "does not know this field; did you mean"),
    ],
)
def test_what_cannot_be_asked(tmp_path, database, asked, words):
    with pytest.raises((ConfigError, DataError), match=words) as error:
        fetch_from(database, tmp_path / "x.parquet", **asked)
    assert "\n" not in " ".join(str(error.value).split("\n"))
    assert list(tmp_path.iterdir()) == []


def test_bad_days_cost_time_and_nothing_else(tmp_path, database):
    """429 with Retry-After, 503, a dropped line and a proxy's page: each page once, all there."""
    database.misbehave(n1="429", n3="503", n5="drop", n7="html")
    waits: list[str] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "fetch_waits":
            waits.append(event["line"])

    before = len(database.page_requests())
    joined = fetch_from(database, tmp_path / "made.parquet", page_size=15, listen=listen)
    assert len(database.page_requests()) - before == 4 + 4
    assert joined.n_rows == N
    assert waits[0].startswith("the server says 429 Too Many Requests; asking again in")
    assert waits[1].startswith("the server says 503 Service Unavailable; asking again in")
    assert waits[2].startswith("the line dropped in the middle of an answer; asking again in")
    assert waits[3].startswith("the answer is no JSON (begins '<html>")


def test_entries_that_are_no_crystals_are_listed(tmp_path, database):
    database.misbehave(n1="spoil")
    both = f'{GOOD} OR _oqmd_prototype="bad"'
    joined = fetch_from(database, tmp_path / "made.parquet", filter=both)
    rejected = pd.read_csv(tmp_path / "made-rejected.csv")
    assert (joined.n_entries, joined.n_rows, len(rejected)) == (N + 4, N - 8, 12)
    kinds = [reason.split(": ")[0] for reason in rejected["reason"]]
    assert kinds == [
        *["malformed entry"] * 4,
        "not finite",
        "structure is missing",
        *["malformed entry"] * 2,
        "partial occupancy",
        "vacancies",
        "cell too large",
        "atoms closer than 0.5 Å",
    ]
    assert rejected["material_id"][3] == "page-1-entry-4"


def test_an_id_of_an_earlier_page_is_taken_once(tmp_path, database):
    database.misbehave(n3="again")
    out = tmp_path / "made.parquet"
    joined = fetch_from(database, out, properties=("band_gap",))
    assert (joined.n_rows, joined.filled["band_gap"]) == (N - 1, N - 6)
    assert joined.rejected.to_numpy().tolist() == [
        ["made-00003", "duplicate id: an earlier entry has this id"]
    ]
    assert pq.read_table(out)["band_gap"][3].as_py() == structure(3)["band_gap"]


def test_nothing_usable_is_told(tmp_path, database):
    out = tmp_path / "made.parquet"
    with pytest.raises(DataError, match="none of the 3 entries is a usable crystal: not a crys"):
        fetch_from(database, out, filter='_oqmd_prototype="flat"')
    assert not out.exists()
    assert len(pd.read_csv(tmp_path / "made-rejected.csv")) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [("loop", "leads back"), ("elsewhere", r"leads elsewhere \(database.invalid\)")],
)
def test_links_that_lead_nowhere(tmp_path, database, fault, words):
    database.misbehave(always=fault)
    with pytest.raises(DataError, match=words):
        fetch_from(database, tmp_path / "made.parquet")


def test_a_server_that_goes_away_leaves_its_pages(tmp_path, database):
    """Two pages come, then nothing; once the server is back, only the third is asked for."""
    out = tmp_path / "made.parquet"
    database.misbehave(n3="503")
    with pytest.raises(UnreachableError, match=r"503 .*\(asked once within --patience 0 s\)"):
        fetch_from(database, out, manners=Manners(1000.0, 0.0))
    assert len(list(partial_folder(out).glob("page-*.json"))) == 2
    with pytest.raises(DataError, match=r"parts of another command \(filter was '_oqmd"):
        fetch_from(database, out, filter="nelements=2")
    before = len(database.page_requests())
    joined = fetch_from(database, out)
    assert joined.n_rows == N
    assert len(database.page_requests()) - before == 1
    assert not partial_folder(out).exists()


def test_a_damaged_page_is_fetched_again(tmp_path, database):
    out = tmp_path / "made.parquet"

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "page_fetched" and event["pages"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_from(database, out, listen=stop)
    page = partial_folder(out) / "page-000002.parquet"
    page.write_bytes(page.read_bytes()[:-10])
    before = len(database.page_requests())
    assert fetch_from(database, out).n_rows == N
    assert len(database.page_requests()) - before == 2


def test_two_processes_do_not_share_a_folder(tmp_path, database):
    out = tmp_path / "made.parquet"
    with open_state(out, {"filter": ""}):
        with pytest.raises(RunError, match="another process is at work in this folder"):
            fetch_from(database, out)
        assert partial_folder(out).exists()
    assert not partial_folder(out).exists()


def test_a_file_that_another_process_finished_meanwhile_is_not_replaced(tmp_path, database):
    out = tmp_path / "made.parquet"
    out.write_bytes(b"theirs")
    with pytest.raises(DataError, match=r"made\.parquet: exists already; choose another place"):
        fetch_from(database, out)
    assert out.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [out]


def test_no_optimade_server(tmp_path, database):
    request = FetchRequest(find_provider(f"{database.base_url}/nonsense"))
    with pytest.raises(DataError, match=r"404 Not Found.*is .*/nonsense an OPTIMADE base URL"):
        fetch(request, tmp_path / "x.parquet", rejected_file=tmp_path / "r.csv", manners=QUICK)


def test_a_server_that_asks_for_more_time_than_we_have(tmp_path, database):
    database.misbehave(always="busy")
    with pytest.raises(UnreachableError, match=r"429 .*; it asks to wait 3600 s \(asked once"):
        fetch_from(database, tmp_path / "made.parquet")


def test_half_characters_and_codes_of_a_server_do_no_harm(tmp_path, database):
    database.misbehave(n1="odd")
    out = tmp_path / "made.parquet"
    joined = fetch_from(database, out, properties=("_oqmd_prototype",), max_entries=3)
    assert joined.n_rows == 3
    table = pq.read_table(out)
    assert table["material_id"].to_pylist()[0] == "id-?"
    assert table["_oqmd_prototype"].to_pylist()[0] == "?\x1b[31m"
    database.misbehave(n1="shout")
    with pytest.raises(ConfigError, match=r"400 Bad Request: \[31mno; two lines \(filter") as error:
        fetch_from(database, tmp_path / "x.parquet")
    assert str(error.value).isprintable()


def test_an_empty_page_in_the_middle_is_asked_for_again(tmp_path, database):
    out = tmp_path / "made.parquet"
    database.misbehave(n2="empty")
    with pytest.raises(DataError, match=f"an empty page after 20 of {N} entries"):
        fetch_from(database, out)
    assert not out.exists()
    assert fetch_from(database, out).n_rows == N


def test_nobody_answers(tmp_path):
    request = FetchRequest(find_provider("http://127.0.0.1:9"))
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9: the server cannot be reached"):
        fetch(
            request,
            tmp_path / "x.parquet",
            rejected_file=tmp_path / "r.csv",
            manners=Manners(1000.0, 0.0),
        )


def test_the_rate_is_kept(tmp_path, database):
    start = time.monotonic()
    fetch_from(database, tmp_path / "x.parquet", manners=Manners(5.0, 10.0))
    assert time.monotonic() - start >= 4 / 5.0  # five requests: two for the server, three pages
