"""A database to fetch from: made structures, served by the reference server on loopback."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVED = Path(__file__).with_name("served.py")
ELEMENTS = ("Li", "Na", "K", "Rb", "Cs")
ANIONS = ("F", "Cl", "Br", "I")
FIELDS = [
    {"name": "delta_e", "type": "float", "unit": "eV/atom", "description": "formation energy"},
    {"name": "stability", "type": "float", "unit": "eV/atom", "description": "hull distance"},
    {"name": "band_gap", "type": "float", "unit": "eV", "description": "gap"},
    {"name": "prototype", "type": "string", "description": "prototype"},
    {"name": "volume", "type": "float", "unit": "angstrom^3", "description": "of the cell"},
    {"name": "entry_id", "type": "integer", "description": "number"},
    {"name": "tags", "type": "list", "description": "words"},
    {"name": "energy", "type": "float", "unit": "eV", "description": "of the cell"},
]


def structure(number: int, **changes: Any) -> dict[str, Any]:
    """Make a rock-salt or caesium-chloride cell; every number gives another lattice constant."""
    cation, anion = ELEMENTS[number % 5], ANIONS[number // 5 % 4]
    a = 4.0 + 1e-4 * number
    made = {
        "id": f"made-{number:05d}",
        "type": "structures",
        "last_modified": "2024-01-01T00:00:00Z",
        "elements": sorted([cation, anion]),
        "nelements": 2,
        "elements_ratios": [0.5, 0.5],
        "chemical_formula_descriptive": f"{cation}{anion}",
        "chemical_formula_reduced": "".join(sorted([cation, anion])),
        "chemical_formula_anonymous": "AB",
        "chemical_formula_hill": None,
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "lattice_vectors": [[a, 0.0, 0.0], [0.0, a, 0.0], [0.0, 0.0, a]],
        "cartesian_site_positions": [[0.0, 0.0, 0.0], [a / 2, a / 2, a / 2]],
        "nsites": 2,
        "species_at_sites": [cation, anion],
        "species": [whole(cation), whole(anion)],
        "structure_features": [],
        "delta_e": -2.0 - 1e-3 * number,
        "stability": 0.001 * (number % 7),
        "band_gap": None if number % 10 == 0 else 5.0 + 1e-3 * number,
        "prototype": "CsCl",
        "volume": a**3,
        "entry_id": number,
        "tags": ["made", number % 3],
        "energy": -7.0 - 2e-3 * number,
    }
    return made | changes


def whole(symbol: str) -> dict[str, Any]:
    """Make a species of one whole atom."""
    return {"name": symbol, "chemical_symbols": [symbol], "concentration": [1.0]}


def shared(*symbols: str) -> dict[str, Any]:
    """Make a species of several elements on one site."""
    share = [1.0 / len(symbols)] * len(symbols)
    return {"name": symbols[0], "chemical_symbols": list(symbols), "concentration": share}


@dataclass
class Database:
    """A running server."""

    base_url: str
    folder: Path

    def requests(self) -> list[str]:
        """Give path and query of every request so far."""
        log = self.folder / "requests.log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def page_requests(self) -> list[str]:
        """Give the requests for pages of structures."""
        return [line for line in self.requests() if line.startswith("/v1/structures")]

    def misbehave(self, **faults: str) -> None:
        """Say what happens to the next requests for pages: ``n1="429"``, ``always="loop"``."""
        _write_faults(self.folder, {key.removeprefix("n"): fault for key, fault in faults.items()})


def _write_faults(folder: Path, faults: dict[str, str]) -> None:
    told = faults | {"since": str(time.monotonic_ns())}
    (folder / "faults.new").write_text(json.dumps(told), encoding="utf-8")
    (folder / "faults.new").replace(folder / "faults.json")


@contextmanager
def served(
    folder: Path, structures: list[dict[str, Any]], *, prefix: str = "oqmd", licence: str = ""
) -> Iterator[Database]:
    """Serve structures while the block lasts."""
    folder.mkdir(exist_ok=True)
    _write_faults(folder, {})
    (folder / "structures.json").write_text(json.dumps(structures), encoding="utf-8")
    provider = {"prefix": prefix, "name": "Made", "description": "made in a test"}
    settings = {
        "config": {
            "insert_test_data": False,
            "database_backend": "mongomock",
            "log_dir": str(folder),
            "log_level": "error",
            "provider": provider,
            "provider_fields": {"structures": FIELDS},
            "validate_api_response": False,  # as large databases do; some entries are no good
        },
        "structures": str(folder / "structures.json"),
        "ready": str(folder / "port"),
        "log": str(folder / "requests.log"),
        "faults": str(folder / "faults.json"),
        "licence": licence,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "server.err").open("wb") as words:
        process = subprocess.Popen(
            [sys.executable, str(SERVED), str(folder / "settings.json")],
            stdout=subprocess.DEVNULL,
            stderr=words,
            cwd=folder,
            env={k: value for k, value in os.environ.items() if not k.startswith("OPTIMADE_")},
        )
    try:
        port = _wait_for(folder / "port", process, folder / "server.err")
        yield Database(f"http://127.0.0.1:{port}", folder)
    finally:
        process.kill()
        process.wait()


def _wait_for(ready: Path, process: subprocess.Popen[bytes], errors: Path) -> str:
    for _ in range(600):
        if ready.exists():
            return ready.read_text(encoding="utf-8")
        assert process.poll() is None, errors.read_text(encoding="utf-8")[-2000:]
        time.sleep(0.05)
    raise AssertionError("the server did not start")
