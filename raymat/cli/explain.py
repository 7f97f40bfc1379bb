"""``raymat explain``: which small graphs of groups or periods a classifier is sure about."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from raymat.cli import options
from raymat.cli.wandb_option import Wandb, WandbOption, projecting
from raymat.errors import ConfigError
from raymat.reading import user_path

if TYPE_CHECKING:
    from raymat.cluster.explain import ExplainRequest
    from raymat.tracking.run_directory import Listener

app = typer.Typer(add_completion=False)

_EXPLANATIONS, _CLASSIFIERS = "Explanations", "Classifiers"

Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="COLUMN",
        help="Property to explain; may be given more than once.",
        rich_help_panel="Data",
        show_default=False,
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="group|period",
        help="What stands for an element (default: both).",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
PerClass = Annotated[
    int,
    typer.Option(
        "--per-class",
        min=1,
        max=100_000,
        metavar="N",
        help="Explanations of the low and of the high class, for each labelling.",
        rich_help_panel=_EXPLANATIONS,
    ),
]
Members = Annotated[
    int,
    typer.Option(
        "--members",
        min=1,
        max=100,
        metavar="N",
        help="Number of classifiers per labelling, with different seeds, to test robustness.",
        rich_help_panel=_CLASSIFIERS,
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="DIR",
        help="Trained CGCNN to explain; without it, a classifier is trained.",
        rich_help_panel=_CLASSIFIERS,
        show_default=False,
    ),
]
NoFull = Annotated[
    bool,
    typer.Option(
        "--no-full",
        help="Train no full CGCNN; agreement with it and the check by it are then left out.",
        rich_help_panel=_CLASSIFIERS,
    ),
]
Rule = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        metavar="coordination|charge",
        help="A rule of validity besides the largest degree: no more neighbors than the median"
        " atom of a label has nearest ones; no two ions of one sign touch.",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
MaxNodes = Annotated[
    int | None,
    typer.Option(
        "--max-nodes",
        min=2,
        max=10,
        metavar="N",
        help="Most nodes of an explanation (default: 6).",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
MaxDegree = Annotated[
    int | None,
    typer.Option(
        "--max-degree",
        min=1,
        max=9,
        metavar="N",
        help="Most edges of a node (default: 4).",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
Episodes = Annotated[
    int | None,
    typer.Option(
        "--episodes",
        min=1,
        max=10_000,
        metavar="N",
        help="Times that a graph is grown while its policy learns (default: 50).",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
Rollout = Annotated[
    Literal["valid", "strict"] | None,
    typer.Option(
        "--rollout",
        metavar="valid|strict",
        help="valid scores the last valid graph of a rollout; strict is the rule of XGNN's code,"
        " nearly always a constant (default: valid).",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
MaxAttempts = Annotated[
    int,
    typer.Option(
        "--max-attempts",
        min=1,
        max=1000,
        metavar="N",
        help="Policies for one explanation before it is given up.",
        rich_help_panel=_EXPLANATIONS,
    ),
]
IgnoreWeak = Annotated[
    bool,
    typer.Option(
        "--ignore-weak",
        help="Go on with a classifier that the test rows do not tell from chance.",
        rich_help_panel=_EXPLANATIONS,
    ),
]


@app.command()
def explain(
    data: options.Data = None,
    target: Targets = None,
    labels: Labels = None,
    per_class: PerClass = 150,
    model: Model = None,
    members: Members = 1,
    no_full: NoFull = False,
    epochs: options.Epochs = None,
    rule: Rule = None,
    max_nodes: MaxNodes = None,
    max_degree: MaxDegree = None,
    episodes: Episodes = None,
    rollout: Rollout = None,
    max_attempts: MaxAttempts = 10,
    ignore_weak: IgnoreWeak = False,
    classes: options.Classes = None,
    split: options.Split = None,
    max_rejected: options.MaxRejected = None,
    seed: options.Seed = None,
    concurrency: options.Concurrency = None,
    address: options.Address = None,
    out: options.Out = None,
    wandb: WandbOption = None,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Grow small graphs that a classifier is sure are of the low or the high half of a target.

    A CGCNN learns to tell low from high by groups (or periods) and nearest neighbors alone;
    policies then grow graphs that it is more than 80 % sure of (XGNN). What they have in common,
    beside what the training crystals have, is written as tables and figures. Ctrl-C leaves a run
    that `raymat resume` continues.

    Several --target are explained one after another, each in a folder of its own.

    Example: raymat explain --data mp.parquet --target band_gap --labels group --per-class 150
    """
    requests = _requests(
        target,
        grow=_given(max_nodes=max_nodes, max_degree=max_degree, episodes=episodes, rollout=rollout),
        split=options.choose_split(None, split, seed if model is None else None),
        training=_training(epochs),
        data=data,
        labels=_words("--labels", labels, ("group", "period")),
        per_class=per_class,
        members=members,
        model=None if model is None else _find_model(model),
        full=not no_full,
        rules=_words("--rule", rule, ("coordination", "charge")),
        max_attempts=max_attempts,
        classes=options.parse_classes(classes),
        max_rejected=max_rejected,
        ignore_weak=ignore_weak or None,
        seed=seed,
        concurrency=concurrency,
        address=address,
    )
    name = requests[0].target if len(requests) == 1 else f"{len(requests)}-properties"
    folder = out or options.default_run_directory("explain", name)
    _run(requests, folder, wandb=wandb, quiet=quiet)


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _words(option: str, words: Sequence[str] | None, known: Sequence[str]) -> list[str] | None:
    """Give the words of an option that may be given more than once, each once."""
    for word in words or ():
        if word not in known:
            raise ConfigError(f"{option} {word}: expected {' or '.join(known)}")
    return None if words is None else list(dict.fromkeys(words))


