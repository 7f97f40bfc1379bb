import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer

from raymat.cli import main
from raymat.errors import (
    ClusterError,
    ConfigError,
    DataError,
    DivergedError,
    ModelFileError,
    RunError,
    UnknownElementError,
)

HEAVY = {"torch", "ray", "pandas", "numpy", "pymatgen", "pyarrow", "sklearn", "ase", "optuna"}


def run_python(code: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command `boom` that raises the exception put into the list."""
    errors: list[BaseException] = []
    app = typer.Typer()

    @app.command()
    def boom() -> None:
        raise errors[0]

    module = types.ModuleType("boom_module")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "boom_module", module)
    monkeypatch.setitem(main.COMMANDS, "boom", ("boom_module", "Raise."))
    return errors


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from raymat.cli.main import run; code = run(['--help']);"
        " print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = run_python(code)
    assert done.returncode == 0
    for name, (_, line) in main.COMMANDS.items():
        assert name in done.stdout
        assert line in done.stdout
    loaded = set(done.stderr.split())
    assert HEAVY & loaded == set()
    own = {m for m in loaded if m.startswith("raymat.cli.")}
    assert own == {f"raymat.cli.{name}" for name in ("main", "interrupting", "streams")}


@pytest.mark.parametrize("command", ["tune", "resume", "train", "predict"])
def test_help_of_a_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Example: raymat {command} " in text
    assert "--debug" in text


@pytest.mark.parametrize(
    ("command", "is_search"), [("tune", True), ("train", False), ("predict", False)]
)
def test_help_of_gpus_is_that_of_the_command(
    command: str, is_search: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    main.run([command, "--help"])
    assert ("for each trial" in capsys.readouterr().out) == is_search


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == "raymat 0.1.0\n"


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 0
    assert "Usage: raymat" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tnue"], "no command 'tnue'; did you mean 'tune'?"),
        (["tune", "--trials", "0"], "for '--trials': must be at least 1;"),
        (["tune", "--space", "cgcnn", "--split", "foo"], "'foo' is not one of 'random'"),
        (["tune"], "missing option '--space'"),
        (["resume"], "missing argument 'RUN'"),
        (["predict", "--modle", "x"], "no such option: --modle"),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert words in said
    assert "--help`" in said


class LateError(RunError):
    exit_code = 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("bad key"), 2),
        (DataError("bad\ndata"), 2),
        (UnknownElementError("Z=101", atomic_numbers=(101,)), 2),
        (ModelFileError("no model"), 2),
        (ClusterError("no cluster"), 2),
        (RunError("folder exists"), 2),
        (LateError("all trials failed"), 1),
        (DivergedError("loss nan", epoch=3), 1),
        (OSError(28, "No space left on device", "/full/file"), 1),
        (ZeroDivisionError("division by zero"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(
    raising: list[BaseException],
    error: BaseException,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    raising.append(error)
    assert main.run(["boom"]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Traceback" not in said


def test_what_the_line_says(
    raising: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    raising.append(OSError(28, "No space left on device", "/full/file"))
    main.run(["boom"])
    assert capsys.readouterr().err == "error: /full/file: No space left on device\n"
    raising[0] = KeyError("x")
    main.run(["boom"])
    said = capsys.readouterr().err
    assert said.startswith("internal error: KeyError: 'x' (run again with --debug")


def test_debug_shows_the_traceback(
    raising: list[BaseException],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raising.append(ConfigError("bad key"))
    monkeypatch.setattr(sys, "argv", ["raymat", "boom", "--debug"])
    with pytest.raises(SystemExit, match="2"):
        main.main()
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ConfigError: bad key" in said


def test_broken_pipe_is_silent(
    raising: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    raising.append(BrokenPipeError(32, "Broken pipe"))
    assert main.run(["boom"]) == 1
    assert capsys.readouterr().err == ""


def test_typo_in_a_space_fails_before_ray_is_imported(tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text(
        "model: cgcnn\nspace:\n  model.n_convs: {int: [1, 3]}\nbudget: {trials: 4, epochs: 5}\n"
    )
    code = (
        "import sys; from raymat.cli.main import run;"
        " code = run(['tune', '--space', 'typo.yaml', '--data', 'no.parquet']);"
        " print('loaded', *sys.modules); sys.exit(code)"
    )
    done = run_python(code, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: typo.yaml: space: 'model.n_convs' is not a field of CGCNNConfig;"
        " did you mean 'model.n_conv'?\n"
    )
    assert {"ray", "pymatgen", "sklearn", "optuna"} & set(done.stdout.split()) == set()
    assert not (tmp_path / "runs").exists()
