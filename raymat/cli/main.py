"""The `raymat` command: finds the subcommand, turns errors into one line and an exit code.

A subcommand's file is imported only when it is asked for, so ``raymat --help`` is instant.
"""

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import raymat
from raymat.cli.interrupting import leave_in_peace, obeying_signals
from raymat.cli.streams import plain_streams
from raymat.errors import DivergedError, RaymatError, did_you_mean, one_line
from raymat.text import plain, quoted

# name -> (module, one line of help); the module's `app` is the command
COMMANDS = {
    "tune": ("raymat.cli.tune", "Search a space of configurations; refit and score the winner."),
    "resume": ("raymat.cli.resume", "Continue an interrupted run."),
    "status": ("raymat.cli.status", "Say how far a run is, also while it runs."),
    "runs": ("raymat.cli.runs_list", "List the runs of a folder."),
    "train": ("raymat.cli.train", "Fit one configuration, such as a run's best.yaml."),
    "compare": ("raymat.cli.compare", "Compare models on the same splits, default and tuned."),
    "ensemble": ("raymat.cli.ensemble", "Train many members; score and calibrate their spread."),
    "screen": ("raymat.cli.screen", "Rank candidates by how probably they pass a criterion."),
    "explain": ("raymat.cli.explain", "Grow graphs that a classifier is sure about (XGNN)."),
    "predict": ("raymat.cli.predict", "Predict a property of crystals with a trained model."),
    "contributions": ("raymat.cli.contributions", "Tell what each site adds to a prediction."),
    "report": ("raymat.cli.report", "Write one HTML page of any set of runs."),
    "doctor": ("raymat.cli.doctor", "Say whether a machine or cluster is fit to run."),
    "data": ("raymat.cli.data", "Bring crystals in, check them, look at them."),
}
DONE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
_LINE = 2_000  # characters of an error
_PLAIN_WORDS = {
    "Value error, ": "",
    "Input should be greater than or equal to": "must be at least",
    "Input should be less than or equal to": "must be at most",
    "Input should be a valid integer": "must be a whole number",
    "Input should be a valid number": "must be a number",
    ", unable to parse string as an integer": "",
    ", unable to parse string as a number": "",
}
_HELP = """Find good crystal-property models: tune them, train them, predict with them.

Example, without any data of your own: raymat tune --space cgcnn
"""


# Commands of `raymat data`, which are looked for without that word.
_OF_DATA = ("import", "fetch", "properties", "check", "describe", "duplicates", "cache")


class LazyGroup(TyperGroup):
    """A group that imports the file of a command when the command is asked for."""

    _is_listing = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _hide_raw_types(self)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the base class's signature
        """Give the names of all commands, in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Give a command; for a list of all of them, one that knows its help line only."""
        if cmd_name not in COMMANDS:
            group = f"; did you mean 'data {cmd_name}'?" if cmd_name in _OF_DATA else ""
            ctx.fail(f"no command {quoted(cmd_name)}{group or did_you_mean(cmd_name, COMMANDS)}")
        module, line = COMMANDS[cmd_name]
        if self._is_listing:
            return TyperCommand(cmd_name, help=line)
        app = importlib.import_module(module).app
        command = typer.main.get_command(app)
        command.name = cmd_name
        _hide_raw_types(command)
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the group itself, importing no command."""
        self._is_listing = True
        super().format_help(ctx, formatter)
        self._is_listing = False


def _hide_raw_types(command: Any) -> None:
    """Show no Python type, such as ``<bool>``, beside flags and arguments, which say it in words.

    Typer has no setting for it. Parameters are found when help is written, as ``--help`` is made
    only then.
    """
    for inner in getattr(command, "commands", {}).values():
        _hide_raw_types(inner)
    find = command.get_params

    def params(ctx: Any) -> list[Any]:
        found: list[Any] = find(ctx)
        for param in found:
            if getattr(param, "is_flag", False) or param.param_type_name == "argument":
                param.display_type_rich = _no_type
        return found

    command.get_params = params


def _no_type(**_context: Any) -> None:
    return None


app = typer.Typer(cls=LazyGroup, add_completion=False, help=_HELP)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show the full traceback of an error.")
    ] = False,
) -> None:
    """Options of `raymat` itself."""
    if version:
        typer.echo(f"raymat {raymat.__version__}")
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    is_debug = "--debug" in arguments  # known to the commands for their help; acted on here
    with obeying_signals(), plain_streams() as (output, _):
        code = run([a for a in arguments if a != "--debug"], is_debug=is_debug)
        output.flush()
        if output.lost is not None and code == DONE:
            _say(f"error: standard output cannot be written ({output.lost.strerror})")
            code = FAILED
    connect = sys.modules.get("raymat.cluster.connect")
    if connect is not None and connect.LOST.is_set():
        os._exit(code)  # all is written; Ray's part of Python's exit would hang or crash
    sys.exit(code)


def run(arguments: list[str], *, is_debug: bool = False) -> int:
    """Run the command line and give its exit code; no exception leaves it."""
    try:
        if _names_a_url(arguments):
            from raymat.cli.submit import asks_for_a_job, submit

            address = asks_for_a_job(arguments)
            if address is not None:
                return submit(arguments, address)
        command = typer.main.get_command(app)
        with command.make_context("raymat", arguments) as ctx:
            command.invoke(ctx)
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        return _say_usage(error)
    except KeyboardInterrupt:
        leave_in_peace()
        _say("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last resort: no traceback unless asked for
        return _say_error(error, is_debug=is_debug)
    return DONE


def _names_a_url(arguments: Sequence[str]) -> bool:
    return any("http://" in word or "https://" in word for word in arguments)


def exit_code(error: Exception) -> int:
    """Give 2 for input that cannot be used, 1 for a run that failed."""
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return UNUSABLE  # of a path that a user wrote
    if isinstance(error, DivergedError) or not isinstance(error, RaymatError):
        return FAILED
    return int(getattr(error, "exit_code", UNUSABLE))


def _say_error(error: Exception, *, is_debug: bool) -> int:
    if is_debug:
        traceback.print_exception(error)
    elif isinstance(error, BrokenPipeError):
        return FAILED  # whoever read the output has left, such as `head`
    elif isinstance(error, RaymatError):
        _say(f"error: {one_line(error)}")
    elif isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else one_line(error)
        _say(f"error: {what}")
    else:
        advice = "run again with --debug for the traceback"
        _say(f"internal error: {type(error).__name__}: {one_line(error)} ({advice})")
    return exit_code(error)


def _say_usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = _plain(error.format_message().strip())
    if not message or "\n" in message:  # a group without a command: the message is its help
        typer.echo(message)
        return UNUSABLE
    path = context.command_path if context else "raymat"
    _say(f"error: {message[0].lower()}{message[1:].removesuffix('.')}; see `{path} --help`")
    return UNUSABLE


def _plain(message: str) -> str:
    for words, ours in _PLAIN_WORDS.items():
        message = message.replace(words, ours)
    return message


def _say(line: str) -> None:
    sys.stderr.write(f"{plain(line, at_most=_LINE)}\n")
