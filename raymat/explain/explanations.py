"""Explanations: grown graphs that a classifier is sure of, tried until there is one."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from raymat.explain.generate import GrowConfig, Scorer, grow, is_sure
from raymat.explain.growing_graphs import GrowingGraphs
from raymat.explain.rules import Rules
from raymat.features.coarse_graphs import LABEL_KINDS, N_LABELS, LabelKind

CLASS_WORDS = {0: "low", 1: "high"}


def class_word(target_class: int, threshold: float | None) -> str:
    """Give what people call a class: low or high, or its number where no number was split."""
    return f"class {target_class}" if threshold is None else CLASS_WORDS[target_class]


def classifier_name(labels: LabelKind, member: int) -> str:
    """Give the name of a coarse classifier, such as ``group-0``."""
    return f"{labels}-{member}"


@dataclass(frozen=True)
class Task:
    """What a set of explanations is grown for.

    Attributes:
        labels: what nodes are labelled with.
        target_class: 0 (low) or 1 (high).
        member: which of the classifiers of these labels is explained.
    """

    labels: LabelKind
    target_class: int
    member: int = 0

    @property
    def classifier(self) -> str:
        """Name of the classifier that is explained, such as ``group-0``."""
        return classifier_name(self.labels, self.member)


@dataclass(frozen=True)
class Explanation:
    """One graph that a classifier is sure of.

    Attributes:
        number: which of its class's explanations it is, from 0.
        seed: that it was grown from; with classifier and class it gives the graph again.
        nodes: labels as chemists count them: group 1-18, or period 1-7.
        edges: pairs of node places, the smaller first, ascending.
        probability: of the class, by the coarse classifier.
        attempts: policies trained until there was one; the last gave it.
        probability_full: of the class, by the full model with the blanks filled in; None without.
    """

    number: int
    seed: int
    nodes: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    probability: float
    attempts: int
    probability_full: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(content: dict[str, Any]) -> "Explanation":
        """Read what `to_dict` gave."""
        edges = tuple((int(a), int(b)) for a, b in content["edges"])
        return Explanation(**{**content, "nodes": tuple(content["nodes"]), "edges": edges})


@dataclass(frozen=True)
class Attempts:
    """How the search for some explanations went.

    Attributes:
        explanations: those that were found.
        n_failed: explanations that were given up after `max_attempts` policies.
        n_attempts: policies trained in all.
        best_rejected: highest probability that an episode of a policy without an explanation left
            with at least two nodes, 0 if all were stuck at their first node; None if every policy
            had one.
    """

    explanations: list[Explanation]
    n_failed: int
    n_attempts: int
    best_rejected: float | None


@dataclass(frozen=True)
class GrowProgress:
    """How far the search for some explanations is.

    Attributes:
        attempt: which policy of each explanation is being trained, from 1.
        left: explanations that are not found yet.
        episode: episodes of this policy that are done.
    """

    attempt: int
    left: int
    episode: int


def _tell(report: Callable[[GrowProgress], None], attempt: int, left: int, episode: int) -> None:
    report(GrowProgress(attempt, left, episode))


def explanation_seed(seed: int, task: Task, number: int, attempt: int) -> int:
    """Give the seed of an attempt, 32 bits; no two of a run resemble each other."""
    place = [LABEL_KINDS.index(task.labels), task.target_class, task.member, number, attempt]
    return int(np.random.SeedSequence([seed, *place]).generate_state(1)[0])


def find_explanations(
    task: Task,
    numbers: Sequence[int],
    score: Scorer,
    *,
    seed: int,
    rules: Rules,
    config: GrowConfig,
    max_attempts: int,
    report: Callable[[GrowProgress], None] = lambda _progress: None,
) -> Attempts:
    """Grow graphs side by side until each is one that the classifier is sure of.

    A graph counts if `is_sure` says so. Else another
    policy is trained from another seed, until `max_attempts` have been. `report` hears of every
    episode.
    """
    found, left, n_attempts, rejected = list[Explanation](), list(numbers), 0, list[float]()
    for attempt in range(max_attempts):
        seeds = [explanation_seed(seed, task, number, attempt) for number in left]
        if not seeds:
            break
        grown = grow(
            seeds,
            score,
            n_labels=N_LABELS[task.labels],
            rules=rules,
            config=config,
            on_episode=partial(_tell, report, attempt + 1, len(seeds)),
        )
        taken = is_sure(grown.graphs, grown.probability)
        n_attempts += len(seeds)
        again = []
        for row, (number, own) in enumerate(zip(left, seeds, strict=True)):
            probability = float(grown.probability[row])
            if taken[row]:
                nodes, edges = read_graph(grown.graphs, row)
                found.append(Explanation(number, own, nodes, edges, probability, attempt + 1))
            else:
                again.append(number)
                rejected.append(float(grown.best[row]))
        left = again
    return Attempts(
        sorted(found, key=lambda e: e.number), len(left), n_attempts, max(rejected, default=None)
    )


def read_graph(
    graphs: GrowingGraphs, row: int
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Give the labels, counted from 1, and the edges of one graph."""
    n = int(graphs.n_nodes[row])
    nodes = tuple(label + 1 for label in graphs.labels[row, :n].tolist())
    pairs = np.argwhere(np.triu(graphs.adjacency[row].numpy(), 1)).tolist()
    return nodes, tuple((a, b) for a, b in pairs)
