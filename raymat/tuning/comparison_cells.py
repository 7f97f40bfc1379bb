"""What a comparison consists of: properties, models, and the cells that each are one result."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from raymat.config import Config, Epochs, Seed, Trials
from raymat.data.splits import SplitConfig
from raymat.errors import ConfigError
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import WandbMode
from raymat.tuning.space import parse_space

Setting = Literal["default", "tuned"]
SETTINGS: tuple[Setting, ...] = ("default", "tuned")
_LONGEST_NAME = 80  # characters of a property in the name of a folder or file
MOST_ROWS = 10**9
FEWEST_TRAINING_ROWS = 2  # one row has no spread that targets could be scaled by


class Range(Config):
    """Which values of a column are kept; a value that is missing is not.

    Attributes:
        above: kept values are larger.
        at_least: kept values are as large or larger.
        below: kept values are smaller.
        at_most: kept values are as small or smaller.
    """

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self._given():
            raise ValueError(f"names no bound; give one of {', '.join(_COMPARISONS)}")
        for low, lowest in self._given("above", "at_least").items():
            for high, highest in self._given("below", "at_most").items():
                is_single = lowest == highest and (low, high) == ("at_least", "at_most")
                if lowest >= highest and not is_single:
                    bounds = f"{_say(low, lowest)} and {_say(high, highest)}"
                    raise ValueError(f"no number is {bounds}; swap or widen them")
        return self

    def keeps(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Tell for every value whether it is kept."""
        numbers = np.asarray(values, dtype=np.float64)
        kept = np.isfinite(numbers)
        for bound, limit in self._given().items():
            kept &= _COMPARISONS[bound](numbers, limit)
        return kept

    def describe(self) -> str:
        """Give the bounds in words, such as ``above 0 and at most 0.5``."""
        return " and ".join(_say(bound, limit) for bound, limit in self._given().items())

    def lies_above(self, value: float) -> bool:
        """Tell whether every value that is kept is larger than `value`."""
        if self.above is not None and self.above >= value:
            return True
        return self.at_least is not None and self.at_least > value

    def _given(self, *names: str) -> dict[str, float]:
        """Give the bounds that there are, of `names` only if any are named."""
        found = self.model_dump(include=set(names) if names else None)
        return {name: value for name, value in found.items() if value is not None}


def _say(bound: str, limit: float) -> str:
    return f"{bound.replace('_', ' ')} {limit:g}"


_COMPARISONS = {
    "above": np.greater,
    "at_least": np.greater_equal,
    "below": np.less,
    "at_most": np.less_equal,
}


class PropertyPlan(Config):
    """A property, and the rows that it is learned and tested on.

    Attributes:
        name: a column of the data.
        data: a file, a folder or the name of a built-in set.
        rows: size of a random subset of the usable rows; None takes them all.
        rows_seed: of that subset.
        where: column -> the values that a usable row has there.
        classes: learn whether a number lies above the median of the training rows, or above a
            value, instead of the number; "none" learns a column of 0 and 1 as a number; None
            leaves it to the values.
    """

    name: str
    data: str
    rows: Annotated[int, Field(ge=1, le=MOST_ROWS)] | None = None
    rows_seed: Seed = 0
    where: dict[str, Range] = Field(default_factory=dict)
    classes: Literal["median", "none"] | float | None = None

    def choose_rows(
        self, material_ids: ArrayLike, columns: Mapping[str, ArrayLike]
    ) -> NDArray[np.int64]:
        """Give the row numbers that take part, ascending.

        Args:
            material_ids: (n,) ids of the rows that can be used for this property.
            columns: their columns, of which those in `where` are looked at.

        Raises:
            ConfigError: fewer rows can be used than `rows` asks for, or none.
        """
        ids = np.asarray(material_ids, dtype=object)
        kept = np.ones(len(ids), dtype=np.bool_)
        for column, values in self.where.items():
            kept &= values.keeps(columns[column])
        usable = np.flatnonzero(kept).astype(np.int64)
        if len(usable) < (self.rows or 1):
            asked = f"asks for {self.rows:,} rows" if self.rows else "asks for rows"
            raise ConfigError(
                f"property {self.name}: {asked}, but {len(usable):,} of {len(ids):,} of"
                f" {self.data} are usable; lower 'rows' or widen 'where'"
            )
        if self.rows is None:
            return usable
        return usable[draw_nested(ids[usable].tolist(), self.rows, seed=self.rows_seed)]

    def describe_rows(self) -> str:
        """Give in words which rows take part."""
        bounds = " and ".join(f"{name} {values.describe()}" for name, values in self.where.items())
        all_rows = f"usable rows with {bounds}" if bounds else "usable rows"
        if self.rows is None:
            return f"all {all_rows}"
        return f"a random subset of {self.rows:,} {all_rows} (seed {self.rows_seed})"


