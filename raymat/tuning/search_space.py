"""A search space: which keys are searched, over what, and how the search is run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raymat.config import build_config
from raymat.models import load_spec
from raymat.tuning.distributions import Scalar
from raymat.tuning.parameters import Alternative, Parameter
from raymat.tuning.settings import Budget, Resources, Scheduler, Search, WandbMode
from raymat.tuning.trial_config import (
    TrialConfig,
    build_trial_config,
    check_key,
    config_sections,
)

if TYPE_CHECKING:
    from raymat.data.crystals import CrystalSet
    from raymat.data.splits import SplitConfig


@dataclass(frozen=True)
class SearchSpace:
    """A checked search space.

    Attributes:
        model: name of the model.
        data: default data source, if the file names one.
        target: default target, if the file names one.
        parameters: searched keys; each stands after those its conditions name.
        defaults: default of every searched key, as its config class has it.
        fixed: values of keys that are not searched, where they differ from the default.
        try_first: configurations to try after the default, such as published ones; a key that the
            file leaves out has its default.
        budget: trials and epochs.
        scheduler: what stops a trial early.
        search: what proposes trials.
        resources: what a trial occupies; None leaves it to the machine.
        split: how rows are divided; None leaves it to the caller.
        wandb: whether runs are brought to W&B, where the command does not say.
        path: where the space was read from, as messages show it.
        content: the space in its YAML form; `parse_space` gives an equal space.
    """

    model: str
    data: str | None
    target: str | None
    parameters: tuple[Parameter, ...]
    defaults: Mapping[str, Any]
    fixed: Mapping[str, Any]
    try_first: tuple[Mapping[str, Any], ...]
    budget: Budget
    scheduler: Scheduler
    search: Search
    resources: Resources | None
    split: "SplitConfig | None"
    wandb: WandbMode | None
    path: str
    content: Mapping[str, Any]

    def draw(self, choose: Callable[[Alternative], Scalar]) -> dict[str, Scalar]:
        """Settle every key that is in play, parents first; `choose` picks each value."""
        settled = dict(self.defaults)
        drawn: dict[str, Scalar] = {}
        for parameter in self.parameters:
            alternative = parameter.alternative(settled)
            if alternative is not None:
                drawn[parameter.key] = settled[parameter.key] = choose(alternative)
        return drawn

    def sample(self, rng: np.random.Generator) -> dict[str, Scalar]:
        """Draw one configuration; keys whose conditions do not hold are left out."""
        return self.draw(lambda alternative: alternative.distribution.sample(rng))

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """Give every configuration of a space whose distributions are all countable.

        Raises:
            ConfigError: a distribution is continuous.
        """
        yield from self._grid_from(0, {})

    def default(self) -> dict[str, Any]:
        """Give the defaults of the searched keys: trial 0, which may lie outside the space."""
        return dict(self.defaults)

    def active(self, values: Mapping[str, Any]) -> dict[str, Alternative]:
        """Give the alternative in force of each key that is in play under `values`."""
        settled = {**self.defaults, **values}
        found = {p.key: p.alternative(settled) for p in self.parameters}
        return {key: a for key, a in found.items() if a is not None}

    def configure(self, values: Mapping[str, Any]) -> TrialConfig:
        """Build the typed configuration of a trial.

        Args:
            values: values by dotted key; a key left out takes its fixed or default value.

        Raises:
            ConfigError: a key is unknown or a value does not fit.
        """
        sections = config_sections(self.model, where=self.path)
        for key in values:
            check_key(key, sections, where=f"{self.path}: trial")
        settled = {**self.fixed, **values}
        if "epochs" in sections["training"].model_fields:
            settled["training.epochs"] = self.budget.epochs
        return build_trial_config(self.model, settled, where=f"{self.path}: trial")

    def decided_by(self, crystals: "CrystalSet") -> "SearchSpace":
        """Give the same space with what it leaves to the data settled, such as SOAP's elements."""
        decided = load_spec(self.model).from_data(crystals)
        named = {f"model.{field}": value for field, value in decided.items()}
        return replace(self, fixed={**named, **self.fixed})

    def with_budget(self, *, trials: int | None = None, epochs: int | None = None) -> "SearchSpace":
        """Give the same space with another budget.

        Fewer epochs than the grace period would leave no rung to stop at, so the grace period
        shrinks with them.

        Raises:
            ConfigError: trials or epochs are below 1.
        """
        asked = {"trials": trials, "epochs": epochs}
        changed = self.budget.model_dump() | {k: v for k, v in asked.items() if v is not None}
        budget = build_config(Budget, changed, where=f"{self.path}: budget")
        grace_period = min(self.scheduler.grace_period, budget.epochs)
        scheduler = self.scheduler.model_copy(update={"grace_period": grace_period})
        parts = {"budget": budget.model_dump(), "scheduler": scheduler.model_dump()}
        content = {**self.content, **parts}
        return replace(self, budget=budget, scheduler=scheduler, content=content)

    def _grid_from(self, depth: int, drawn: dict[str, Scalar]) -> Iterator[dict[str, Scalar]]:
        if depth == len(self.parameters):
            yield drawn
            return
        parameter = self.parameters[depth]
        alternative = parameter.alternative({**self.defaults, **drawn})
        if alternative is None:
            yield from self._grid_from(depth + 1, drawn)
            return
        for value in alternative.distribution.grid_values():
            yield from self._grid_from(depth + 1, {**drawn, parameter.key: value})
