"""Published trends of explanations, tested on those of a run.

The trends are statements on the figures of a thesis that generated XGNN explanations of CGCNN's
band gap and formation energy: which groups or periods, and which edges, the explanations of one
class favour over those of the other. A trend is a set of labels or pairs whose share of all nodes,
or edges, must be larger in its class.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from raymat.explain.summary import LabelCounts
from raymat.features.coarse_graphs import LabelKind

Verdict = Literal["found", "weak", "not found"]
CLEAR_RATIO, CLEAR_P = 1.25, 0.01  # share in its class over the other's; Fisher's exact test


@dataclass(frozen=True)
class Trend:
    """One published statement.

    Attributes:
        target: property.
        labels: groups or periods.
        target_class: in which class the labels or edges are favoured.
        kind: nodes, or edges.
        first: labels (of one end of the edges).
        second: labels of the other end; empty for nodes.
    """

    target: str
    labels: LabelKind
    target_class: int
    kind: Literal["node", "edge"]
    first: tuple[int, ...]
    second: tuple[int, ...] = ()

    def say(self) -> str:
        """Give it in words, such as ``high: edges between groups 15-18``."""
        word = {0: "low", 1: "high"}[self.target_class]
        one = f"{self.labels}s {_span(self.first)}"
        if self.kind == "node":
            return f"{word}: {one}"
        if self.first == self.second:
            return f"{word}: edges among {one}"
        return f"{word}: edges between {one} and {_span(self.second)}"

    def counts(self, found: LabelCounts) -> tuple[int, int]:
        """Give how many nodes or edges are of this kind, and how many there are."""
        if self.kind == "node":
            own = [label - 1 for label in self.first]
            return int(found.nodes[own].sum()), int(found.nodes.sum())
        return int(found.edges[self._pairs(len(found.nodes))].sum()), int(found.edges.sum())

    def _pairs(self, n_labels: int) -> NDArray[np.bool_]:
        is_first = np.isin(np.arange(1, n_labels + 1), self.first)
        is_second = np.isin(np.arange(1, n_labels + 1), self.second)
        either = is_first[:, None] & is_second | is_second[:, None] & is_first
        return np.triu(either)


@dataclass(frozen=True)
class TestedTrend:
    """A trend and what a run says of it.

    Attributes:
        trend: the statement.
        verdict: found (share at least `CLEAR_RATIO` times that of the other class, and not by
            chance), weak (larger, but not so clearly), or not found.
        count, total: nodes or edges of the kind in its class, and all of that class.
        other_count, other_total: in the other class.
        training_ratio: the same ratio of shares in the training crystals: what counting says.
        p_value: of Fisher's exact test, one-sided; nodes of one graph are not independent, so it
            is a guide only.
    """

    trend: Trend
    verdict: Verdict
    count: int
    total: int
    other_count: int
    other_total: int
    training_ratio: float
    p_value: float

    @property
    def ratio(self) -> float:
        """Share in its class over that in the other; inf where the other has none."""
        return _ratio(self.count, self.total, self.other_count, self.other_total)


def test_trends(
    trends: Iterable[Trend],
    explanations: Mapping[int, LabelCounts],
    training: Mapping[int, LabelCounts],
) -> list[TestedTrend]:
    """Test trends of one property and labelling; both maps are class -> counts."""
    return [_test(trend, explanations, training) for trend in trends]


test_trends.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for one of its own


def _test(
    trend: Trend, explanations: Mapping[int, LabelCounts], training: Mapping[int, LabelCounts]
) -> TestedTrend:
    own, other = trend.target_class, 1 - trend.target_class
    count, total = trend.counts(explanations[own])
    other_count, other_total = trend.counts(explanations[other])
    ratio = _ratio(count, total, other_count, other_total)
    table = np.array([[count, total - count], [other_count, other_total - other_count]])
    p_value = float(fisher_exact(table, alternative="greater").pvalue)
    verdict: Verdict = "not found"
    if ratio > 1:
        verdict = "found" if ratio >= CLEAR_RATIO and p_value < CLEAR_P else "weak"
    known = _ratio(*trend.counts(training[own]), *trend.counts(training[other]))
    return TestedTrend(trend, verdict, count, total, other_count, other_total, known, p_value)


def _ratio(count: int, total: int, other_count: int, other_total: int) -> float:
    if total == 0 or count == 0:
        return 0.0
    if other_count == 0:
        return float("inf")
    return (count / total) / (other_count / other_total)


def _span(labels: tuple[int, ...]) -> str:
    return f"{labels[0]}-{labels[-1]}" if len(labels) > 1 else f"{labels[0]}"


def _range(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


_GAP, _ENERGY = "band_gap", "formation_energy_per_atom"
PUBLISHED: tuple[Trend, ...] = (
    Trend(_GAP, "group", 1, "node", _range(15, 18)),
    Trend(_GAP, "period", 1, "node", _range(1, 3)),
    Trend(_GAP, "group", 1, "edge", _range(15, 18), _range(15, 18)),
    Trend(_GAP, "period", 1, "edge", _range(1, 3), _range(1, 3)),
    Trend(_GAP, "group", 0, "node", _range(3, 12)),
    Trend(_GAP, "period", 0, "node", _range(4, 7)),
    Trend(_GAP, "group", 0, "edge", _range(3, 12), _range(3, 12)),
    Trend(_GAP, "period", 0, "edge", _range(5, 7), _range(5, 7)),
    Trend(_ENERGY, "group", 0, "node", _range(16, 17)),
    Trend(_ENERGY, "period", 0, "node", (2,)),
    Trend(_ENERGY, "group", 0, "edge", _range(1, 4), _range(16, 17)),
    Trend(_ENERGY, "group", 1, "node", _range(5, 15)),
)
