"""The order of the rooms: a module imports only from rooms below its own.

Moving a wall means changing ORDER here, on purpose, in the same commit.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raymat"

# From the bottom up; the rooms of one line stand side by side and do not import each other.
ORDER: tuple[tuple[str, ...], ...] = (
    ("text",),
    ("errors",),
    ("reading",),
    ("config", "properties", "shipped"),
    ("tracking",),
    ("data",),
    ("features", "sources"),
    ("models",),
    ("training",),
    ("ensembles", "tuning"),
    ("screening", "explain"),
    ("reports", "cluster"),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

# The only places that may import a package; a place is a room or one module.
HOMES = {
    "ray": ("cluster",),
    "optuna": ("cluster", "reports.page"),
    "wandb": ("tracking.wandb",),
    "wandb_workspaces": ("tracking.wandb_report",),
    "pymatgen": ("data", "features", "sources"),
    "pint": ("data",),
    "optimade": ("sources",),
    "mp_api": ("sources",),
    "torch": ("features", "models", "training", "explain"),
    "rich": ("cli",),
    "typer": ("cli",),
    "matplotlib": ("reports",),
    "altair": ("reports.page",),
    "vl_convert": ("reports.page",),
    "jinja2": ("reports.page",),
    "duckdb": ("screening.ranking",),
}


@dataclass(frozen=True)
class Import:
    """One import: the module it stands in, the line, and what is imported."""

    module: str  # such as "training.fit"; "" for the package itself
    line: int
    name: str  # such as "raymat.models.cgcnn" or "torch.nn"


def imports(package: Path) -> Iterator[Import]:
    """Give every import of a package, also those inside functions and under TYPE_CHECKING."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _names(node, parts):
                yield Import(module, node.lineno, name)


def _names(node: ast.AST, parts: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:  # relative: from the package `level` steps up
            above = ("raymat", *parts)[: len(parts) + 1 - node.level]
            base = ".".join([*above, *([base] if base else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    is_call = isinstance(node, ast.Call) and node.args
    if is_call and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
        return _constant_name(node.args[0])
    return []


def _constant_name(argument: ast.expr) -> list[str]:
    """Give the name that import_module is called with, or the constant start of an f-string."""
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value.rstrip(".")]
    return []


def room_of(module: str) -> str:
    return module.split(".")[0]


def violations(package: Path) -> list[str]:
    """Give one line for every import that the order does not allow."""
    return [
        f"raymat.{found.module}:{found.line} imports {found.name}: {reason}"
        for found in imports(package)
        if (reason := _reason(found))
    ]


def _reason(found: Import) -> str:
    if found.name.split(".")[0] != "raymat":
        return _wrong_home(found)
    own, other = room_of(found.module), room_of(found.name.removeprefix("raymat").lstrip("."))
    if own == other or other in {"", "__version__"}:  # the package itself holds the version only
        return ""
    if own == "":
        return "the package itself imports nothing"
    unknown = [room for room in (own, other) if room not in LEVEL]
    if unknown:
        return f"'{unknown[0]}' is in no line of ORDER"
    if LEVEL[other] < LEVEL[own]:
        return ""
    return f"'{other}' stands {'beside' if LEVEL[other] == LEVEL[own] else 'above'} '{own}'"


def _wrong_home(found: Import) -> str:
    homes = HOMES.get(found.name.split(".")[0])
    if homes is None or any(f"{found.module}.".startswith(f"{home}.") for home in homes):
        return ""
    return f"its home is {' and '.join(homes)}"


def prints(package: Path) -> list[str]:
    """Give every call of print outside cli."""
    return [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).parts[0] != "cli"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "print"
    ]


def test_imports_point_down():
    assert violations(PACKAGE) == []


def test_only_the_command_line_prints():
    assert prints(PACKAGE) == []


def test_every_room_stands_in_the_order():
    rooms = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith((".", "_"))}
    rooms -= {"search_spaces", "criteria"}  # YAML files that travel with the package
    assert rooms <= set(LEVEL)


# The checker itself: each of these must be found in a small package.
BROKEN = {
    "models/a.py": ("from raymat.training.fit import Fit", "'training' stands above 'models'"),
    "data/a.py": ("import raymat.features.graph", "'features' stands above 'data'"),
    "tuning/a.py": ("from raymat.ensembles import x", "'ensembles' stands beside 'tuning'"),
    "cluster/a.py": ("from raymat import reports", "'reports' stands beside 'cluster'"),
    "config.py": ("def f():\n    from raymat.data.crystals import Crystal", "'data' stands above"),
    "errors.py": ("from raymat.config import Config", "'config' stands above 'errors'"),
    "properties.py": ("from raymat.config import Config", "'config' stands beside"),
    "training/a.py": ("class A:\n    def f(self):\n        import ray", "its home is cluster"),
    "training/b.py": ("from ray import tune", "its home is cluster"),
    "cli/a.py": ("import torch.nn as nn", "its home is features and models"),
    "cluster/b.py": ("import torch", "its home is features and models"),
    "models/b.py": (
        "from pymatgen.core import Lattice",
        "its home is data and features and sources",
    ),
    "sources/a.py": ("from raymat.features import x", "'features' stands beside 'sources'"),
    "reports/a.py": ("import wandb", "its home is tracking.wandb"),
    "tracking/events.py": ("import wandb", "its home is tracking.wandb"),
    "tuning/b.py": ("import optuna", "its home is cluster"),
    "features/a.py": (
        "if TYPE_CHECKING:\n    from raymat.models import load_spec",
        "'models' stands above",
    ),
    "features/b.py": ("from ..models import load_spec", "'models' stands above 'features'"),
    "features/c.py": ("import_module('raymat.training.fit')", "'training' stands above"),
    "features/d.py": ("import_module(f'raymat.models.{name}')", "'models' stands above"),
    "__init__.py": ("from raymat.models import available", "the package itself imports nothing"),
    "training/utils2/a.py": ("import raymat.helpers", "'helpers' is in no line of ORDER"),
}
ALLOWED = {
    "models/a.py": "from raymat.features.graph import CrystalGraph\nimport torch",
    "models/b.py": "from raymat.models._spec import ModelSpec\nfrom . import _layers",
    "cli/a.py": "from raymat.cluster.tune import tune\nimport raymat.errors\nprint('x')",
    "cluster/a.py": "import ray\nfrom raymat.explain import x\nfrom raymat.tuning import y",
    "tracking/wandb.py": "import wandb\nfrom raymat.errors import RunError",
    "training/a.py": "from raymat import __version__\nimport numpy, json",
    "data/a.py": "def f():\n    from pymatgen.core import Structure",
    "tuning/rays.py": "import rayleigh",
}


def write(package: Path, name: str, text: str) -> None:
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", BROKEN)
def test_checker_finds(tmp_path, name):
    text, reason = BROKEN[name]
    write(tmp_path / "raymat", name, text)
    found = violations(tmp_path / "raymat")
    assert len(found) == 1
    assert reason in found[0]
    assert (
        f"raymat.{'.'.join(Path(name).with_suffix('').parts)}:".replace(".__init__:", ".:")
        in found[0]
    )


def test_checker_lets_the_rest_pass(tmp_path):
    for name, text in ALLOWED.items():
        write(tmp_path / "raymat", name, text)
    assert violations(tmp_path / "raymat") == []
    assert prints(tmp_path / "raymat") == []


def test_checker_finds_a_print(tmp_path):
    write(tmp_path / "raymat", "training/fit.py", "def f():\n    print('epoch')")
    assert prints(tmp_path / "raymat") == ["training/fit.py:2"]
