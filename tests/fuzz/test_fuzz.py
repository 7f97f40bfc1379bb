"""Malformed inputs of every command: one line that helps, never a traceback, never a hang.

`RAYMAT_FUZZ_SEED` and `RAYMAT_FUZZ_CASES` look for more.
"""

import contextlib
import faulthandler
import io
import os
import random
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from inputs import KINDS, damaged_input, make_material, odd_options

from raymat.cli.main import run

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore")]

SEED = int(os.environ.get("RAYMAT_FUZZ_SEED", "0"))
CASES = int(os.environ.get("RAYMAT_FUZZ_CASES", "300"))
LONGEST_S = 20
OF_OPTIONS = 0.2  # share of the cases


class HangError(BaseException):
    """A command that takes longer than a person would wait for a refusal."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))


def _stop(_signal: int, _frame: object) -> None:
    raise HangError


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    # A call that no signal ends, such as a library's opening of a pipe: say where, and end.
    faulthandler.dump_traceback_later(2 * LONGEST_S, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def problem_of(words: list[str]) -> str | None:
    """Run a command line; give what is wrong with how it ended."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            _alarm(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            code = run(words)
    except HangError:
        return f"took more than {LONGEST_S} s"
    except BaseException as error:  # noqa: BLE001  none may leave the command line
        return f"raised {type(error).__name__}: {error}"
    text = err.getvalue()
    errors = [line for line in text.split("\n") if line.startswith("error: ")]
    if "Traceback" in text + out.getvalue():
        return f"a traceback: {text[-500:]}"
    if "internal error" in text:
        return text.strip()[-500:]
    if code not in (0, 1, 2):
        return f"exit code {code}: {text[-500:]}"
    if code != 0 and len(errors) != 1 and "Usage" not in out.getvalue():
        return f"{len(errors)} error lines with exit code {code}: {text[-500:]}"
    if code == 0 and errors:
        return f"an error with exit code 0: {errors[0]}"
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        sys.modules["ray"].shutdown()
        return "Ray was started"
    return None


@pytest.mark.parametrize("number", range(CASES))
def test_malformed_input(number: int, material: Path, tmp_path: Path) -> None:
    rng = random.Random(f"{SEED}-{number}")
    if rng.random() < OF_OPTIONS:
        name, words = odd_options(material, rng)
    else:
        name, words = damaged_input(KINDS[number % len(KINDS)], material, tmp_path, rng)
    problem = problem_of(words)
    shown = " ".join(word if len(word) < 200 else f"{word[:200]}..." for word in words)
    assert problem is None, f"{name}: raymat {shown!r}: {problem}"
