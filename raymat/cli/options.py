"""Options that several commands share, and what their values mean."""

import math
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from raymat.data.limits import MAX_REJECTED
from raymat.errors import ConfigError
from raymat.reading import user_path
from raymat.text import plain

if TYPE_CHECKING:
    from raymat.data.splits import SplitConfig

SplitKind = Literal["random", "formula", "chemical_system", "kfold"]

# Numbers above these are mistakes, and would only be found when memory or a seed gives out.
MAX_SEED = 2**63 - 1
MAX_THREADS, MAX_AT_ONCE, MAX_GPUS = 1024, 100_000, 1024
MAX_TRIALS, MAX_EPOCHS = 1_000_000, 1_000_000

_DATA, _TRAINING, _MACHINE, _OUTPUT = "Data", "Training", "Machine", "Output"
_SEARCH = "Search"

SOURCES = (
    "Parquet, CSV or JSON table; folder, zip or tar archive of CIF, POSCAR, XYZ or pymatgen JSON"
    " files (targets in id_prop.csv), or such a file; ASE database; built-in name"
)

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help=f"{SOURCES}.",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="COLUMN",
        help="Property column to learn.",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="median|VALUE|none",
        help="Learn whether the target lies above the median of the training rows, or above a"
        " value, instead of the number; none learns a column of 0 and 1 as a number.",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
Split = Annotated[
    SplitKind | None,
    typer.Option(
        "--split",
        metavar="KIND",
        help="random, formula (no reduced formula in two parts), chemical_system or kfold.",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
MaxRejected = Annotated[
    float | None,
    typer.Option(
        "--max-rejected",
        min=0.0,
        max=1.0,
        metavar="SHARE",
        help=f"Largest share of unusable rows (default: {MAX_REJECTED:g}).",
        rich_help_panel=_DATA,
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        max=MAX_SEED,
        metavar="N",
        help="Random seed of the split, the search, weights and members (0 unless given). A split"
        " that a configuration, an earlier search or a --model was chosen by is kept.",
        rich_help_panel=_TRAINING,
        show_default=False,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        min=1,
        max=MAX_EPOCHS,
        metavar="N",
        help="Largest number of epochs.",
        rich_help_panel=_TRAINING,
        show_default=False,
    ),
]
Space = Annotated[
    str,
    typer.Option(
        "--space",
        metavar="NAME_OR_FILE",
        help="A shipped space, such as cgcnn, or a YAML file.",
        show_default=False,
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials",
        min=1,
        max=MAX_TRIALS,
        metavar="N",
        help="Configurations to try, the default one included.",
        rich_help_panel=_SEARCH,
        show_default=False,
    ),
]
TimeBudget = Annotated[
    str | None,
    typer.Option(
        "--time-budget",
        metavar="TIME",
        help="Stop all trials after this time, e.g. 90s, 30m, 1h30m.",
        rich_help_panel=_SEARCH,
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Run directory (default: runs/COMMAND-NAME-TIME).",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Gpus = Annotated[
    float | None,
    typer.Option(
        "--gpus",
        min=0.0,
        max=MAX_GPUS,
        metavar="F",
        help="GPUs for each trial, member or shard, such as 0.25 or 1; 0 for none (default: what"
        " is available).",
        rich_help_panel=_MACHINE,
        show_default=False,
    ),
]
OneGpu = Annotated[
    float | None,
    typer.Option(
        "--gpus",
        min=0.0,
        max=1.0,
        metavar="0|1",
        help="1 for a GPU, 0 for the CPU. Default: a GPU if there is one.",
        rich_help_panel=_MACHINE,
        show_default=False,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDR",
        help="A Ray cluster: HOST:PORT or auto, on one of its machines; http://HEAD:8265 submits"
        " the command as a job from anywhere. Without it, or with local, a local Ray is started and"
        " stopped.",
        rich_help_panel=_MACHINE,
        show_default=False,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        min=1,
        max=MAX_AT_ONCE,
        metavar="N",
        help="Number of trials, members or shards to run at once (default: as many as fit).",
        rich_help_panel=_MACHINE,
        show_default=False,
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        min=1,
        max=MAX_THREADS,
        metavar="N",
        help="CPU threads of PyTorch. One makes a run on a CPU repeat bit by bit.",
        rich_help_panel=_MACHINE,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace output files that exist.", rich_help_panel=_OUTPUT),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress, only the result.", rich_help_panel=_OUTPUT)
]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show the full traceback of an error.", rich_help_panel=_OUTPUT),
]

_LONGEST_S = 10 * 365 * 86_400.0  # of a time budget
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_BUDGET = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
_BUDGET_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")


def parse_time_budget(
    text: str, *, name: str = "--time-budget", example: str = "90s, 30m or 1h30m"
) -> float:
    """Give the seconds of a time such as ``90s``, ``30m`` or ``1h30m``.

    Args:
        text: what was given.
        name: of the option, for the message.
        example: of such a time, for the message.

    Raises:
        ConfigError: it is no such time, names a unit twice, or is nothing.
    """
    compact = text.replace(" ", "").lower()
    parts = _BUDGET_PART.findall(compact) if _BUDGET.fullmatch(compact) else []
    units = [unit for _, unit in parts]
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > _LONGEST_S:
        raise ConfigError(f"{name} {plain(text, at_most=40)}: longer than ten years")
    if seconds <= 0 or units != sorted(set(units), key=list(_SECONDS).index):
        raise ConfigError(f"{name} {text}: expected a time such as {example}")
    return seconds


def parse_classes(text: str | None) -> float | str | None:
    """Return the rule of ``--classes``: ``median``, ``none``, or a number.

    Raises:
        ConfigError: it is none of them.
    """
    if text in (None, "median", "none"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"--classes {text}: expected median or a number, such as 0, or none")
    return value


def default_run_directory(command: str, name: str) -> Path:
    """Give ``runs/<command>-<name>-<local time>``."""
    from raymat.tracking.run_directory import safe_name

    return Path("runs") / f"{command}-{safe_name(name)}-{datetime.now():%Y%m%d-%H%M%S}"


def absolute_source(source: str) -> str:
    """Give a data source that means the same in every working directory."""
    from raymat.data.builtin import BUILTIN

    path = user_path(source)
    return source if source in BUILTIN or not path.exists() else str(path.absolute())


def choose_split(
    base: "SplitConfig | None", kind: SplitKind | None, seed: int | None
) -> "SplitConfig":
    """Give the split of the file (or the default one) with what the options change.

    Raises:
        ConfigError: the file's fractions are of no use to this kind of split.
    """
    from raymat.config import build_config
    from raymat.data.splits import SplitConfig

    changes = {"kind": kind, "seed": seed}
    given = {key: value for key, value in changes.items() if value is not None}
    values = (base or SplitConfig()).model_dump() | given
    return build_config(SplitConfig, values, where="split")
