"""The Materials Project's own interface: `mp-api` against a server of its kind, and the key."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from optimade_database import Database, served, structure

from raymat.errors import ConfigError, DataError
from raymat.sources.databases.columns import choose_columns
from raymat.sources.databases.materials_project import (
    _quietly,
    find_key,
    open_materials_project,
)

KEY = "0123456789abcdef0123456789ABCDEF"
WRONG = KEY[::-1]
needs_mp_api = pytest.mark.skipif(
    importlib.util.find_spec("mp_api") is None,
    reason="mp-api is not installed; pip install 'raymat[mp]'",
)


@pytest.fixture(autouse=True)
def _nobodys_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key of the person who runs the tests is read."""
    for name in ("MP_API_KEY", "PMG_MAPI_KEY", "MP_API_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_key_is_found_where_others_look_for_it(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"no key of the Materials Project in MP_API_KEY, PMG_MA"):
        find_key()
    (tmp_path / ".pmgrc.yaml").write_text(f"PMG_MAPI_KEY: {KEY}\n")
    assert find_key() == KEY
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config" / ".pmgrc.yaml").write_text(f"PMG_MAPI_KEY: {WRONG}\n")
    assert find_key() == WRONG
    monkeypatch.setenv("PMG_MAPI_KEY", KEY)
    assert find_key() == KEY
    monkeypatch.setenv("MP_API_KEY", WRONG)
    assert find_key() == WRONG


@pytest.mark.parametrize("text", ["[", "- a", "PMG_MAPI_KEY:", "\x00"])
def test_a_broken_config_file_holds_no_key(tmp_path, text):
    (tmp_path / ".pmgrc.yaml").write_text(text)
    with pytest.raises(ConfigError, match="no key of the Materials Project"):
        find_key()


def test_what_is_no_key_is_not_repeated(monkeypatch):
    monkeypatch.setenv("MP_API_KEY", "my-secret-word")
    with pytest.raises(ConfigError, match=r"MP_API_KEY: holds no key .*14 characters") as error:
        find_key()
    assert "secret" not in str(error.value)


def test_without_mp_api_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("MP_API_KEY", KEY)
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    columns = choose_columns(["K_VRH"], "mp", None)
    with (
        pytest.raises(ConfigError, match=r"K_VRH: not in OPTIMADE; it needs mp-api: pip install"),
        open_materials_project(columns),
    ):
        pass


class Summary(BaseHTTPRequestHandler):
    """Answers as the Materials Project's interface does, with moduli made from the ids."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.rstrip("/") == "/heartbeat":
            version = {"version": "0.87.0", "db_version": "2025.01.01"}
            self.answer(200, version | {"access_controlled_batch_ids": []})
        elif self.headers.get("x-api-key") != KEY:
            self.answer(401, {"message": "Invalid authentication credentials"})
        else:
            asked = parse_qs(url.query)
            ids = asked["material_ids"][0].split(",")
            found = [summary(name) for name in ids if int(name[3:]) % 10]
            self.answer(200, {"data": found, "meta": {"total_doc": len(found)}})

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def summary(name: str) -> dict[str, object]:
    number = int(name[3:])
    moduli = {"voigt": 101.0 + number, "reuss": 99.0 + number, "vrh": 100.0 + number}
    return {"material_id": name, "bulk_modulus": moduli, "efermi": 0.5 * number}


@pytest.fixture(scope="module")
def interface() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Summary) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = [structure(i, id=f"mp-{i}") for i in range(1, 31)]
    with served(tmp_path_factory.mktemp("mp"), made, prefix="mp") as database:
        yield database


def run(database: Database, out: Path) -> subprocess.CompletedProcess[str]:
    # A process of its own: mp-api reads its settings when it is imported.
    code = "from raymat.cli.main import main; main()"
    names = "K_VRH,log10_K_VRH,K_Voigt,efermi"
    asked = ["--properties", names, "--page-size", "20", "--patience", "1"]
    return subprocess.run(
        [sys.executable, "-c", code, "data", "fetch", database.base_url, *asked, "-o", str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )


@pytest.mark.long  # mp-api takes seconds to import
@needs_mp_api
def test_moduli_come_by_the_ids_of_each_page(tmp_path, database, interface, monkeypatch):
    monkeypatch.setenv("MP_API_ENDPOINT", interface)
    monkeypatch.setenv("MP_API_KEY", KEY)
    out = tmp_path / "made.parquet"
    ended = run(database, out)
    assert ended.returncode == 0, ended.stderr
    assert "K_VRH: 27 of 30 have it (GPa; DFT, GGA; average of Voigt and Reuss" in ended.stdout
    table = pq.read_table(out).to_pandas().set_index("material_id")
    assert table.loc["mp-7", ["K_VRH", "K_Voigt", "efermi"]].tolist() == [107.0, 108.0, 3.5]
    assert table.loc["mp-20"].isna()["K_VRH"]
    assert 10 ** table.loc["mp-7", "log10_K_VRH"] == pytest.approx(107.0, rel=1e-14)
    assert KEY not in ended.stdout + ended.stderr
    assert KEY.encode() not in out.read_bytes()


@pytest.mark.long  # mp-api takes seconds to import
@needs_mp_api
def test_a_wrong_key_is_refused_and_not_shown(tmp_path, database, interface, monkeypatch):
    monkeypatch.setenv("MP_API_ENDPOINT", interface)
    monkeypatch.setenv("MP_API_KEY", WRONG)
    ended = run(database, tmp_path / "made.parquet")
    assert ended.returncode == 2
    assert "error: the Materials Project refuses the key;" in ended.stderr.splitlines()[-1]
    assert WRONG not in ended.stdout + ended.stderr
    assert not list(tmp_path.glob("made*"))


@pytest.mark.parametrize(
    ("said", "is_refusal"),
    [
        ("status code 401 on URL http://a.org/?ids=mp-1 with message:\nno", True),
        ("status code 403 on URL http://a.org", True),
        ("Invalid authentication credentials", True),
        ("HTTP 401", True),
        ("status code 500 on URL http://a.org/?ids=mp-401,mp-14031 with message:\n403", False),
        ("no answer for mp-401 and mp-1403", False),
        ("14013 documents", False),
    ],
)
def test_an_id_is_no_refused_key(said, is_refusal):
    expected = (ConfigError, "refuses the key") if is_refusal else (DataError, "interface failed: ")
    with pytest.raises(expected[0], match=expected[1]), _quietly(KEY):
        raise RuntimeError(said)
