"""Published trends of explanations, tested on those of a run.

The trends are statements on the figures of a thesis that generated XGNN explanations of CGCNN's
band gap and formation energy: which groups or periods, and which edges, the explanations of one
class favour over those of the other. A trend is a set of labels or pairs whose share of all nodes,
or edges, must be larger in its class.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from raymat.explain.explanations import CLASS_WORDS, Explanation
from raymat.explain.summary import LabelCounts, count_explanations
from raymat.features.coarse_graphs import LabelKind

Verdict = Literal["found", "weak", "not found", "untested"]
CLEAR_RATIO, CLEAR_P = 1.25, 0.01  # share in its class over the other's; permutation test
N_RESAMPLES = 1999
FEWEST_GRAPHS = 2  # of a class: one proves nothing


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
        """Give it in words, such as ``high: edges among groups 15-18``."""
        word = CLASS_WORDS[self.target_class]
        one = f"{self.labels}{'s' if len(self.first) > 1 else ''} {_span(self.first)}"
        if self.kind == "node":
            return f"{word}: {one}"
        if self.first == self.second:
            return f"{word}: edges among {one}"
        return f"{word}: edges between {one} and {_span(self.second)}"

    @property
    def both_classes(self) -> tuple[int, int]:
        """Its class, and the other one."""
        return self.target_class, 1 - self.target_class

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
            chance), weak (larger, but not so clearly), not found, or untested where a class has no
            explanation.
        count, total: nodes or edges of the kind in its class, and all of that class.
        other_count, other_total: in the other class.
        training_ratio: the same ratio of shares in the training crystals: what counting says.
        p_value: how often a difference as large is met where whole graphs change classes at random;
            nan where a class has none. It knows nothing of what other classifiers would say.
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


def check_trends(
    trends: Iterable[Trend],
    explanations: Mapping[int, Sequence[Explanation]],
    training: Mapping[int, LabelCounts],
) -> list[TestedTrend]:
    """Test trends of one property and labelling; both maps are by class."""
    return [_check(trend, explanations, training) for trend in trends]


def _check(
    trend: Trend,
    explanations: Mapping[int, Sequence[Explanation]],
    training: Mapping[int, LabelCounts],
) -> TestedTrend:
    own, other = (_count_graphs(trend, explanations[c]) for c in trend.both_classes)
    (count, total), (other_count, other_total) = own.sum(axis=0), other.sum(axis=0)
    ratio = _ratio(count, total, other_count, other_total)
    p_value = _p_value(own, other) if total and other_total else math.nan
    verdict: Verdict = "not found"
    if not (total and other_total):
        verdict = "untested"
    elif ratio > 1:
        verdict = "found" if ratio >= CLEAR_RATIO and p_value < CLEAR_P else "weak"
    first, second = trend.both_classes
    known = _ratio(*trend.counts(training[first]), *trend.counts(training[second]))
    return TestedTrend(
        trend,
        verdict,
        count=int(count),
        total=int(total),
        other_count=int(other_count),
        other_total=int(other_total),
        training_ratio=known,
        p_value=p_value,
    )


def _count_graphs(trend: Trend, explanations: Sequence[Explanation]) -> NDArray[np.int64]:
    """Give (n_graphs, 2): how many nodes or edges of each graph are of the kind, and all."""
    counts = [trend.counts(count_explanations([e], trend.labels)) for e in explanations]
    return np.array(counts, dtype=np.int64).reshape(-1, 2)


def _p_value(own: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Give how often graphs that change classes at random show as large a difference of shares."""
    if min(len(own), len(other)) < FEWEST_GRAPHS:
        return 1.0
    graphs = np.concatenate([own, other])

    def difference(first: NDArray[np.int64], second: NDArray[np.int64], axis: int) -> Any:
        shares = [graphs[rows].sum(axis=axis - 1) for rows in (first, second)]
        return shares[0][..., 0] / shares[0][..., 1] - shares[1][..., 0] / shares[1][..., 1]

    rows = np.arange(len(graphs))
    return float(
        permutation_test(
            (rows[: len(own)], rows[len(own) :]),
            difference,
            vectorized=True,
            n_resamples=N_RESAMPLES,
            alternative="greater",
            rng=np.random.default_rng(0),
        ).pvalue
    )


def _ratio(count: int, total: int, other_count: int, other_total: int) -> float:
    if total == 0 or other_total == 0:
        return math.nan
    if other_count == 0:
        return math.inf if count else math.nan
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
