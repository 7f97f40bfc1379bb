"""``raymat explain``: which small graphs of groups or periods a classifier is sure about."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from raymat.cli import options
from raymat.errors import ConfigError

if TYPE_CHECKING:
    from raymat.cluster.explain import ExplainRequest

app = typer.Typer(add_completion=False)

_EXPLANATIONS, _CLASSIFIERS = "Explanations", "Classifiers"

Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="group|period",
        help="What stands for an element; both unless given.",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
PerClass = Annotated[
    int,
    typer.Option(
        "--per-class",
        min=1,
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
        metavar="N",
        help="Classifiers of each labelling, with seeds of their own: do they tell the same?",
        rich_help_panel=_CLASSIFIERS,
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="DIR",
        help="A trained CGCNN that the explanations stand for; a classifier is trained without.",
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
        help="Most nodes of an explanation; 6 unless given.",
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
        help="Most edges of a node; 4 unless given.",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
Episodes = Annotated[
    int | None,
    typer.Option(
        "--episodes",
        min=1,
        metavar="N",
        help="Times that a graph is grown while its policy learns; 50 unless given.",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
Rollout = Annotated[
    Literal["valid", "strict"] | None,
    typer.Option(
        "--rollout",
        help="valid scores the last valid graph of a rollout; strict is the rule of XGNN's code,"
        " nearly always a constant. valid unless given.",
        rich_help_panel=_EXPLANATIONS,
        show_default=False,
    ),
]
MaxAttempts = Annotated[
    int,
    typer.Option(
        "--max-attempts",
        min=1,
        metavar="N",
        help="Policies for one explanation before it is given up.",
        rich_help_panel=_EXPLANATIONS,
    ),
]


@app.command()
def explain(
    data: options.Data = None,
    target: options.Target = None,
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
    classes: options.Classes = None,
    split: options.Split = None,
    max_rejected: options.MaxRejected = None,
    seed: options.Seed = None,
    concurrency: options.Concurrency = None,
    address: options.Address = None,
    out: options.Out = None,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Grow small graphs that a classifier is sure are of the low or the high half of a target.

    A CGCNN learns to tell low from high by groups (or periods) and nearest neighbors alone;
    policies then grow graphs that it is more than 80 % sure of (XGNN). What they have in common,
    beside what the training crystals have, is written as tables and figures. Ctrl-C leaves a run
    that `raymat resume` continues.

    Example: raymat explain --data mp.parquet --target band_gap --labels group --per-class 150
    """
    request = _request(
        grow=_given(max_nodes=max_nodes, max_degree=max_degree, episodes=episodes, rollout=rollout),
        split=options.choose_split(None, split, None),
        training=_training(epochs),
        data=data,
        target=target,
        labels=_words("--labels", labels, ("group", "period")),
        per_class=per_class,
        members=members,
        model=None if model is None else _find_model(model),
        full=not no_full,
        rules=_words("--rule", rule, ("coordination", "charge")),
        max_attempts=max_attempts,
        classes=options.parse_classes(classes),
        max_rejected=max_rejected,
        seed=seed,
        concurrency=concurrency,
        address=address,
    )
    _run(request, out or options.default_run_directory("explain", request.target), quiet=quiet)


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _words(option: str, words: Sequence[str] | None, known: Sequence[str]) -> list[str] | None:
    """Give the words of an option that may be given more than once, each once."""
    for word in words or ():
        if word not in known:
            raise ConfigError(f"{option} {word}: expected {' or '.join(known)}")
    return None if words is None else list(dict.fromkeys(words))


def _find_model(folder: Path) -> str:
    from raymat.cli.predict import find_model

    return str(find_model(folder.expanduser()).absolute())


def _training(epochs: int | None) -> Any:
    from raymat.explain.coarse_training import TRAINING

    return None if epochs is None else TRAINING.model_copy(update={"epochs": epochs})


def _request(**values: Any) -> "ExplainRequest":
    from raymat.cluster.explain import ExplainRequest
    from raymat.config import build_config
    from raymat.properties import find_property

    asked = _given(**values)
    for key, text in _NEEDED.items():
        if key not in asked:
            raise ConfigError(f"--{key} is needed: {text}")
    if "model" in asked and not asked["full"]:
        raise ConfigError("--model and --no-full contradict each other; leave one out")
    asked["data"] = options.absolute_source(str(asked["data"]))
    if "classes" not in asked and find_property(asked["target"]).task == "classification":
        asked["classes"] = None  # it is one
    request: ExplainRequest = build_config(ExplainRequest, asked, where="options")
    return request


_NEEDED = {
    "data": "crystals with the property, such as --data mp.parquet",
    "target": "the property to explain, such as --target band_gap",
}


def _run(request: "ExplainRequest", out: Path, *, quiet: bool) -> None:
    from raymat.cli.explain_progress import ExplainProgress
    from raymat.cli.runs import running

    progress = ExplainProgress(quiet=quiet)
    with running(out, progress):
        from raymat.cluster.explain import explain as run_explain

        metrics = run_explain(request, out, listeners=(progress,))
    show_result(metrics, out)


def show_result(metrics: dict[str, Any], run: Path) -> None:
    """Draw the figures of an explanation run and print what it found."""
    from raymat.cli.explain_results import draw_explanations, show_explanations

    draw_explanations(run)
    show_explanations(metrics, run)