class ModelPlan(Config):
    """A model, and the search that tunes it.

    Attributes:
        name: one of ``raymat.models.available()``.
        space_path: where the search space was read from, for messages.
        space: the space in its YAML form, with the budget of the plan and the scheduler, search
            and resources that it sets.
        trials: configurations of the tuned setting, and seeds of the default one.
        epochs: of a trial that nothing stops; None for a model that is solved in closed form.
    """

    name: str
    space_path: str
    space: dict[str, Any]
    trials: Trials
    epochs: Epochs | None

    def search_space(self) -> SearchSpace:
        """Give the checked space."""
        return parse_space(self.space, path=self.space_path)

    def remark(self) -> str | None:
        """Say what a search consists of if it ends before TPE proposes anything; else None.

        TPE learns from the configurations that are tried first, but not from the default, which
        may lie outside the space.
        """
        space = self.search_space()
        begins_after = max(space.search.startup_trials, len(space.try_first))
        if space.search.name != "tpe" or self.trials > 1 + begins_after:
            return None
        n_first = min(len(space.try_first), self.trials - 1)
        n_random = self.trials - 1 - n_first
        parts = [f"of {self.trials} trial{'s' * (self.trials > 1)}", "1 is the default"]
        if n_first:
            what = "is a configuration" if n_first == 1 else "are configurations"
            parts.append(f"{n_first} {what} that the space tries first")
        if n_random:
            parts.append(f"{n_random} {'is' if n_random == 1 else 'are'} random")
        return (
            f"{self.name}: {', '.join(parts)}: TPE begins after {begins_after} besides the default"
        )


@dataclass(frozen=True)
class Cell:
    """One line of a comparison.

    Attributes:
        property: name of the property.
        repetition: from 0.
        n_train: training rows asked for; None for all.
        model: name of the model.
        setting: ``default`` or ``tuned``.
    """

    property: str
    repetition: int
    n_train: int | None
    model: str
    setting: Setting

    @cached_property  # `property` is a field here
    def name(self) -> str:
        """A stable name that can be a folder's, such as ``log10_K_VRH-r0-n1000-cgcnn-tuned``."""
        size = "all" if self.n_train is None else self.n_train
        return f"{slug(self.property)}-r{self.repetition}-n{size}-{self.model}-{self.setting}"


class ComparisonPlan(Config):
    """A comparison, completely described: `model_dump` is what a run keeps to be resumed.

    Attributes:
        path: where it was read from, for messages.
        properties: what is learned.
        models: what learns it.
        settings: with defaults, tuned, or both.
        repetitions: splits; all models of a repetition share one.
        first_seed: repetition r splits, searches and trains with seed ``first_seed + r``; the
            folds of a ``kfold`` split come from one shuffle with ``first_seed``.
        training_sizes: training rows asked for, None for all; a smaller subset lies in a larger.
        split: how rows are divided; its seed and fold are not used.
        wandb: whether the run is brought to W&B, where the command does not say.
    """

    path: str
    properties: tuple[PropertyPlan, ...] = Field(min_length=1)
    models: tuple[ModelPlan, ...] = Field(min_length=1)
    settings: tuple[Setting, ...] = SETTINGS
    repetitions: int = Field(ge=1, le=10_000)
    first_seed: Seed = 0
    training_sizes: tuple[
        Annotated[int, Field(ge=FEWEST_TRAINING_ROWS, le=MOST_ROWS)] | None, ...
    ] = (None,)
    split: SplitConfig = SplitConfig()
    wandb: WandbMode | None = None

    @model_validator(mode="after")
    def _a_fold_for_each_repetition(self) -> Self:
        if self.split.kind == "kfold" and self.repetitions > self.split.n_folds:
            raise ValueError(
                f"repetitions: {self.repetitions} are more than the {self.split.n_folds} folds, of"
                " which each repetition tests another; lower it, or raise split.n_folds"
            )
        return self

    def cells(self) -> tuple[Cell, ...]:
        """Give every cell, in an order that tells early what the comparison will show.

        A repetition is done with all its models before the next begins; in it all rows come first,
        then training subsets from small to large; the models of a property stand together.
        """
        sizes = sorted(self.training_sizes, key=lambda size: size or 0)  # None, all rows: first
        return tuple(
            Cell(prop.name, repetition, size, model.name, setting)
            for repetition in range(self.repetitions)
            for size in sizes
            for prop in self.properties
            for setting in self.settings
            for model in self.models
        )

    def seed_of(self, repetition: int) -> int:
        """Give the seed of a repetition's search, trials, training subsets and random split."""
        return self.first_seed + repetition

    def split_of(self, repetition: int) -> SplitConfig:
        """Give the split of a repetition: a seed of its own, or a fold of the one shuffle."""
        if self.split.kind == "kfold":
            return self.split.model_copy(update={"seed": self.first_seed, "fold": repetition})
        return self.split.model_copy(update={"seed": self.seed_of(repetition)})

    def remarks(self) -> list[str]:
        """Give one line for every model whose tuned search ends before TPE proposes anything."""
        if "tuned" not in self.settings:
            return []
        found = (model.remark() for model in self.models)
        return [remark for remark in found if remark is not None]

    def property_plan(self, name: str) -> PropertyPlan:
        """Give a property by its name."""
        return next(prop for prop in self.properties if prop.name == name)

    def model_plan(self, name: str) -> ModelPlan:
        """Give a model by its name."""
        return next(model for model in self.models if model.name == name)


def draw_nested(material_ids: Sequence[str], n: int, *, seed: int) -> NDArray[np.int64]:
    """Draw `n` crystals at random; give their positions, ascending.

    Every id draws a lot that depends on itself and the seed alone. So a smaller draw lies in a
    larger one, the order of the ids does not matter, and two lists draw what they can in common.

    Raises:
        ConfigError: there are fewer than `n`.
    """
    if n > len(material_ids):
        raise ConfigError(f"cannot draw {n:,} of {len(material_ids):,} crystals; ask for fewer")
    lots = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in material_ids]
    chosen = sorted(range(len(lots)), key=lots.__getitem__)[:n]
    return np.array(sorted(chosen), dtype=np.int64)


def slug(name: str) -> str:
    """Give a name that any file system takes; names that differ stay different."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name)[:_LONGEST_NAME]
    if plain == name:
        return plain
    return f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
