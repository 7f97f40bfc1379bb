"""The house rules a machine can hold: importing does nothing, and nothing grows too long."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "raymat"

LONGEST_FILE = 500  # lines
LONGEST_FUNCTION = 60  # lines, docstring aside
MEDIAN_FUNCTION = 9
MOST_FUNCTIONS = 37  # nine in ten are shorter

# Imports every module and tells, as JSON, what raymat's own code did meanwhile. What numpy, torch
# or ray do when they are imported is theirs; what they would do for us is seen in threads, files.
WATCHER = """
import importlib, json, os, pkgutil, sys, threading

package = sys.argv[1]
told = []

def caller():
    # The code that asked: the first frame outside this watcher and the standard library's os.
    frame = sys._getframe(1)
    while frame and frame.f_code.co_filename in (__file__, os.__file__, '<frozen os>',
                                                 '<frozen _collections_abc>'):
        frame = frame.f_back
    return frame.f_code.co_filename if frame else ''

def watch_environment(name):
    original = getattr(os._Environ, name)
    def watched(self, key, *rest):
        if caller().startswith(package):
            told.append(f'environment: {key} in {caller()}')
        return original(self, key, *rest)
    setattr(os._Environ, name, watched)

def watch(event, args):
    is_write = event == 'open' and any(c in str(args[1] or '') for c in 'wax+')
    if is_write or event in ('os.mkdir', 'os.rename', 'os.remove', 'socket.connect',
                             'subprocess.Popen', 'os.system', 'os.fork'):
        told.append(f'{event}: {args[:1]}')

sys.dont_write_bytecode = True
import raymat
for name in ('__getitem__', '__setitem__', '__delitem__'):
    watch_environment(name)
sys.addaudithook(watch)
paths = list(raymat.__path__) if len(sys.argv) < 3 else sys.argv[2:]
names = [module.name for module in pkgutil.walk_packages(paths, 'raymat.')]
raymat.__path__[:] = paths
for name in names:
    importlib.import_module(name)
told += [f'thread: {thread.name}' for thread in threading.enumerate()[1:]]
json.dump({'modules': names, 'told': told}, sys.stdout)
"""


def watch_imports(tmp_path: Path, package: Path) -> dict:
    """Import every module of a package in another process and tell what it did."""
    script = tmp_path / "watcher.py"
    script.write_text(WATCHER, encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir()
    result = subprocess.run(
        [sys.executable, str(script), str(package), str(package)],
        capture_output=True,
        text=True,
        cwd=home,
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(PROJECT)},
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    told["left"] = sorted(str(path.relative_to(home)) for path in home.rglob("*"))
    return told


def test_importing_does_nothing(tmp_path):
    seen = watch_imports(tmp_path, PACKAGE)
    assert len(seen["modules"]) > 50
    assert "raymat.cluster.tune" in seen["modules"]
    assert "raymat.models.cgcnn" in seen["modules"]
    assert seen["told"] == []
    assert seen["left"] == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os\nHOME = os.environ['HOME']", "environment: HOME"),
        ("import os\nHOME = os.getenv('HOME', '')", "environment: HOME"),
        ("import os\nIS = 'RAY_ADDRESS' in os.environ", "environment: RAY_ADDRESS"),
        ("import os\nos.environ['RAY_X'] = '1'", "environment: RAY_X"),
        ("from pathlib import Path\nPath('runs').mkdir()", "os.mkdir"),
        ("open('log.txt', 'w').close()", "open"),
        ("import subprocess\nsubprocess.run(['true'])", "subprocess.Popen"),
        (
            "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True,"
            " name='idle').start()",
            "thread: idle",
        ),
    ],
)
def test_watcher_sees_what_an_import_does(tmp_path, code, told):
    """Environment, folders, files, processes and threads: the test above can fail."""
    package = tmp_path / "raymat"
    package.mkdir()
    (package / "guilty.py").write_text(code, encoding="utf-8")
    seen = watch_imports(tmp_path, package)
    assert seen["modules"] == ["raymat.guilty"]
    assert any(line.startswith(told) for line in seen["told"]), seen["told"]


@pytest.mark.parametrize("heavy", ["ray", "torch", "pandas", "pymatgen", "optuna", "sklearn"])
def test_asking_for_help_imports_nothing_heavy(heavy):
    code = (
        "import sys, contextlib, io, raymat.cli.main as cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    sys.argv = ['raymat', '--help']\n"
        "    cli.main()\n"
        f"sys.exit({heavy!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def functions() -> Iterator[tuple[str, int]]:
    """Give every function's name and length in lines, its docstring aside."""
    for path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(PACKAGE)}:{node.name}", length(node)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= node.body[0].end_lineno - node.body[0].lineno + 1
    return lines


def test_no_file_is_too_long():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert {str(p): n for p, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_function_is_too_long():
    assert [(name, n) for name, n in functions() if n > LONGEST_FUNCTION] == []


def test_functions_are_short_as_a_rule():
    lengths = [n for _, n in functions()]
    assert median(lengths) <= MEDIAN_FUNCTION
    assert quantiles(lengths, n=10)[-1] < MOST_FUNCTIONS


def test_length_leaves_the_docstring_out():
    tree = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n')
    assert length(tree.body[0]) == 2