def _find_model(folder: Path) -> str:
    from raymat.training.model_files import find_model

    return str(find_model(user_path(folder)).absolute())


def _training(epochs: int | None) -> Any:
    from raymat.explain.coarse_training import TRAINING

    return None if epochs is None else TRAINING.model_copy(update={"epochs": epochs})


def _requests(targets: Sequence[str] | None, **values: Any) -> list["ExplainRequest"]:
    """Give one request for each property."""
    asked = _given(**values)
    for key, text in _NEEDED.items():
        if not (targets if key == "target" else asked.get(key)):
            raise ConfigError(f"--{key} is needed: {text}")
    if "model" in asked and not asked["full"]:
        raise ConfigError("--model and --no-full contradict each other; leave one out")
    different = list(dict.fromkeys(targets or ()))
    if "model" in asked and len(different) > 1:
        raise ConfigError("--model is of one property; give one --target")
    if asked.get("classes") == "none":
        raise ConfigError("--classes none: an explanation needs classes; give median or a number")
    asked["data"] = options.absolute_source(str(asked["data"]))
    return [_request({**asked, "target": target}) for target in different]


def _request(asked: dict[str, Any]) -> "ExplainRequest":
    from raymat.cluster.explain import ExplainRequest
    from raymat.config import build_config

    request: ExplainRequest = build_config(ExplainRequest, asked, where="options")
    return request


_NEEDED = {
    "data": "crystals with the property, such as --data mp.parquet",
    "target": "the property to explain, such as --target band_gap",
}


def _run(requests: list["ExplainRequest"], out: Path, *, wandb: Wandb | None, quiet: bool) -> None:
    from raymat.cli.explain_progress import ExplainProgress
    from raymat.cli.runs import running

    progress = ExplainProgress(quiet=quiet)
    with projecting(out, wandb) as listeners:
        with running(out, progress):
            heard: tuple[Listener, ...] = (progress, *listeners)
            if len(requests) == 1:
                from raymat.cluster.explain import explain as run_explain

                metrics = run_explain(requests[0], out, listeners=heard)
            else:
                from raymat.cluster.explain_series import ExplainSeries, explain_series

                series = ExplainSeries(properties=tuple(requests))
                metrics = explain_series(series, out, listeners=heard)
        show_result(metrics, out)


def show_result(metrics: dict[str, Any], run: Path) -> None:
    """Draw the figures of an explanation run, or of a series, and print what it found.

    Raises:
        FailedRunError: a property of a series could not be explained.
    """
    from raymat.cli.explain_results import draw_explanations, show_explanations
    from raymat.cli.runs import FailedRunError
    from raymat.cluster.explain_series import PROPERTIES
    from raymat.tracking.run_directory import safe_name

    for target, own in metrics.get(PROPERTIES, {"": metrics}).items():
        folder = run / safe_name(target)
        draw_explanations(folder)
        show_explanations(own, folder)
    left_out = metrics.get("left_out", {})
    if left_out:
        reasons = "; ".join(f"{target}: {reason}" for target, reason in left_out.items())
        raise FailedRunError(f"not explained: {reasons} (run: {run})")
