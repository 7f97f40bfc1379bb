"""`raymat explain` as it is typed: what is asked for, what is refused, what it says at the end."""

import json
from pathlib import Path
from typing import Any

import pytest

from raymat.cli import main
from raymat.cli.explain_results import say_agreement, say_empty
from raymat.cluster import explain as explain_module
from raymat.cluster.explain import ExplainRequest


class Asked(Exception):
    """Stands for the run that would be made."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def asked(monkeypatch: pytest.MonkeyPatch, *options: str) -> ExplainRequest:
    """Give what the command line asks for, without doing it."""
    requests = list[ExplainRequest]()

    def remember(request: ExplainRequest, *_: Any, **__: Any) -> None:
        requests.append(request)
        raise Asked

    monkeypatch.setattr(explain_module, "explain", remember)
    assert main.run(["explain", "--data", "delta", "--out", "run", *options]) == 1
    (request,) = requests
    return request


@pytest.mark.usefixtures("folder")
def test_defaults_are_those_of_the_published_study(monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(monkeypatch, "--target", "log10_bulk_modulus")
    assert (request.labels, request.per_class, request.classes) == (
        ("group", "period"),
        150,
        None,  # a class as it is, a number by its median
    )
    grow = request.grow
    assert (grow.max_nodes, grow.max_degree) == (6, 4)
    assert (grow.episodes, grow.steps, grow.rollouts) == (50, 30, 10)
    assert (request.rules, request.members, request.full, request.model) == ((), 1, True, None)


@pytest.mark.usefixtures("folder")
def test_options_reach_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(
        monkeypatch,
        *("--target", "log10_bulk_modulus", "--labels", "group", "--labels", "group"),
        *("--per-class", "3", "--members", "2", "--no-full", "--epochs", "7", "--rule", "charge"),
        *("--max-nodes", "5", "--max-degree", "3", "--episodes", "9", "--rollout", "strict"),
        *("--max-attempts", "2", "--classes", "1.5", "--seed", "4", "--concurrency", "2"),
    )
    assert (request.labels, request.per_class, request.members) == (("group",), 3, 2)
    assert (request.full, request.training.epochs, request.rules) == (False, 7, ("charge",))
    grow = request.grow
    assert (grow.max_nodes, grow.max_degree, grow.episodes) == (5, 3, 9)
    assert (grow.rollout, request.max_attempts, request.classes) == ("strict", 2, 1.5)
    assert (request.seed, request.split.seed, request.concurrency) == (4, 4, 2)


@pytest.mark.usefixtures("folder")
def test_class_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, "--target", "is_metal").classes is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--target is needed: the property to explain"),
        (("--target", "y", "--labels", "block"), "--labels block: expected group or period"),
        (("--target", "y", "--rule", "octet"), "--rule octet: expected coordination or charge"),
        (("--target", "y", "--max-nodes", "1"), "--max-nodes"),
        (("--target", "y", "--model", "m", "--no-full"), "--model and --no-full contradict"),
        (("--target", "y", "--classes", "high"), "--classes high: expected median or a number"),
        (("--target", "y", "--model", "nowhere"), "nowhere: no such folder"),
        (("--target", "log10_bulk_modulos"), "log10_bulk_modulos"),
    ],
)
def test_nonsense_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main.run(["explain", "--data", "delta", "--out", "run", *options]) == 2
    said = capfd.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (folder / "run").exists()


@pytest.mark.long
def test_small_run_from_end_to_end(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "delta", "--target", "log10_bulk_modulus", "--labels", "period"]
    sizes = ["--per-class", "3", "--episodes", "3", "--epochs", "30", "--max-attempts", "2"]
    assert main.run(["explain", *options, *sizes, "--no-full", "--out", "run"]) == 0
    said = capfd.readouterr()
    assert "period-0" in said.out
    assert "periods, high" in said.out
    assert "explanations: 6, 3 of each class" in said.err
    metrics = json.loads((folder / "run" / "metrics.json").read_text("utf-8"))
    found = sum(own["found"] for own in metrics["explanations"])
    assert f"{6} of 6 explanations" in said.err
    has_figures = (folder / "run" / "motifs-period.png").exists()
    assert has_figures == bool(found)
    assert main.run(["resume", "run"]) == 0
    assert "nothing is left to do" in capfd.readouterr().out


def test_class_that_yields_nothing_is_told() -> None:
    own = {
        "labels": "group", "target_class": 1, "member": 0, "found": 0, "attempts": 30,
        "best_rejected": 0.512,
    }  # fmt: skip
    metrics = {"per_class": 3, "threshold": 0.5, "explanations": [own]}
    (line,) = say_empty(metrics)
    assert line.startswith("groups, high: no explanation of 3 after 30 policies; the surest graph")
    assert "p = 0.512 (wanted: above 0.8); raise --max-attempts" in line
    (stuck,) = say_empty({**metrics, "explanations": [{**own, "best_rejected": 0.0}]})
    assert "all others never left their first node" in stuck
    several = [own, {**own, "member": 1}]
    lines = say_empty({**metrics, "threshold": None, "explanations": several})
    assert [text.partition(":")[0] for text in lines] == [
        "groups, class 1, classifier 0",
        "groups, class 1, classifier 1",
    ]
    assert say_empty({**metrics, "explanations": [{**own, "found": 3}]}) == []


def test_agreement_is_the_mean_over_pairs() -> None:
    pair = {"labels": "group", "target_class": 0, "members": [0, 1], "nodes": 0.5, "edges": None}
    pairs = [pair, {**pair, "nodes": 0.9, "edges": 0.4}]
    lines = say_agreement({"threshold": 0.5, "agreement_of_members": pairs})
    assert lines == [
        "groups, low: rank correlation between classifiers 0.70 (labels), 0.40 (edges), mean of 2"
        " pairs"
    ]
