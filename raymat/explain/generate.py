r"""Grow explanations: graphs that a classifier is sure belong to one class.

XGNN (Yuan, Tang, Hu & Ji, KDD 2020) by policy gradient. After each valid step the reward is

.. math:: R = 0.1 + (p - 0.5) + \frac{2}{10} \sum_{r=1}^{10} R_r

where p is the classifier's probability of the class and :math:`R_r` what a rollout by the present
policy ends with. A step that fails or breaks a rule has R = -1. Where R < 0 the graph is put back;
the policy learns from R in any case: :math:`-R \log \pi` is minimised by SGD.

The authors' rollout gives -0.1 as soon as one of its steps fails. As every step adds an edge and a
graph of 6 nodes with degree 4 holds 12, a rollout of more steps always fails, and its reward is a
constant. Here a rollout ends at its first failed step and scores the last valid graph; their rule
remains as `rollout: strict`.

The authors take the graph that the last episode leaves. Policies go on wandering, so it is an
accident whether that one is good: of policies for wide band gaps by groups, half leave a graph with
p > 0.8 in some episode, and one in twenty in the last. Here the latest graph that the classifier is
sure of is taken; their rule remains as `take: last`.

Explanations are grown side by side for speed. Each has a policy and random numbers of its own, so
that those beside it change nothing but the last digits of float32 sums; the same ones side by side
give the same bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from raymat.config import Config
from raymat.explain.growing_graphs import GrowingGraphs, most_edges
from raymat.explain.policy import Policies, choose, embed_candidates
from raymat.explain.rules import Rules

SUCCESS_REWARD, FAILED_REWARD, CHANCE = 0.1, -1.0, 0.5
ROLLOUT_WEIGHT, FAILED_ROLLOUT = 2.0, -0.1
SURE = 0.8  # a probability must be larger
FEWEST_NODES = 2  # one node is no explanation
LR, MOMENTUM, WEIGHT_DECAY, CLIP_NORM = 0.01, 0.9, 5e-4, 100.0

Scorer = Callable[[GrowingGraphs], Tensor]
"""Gives (n_graphs,) the probability of the class."""


class GrowConfig(Config):
    """How explanations are grown; sizes are those of the authors' script.

    Attributes:
        max_nodes: most nodes of a graph.
        max_degree: most edges of a node.
        episodes: times that a graph is grown from one node while its policy learns.
        steps: steps in an episode.
        rollouts: rollouts after every valid step.
        rollout: "valid" scores the last valid graph, "strict" is the authors' rule.
        take: "sure" takes the graph of the latest episode that leaves one above `SURE` with at
            least `FEWEST_NODES`, or else the last; "last" is the authors' rule.
        give_up_after: episodes after which a policy whose graph has never left its first node is
            trained no further: its label is none of the class. None goes on to the end.
    """

    max_nodes: int = Field(6, ge=2, le=10)
    max_degree: int = Field(4, ge=1, le=9)
    episodes: int = Field(50, ge=1, le=10_000)
    steps: int = Field(30, ge=1, le=1000)
    rollouts: int = Field(10, ge=1, le=100)
    rollout: Literal["valid", "strict"] = "valid"
    take: Literal["sure", "last"] = "sure"
    give_up_after: int | None = Field(10, ge=1, le=10_000)

    @property
    def rollout_steps(self) -> int:
        """Most steps of a rollout: each adds an edge."""
        return min(self.steps - 1, most_edges(self.max_nodes, self.max_degree))


@dataclass(frozen=True)
class Grown:
    """Graphs that policies were trained to grow.

    Attributes:
        graphs: one for each seed.
        probability: (n_graphs,) of the class.
        best: (n_graphs,) highest probability that an episode left with at least `FEWEST_NODES`
            nodes; 0 where the graph never left its first node.
        rewards: (n_episodes, n_graphs) mean reward of the steps of each episode; nan where a policy
            had been given up.
    """

    graphs: GrowingGraphs
    probability: Tensor
    best: Tensor
    rewards: Tensor


def grow(
    seeds: Sequence[int],
    score: Scorer,
    *,
    n_labels: int,
    rules: Rules,
    config: GrowConfig,
    on_episode: Callable[[int], None] = lambda _episode: None,
) -> Grown:
    """Grow one graph for each seed.

    Args:
        seeds: of the start label, the policy's first weights and all its choices.
        score: the classifier.
        n_labels: labels that a node can have.
        rules: which graphs are valid.
        config: how they are grown.
        on_episode: hears how many episodes are done.
    """
    growth = _Growth(seeds, score, n_labels=n_labels, rules=rules, config=config)
    graphs, probability = growth.graphs, torch.zeros(len(seeds), dtype=torch.float64)
    best = torch.zeros_like(probability)
    rewards = torch.full((config.episodes, len(seeds)), torch.nan)
    for episode in range(config.episodes):
        if not len(growth.rows):
            break
        rewards[episode, growth.rows] = growth.run_episode()
        ends, found = growth.graphs, score(growth.graphs).double()
        large = torch.where(ends.n_nodes >= FEWEST_NODES, found, 0.0)
        best[growth.rows] = torch.maximum(best[growth.rows], large)
        so_far = graphs.take(growth.rows), probability[growth.rows]
        is_taken = is_sure(ends, found) | ~is_sure(*so_far) | (config.take == "last")
        rows = growth.rows[is_taken]
        graphs, probability[rows] = graphs.put(rows, ends.take(is_taken)), found[is_taken]
        if episode + 1 == config.give_up_after:
            growth.give_up_stuck()
        on_episode(episode + 1)
    return Grown(graphs, probability, best, rewards)


def is_sure(graphs: GrowingGraphs, probability: Tensor) -> Tensor:
    """Say which graphs are explanations: (n_graphs,)."""
    return (probability > SURE) & (graphs.n_nodes >= FEWEST_NODES)


class _Growth:
    """Some graphs being grown, each by a policy of its own.

    Attributes:
        rows: which of the seeds are still being grown.
        graphs: of these, at the end of the last episode.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        score: Scorer,
        *,
        n_labels: int,
        rules: Rules,
        config: GrowConfig,
    ) -> None:
        self.score, self.rules, self.config = score, rules, config
        self.rngs = [np.random.default_rng(seed) for seed in seeds]
        self.first = torch.tensor([int(rng.integers(n_labels)) for rng in self.rngs])
        self.policies = Policies(self.rngs, n_labels)
        self.optimizer = _optimizer(self.policies)
        self.rows = torch.arange(len(seeds))
        self.has_left = torch.zeros(len(seeds), dtype=torch.bool)  # its first node, ever
        self.graphs = GrowingGraphs.start(self.first, config.max_nodes)

    def give_up_stuck(self) -> None:
        """Train those no further whose graph has never left its first node."""
        kept = torch.nonzero(self.has_left)[:, 0]
        momenta = [self.optimizer.state[p]["momentum_buffer"] for p in self.policies.parameters()]
        self.policies.keep(kept)
        self.optimizer = _optimizer(self.policies)
        for parameter, momentum in zip(self.policies.parameters(), momenta, strict=True):
            self.optimizer.state[parameter]["momentum_buffer"] = momentum[kept]
        self.rows, self.first, self.has_left = (
            self.rows[kept],
            self.first[kept],
            self.has_left[kept],
        )
        self.rngs = [self.rngs[row] for row in kept.tolist()]

    def run_episode(self) -> Tensor:
        """Grow all graphs from one node; give (n_graphs,) the mean reward of a step."""
        self.graphs = GrowingGraphs.start(self.first, self.config.max_nodes)
        draws = self._draw()
        total = torch.zeros(len(self.graphs))
        for step in range(self.config.steps):
            total += self._step(draws[:, step], steps_left=self.config.steps - 1 - step)
        self.has_left |= self.graphs.n_nodes > 1
        return total / self.config.steps

    def _draw(self) -> Tensor:
        """Give all random numbers of an episode: (n_graphs, steps, 1 + rollouts * its steps, 2).

        They are drawn whether they are needed or not, so that one graph's choices do not depend on
        how others fare.
        """
        config = self.config
        shape = (config.steps, 1 + config.rollouts * config.rollout_steps, 2)
        drawn = [rng.random(shape, dtype=np.float32) for rng in self.rngs]
        return torch.from_numpy(np.stack(drawn))

    def _step(self, draws: Tensor, *, steps_left: int) -> Tensor:
        """Take one step with every graph, let its policy learn, and give the rewards."""
        weights = dict(self.policies.weights.items())
        choice = choose(weights, embed_candidates(weights), self.graphs, draws[:, :1])
        grown, succeeds = self.graphs.grow(choice.start[:, 0], choice.end[:, 0])
        valid = succeeds & self.rules.allow(grown)
        rewards = torch.full((len(grown),), FAILED_REWARD)
        rows = torch.nonzero(valid)[:, 0]
        if len(rows):
            found = self._reward(grown.take(rows), rows, draws[rows, 1:], steps_left)
            rewards[rows] = found.to(rewards.dtype)
        self._learn(-(rewards * choice.log_probability[:, 0]).sum())
        self.graphs = grown.where(rewards >= 0, self.graphs)
        return rewards

    def _reward(
        self, graphs: GrowingGraphs, rows: Tensor, draws: Tensor, steps_left: int
    ) -> Tensor:
        """Give the rewards of valid graphs, which belong to the policies `rows`."""
        config = self.config
        ends, fails = self._roll_out(graphs, rows, draws, steps_left)
        values = self.score(ends) - CHANCE
        if config.rollout == "strict":
            values = torch.where(fails, FAILED_ROLLOUT, values)
        rollouts = values.view(len(graphs), config.rollouts)
        return step_reward(self.score(graphs), rollouts)

    @torch.no_grad()
    def _roll_out(
        self, graphs: GrowingGraphs, rows: Tensor, draws: Tensor, steps_left: int
    ) -> tuple[GrowingGraphs, Tensor]:
        """Go on by the present policies until a step fails.

        Returns:
            The last valid graphs, `rollouts` for each graph, and whether a step failed.
        """
        config = self.config
        weights = self.policies.of(rows)
        candidates = embed_candidates(weights)
        now = graphs.repeat(config.rollouts)
        draws = draws.view(len(rows), config.rollout_steps, config.rollouts, 2)
        fails = torch.zeros(len(now), dtype=torch.bool)
        for step in range(min(steps_left, config.rollout_steps)):
            choice = choose(weights, candidates, now, draws[:, step])
            grown, succeeds = now.grow(choice.start.flatten(), choice.end.flatten())
            fails |= ~(succeeds & self.rules.allow(grown))
            if fails.all():
                break
            now = now.where(fails, grown)
        # A rollout with as many steps as a graph can have edges cannot take them all.
        if steps_left > config.rollout_steps:
            fails |= True
        return now, fails

    def _learn(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        _clip([weight.grad for weight in self.policies.parameters() if weight.grad is not None])
        self.optimizer.step()


def _optimizer(policies: Policies) -> torch.optim.SGD:
    return torch.optim.SGD(
        policies.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )


def step_reward(probability: Tensor, rollouts: Tensor) -> Tensor:
    """Give (n_graphs,) rewards of valid steps: R of this module's head.

    Args:
        probability: (n_graphs,) of the class.
        rollouts: (n_graphs, n_rollouts) what each rollout ended with.
    """
    return SUCCESS_REWARD + (probability - CHANCE) + ROLLOUT_WEIGHT * rollouts.mean(1)


def _clip(gradients: list[Tensor]) -> None:
    """Scale each policy's gradient to a norm of at most `CLIP_NORM`."""
    squares = torch.stack([gradient.square().sum((1, 2)) for gradient in gradients]).sum(0)
    scale = (CLIP_NORM / squares.sqrt().clamp(min=1e-12)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale[:, None, None])
