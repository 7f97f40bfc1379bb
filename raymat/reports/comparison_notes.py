"""What stands around the tables of a comparison: facts of its plan, and how to read them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from raymat.models import load_spec
from raymat.reports.comparison_log import DataFacts
from raymat.tuning.comparison_cells import ComparisonPlan, ModelPlan


@dataclass(frozen=True)
class PlanFacts:
    """What a report says of its plan.

    Attributes:
        data: property -> where its rows come from and which they are, without a full stop.
        split: how they are divided, the same way.
        repetitions: that were planned.
        budgets: model -> what its search may spend, such as ``8 trials of at most 30 epochs``.
        command: that makes the comparison again.
        parts: property -> one line per repetition on its rows, leakage and unseen elements.
        closed_form: models that are solved in one step and draw nothing.
        stopped_early: models whose trials ASHA may stop.
        remarks: on searches that end before TPE proposes anything.
        n_cells: that were planned.
        missing: names of those that have no result.
    """

    data: Mapping[str, str]
    split: str
    repetitions: int
    budgets: Mapping[str, str]
    command: str
    parts: Mapping[str, Sequence[str]]
    closed_form: tuple[str, ...] = ()
    stopped_early: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    n_cells: int = 0
    missing: tuple[str, ...] = ()


def plan_facts(
    plan: ComparisonPlan, *, data: DataFacts, command: str, missing: tuple[str, ...] = ()
) -> PlanFacts:
    """Give the facts of a plan.

    Args:
        plan: the plan.
        data: what the run's log says of its rows.
        command: that makes the comparison again.
        missing: names of cells that have no result.
    """
    return PlanFacts(
        data={
            p.name: f"{data.sources[p.name]}; {_rows(p.name, plan, data)}" for p in plan.properties
        },
        split=_describe_split(plan),
        repetitions=plan.repetitions,
        budgets={model.name: _budget(model) for model in plan.models},
        command=command,
        parts=data.repetitions,
        closed_form=tuple(m.name for m in plan.models if load_spec(m.name).fit == "closed_form"),
        stopped_early=tuple(m.name for m in plan.models if _has_asha(m)),
        remarks=tuple(plan.remarks()),
        n_cells=len(plan.cells()),
        missing=missing,
    )


def notes(summary: pd.DataFrame, facts: PlanFacts, *, has_sizes: bool) -> Iterator[str]:
    """Give one line each on scores, budget, times, intervals and slopes.

    Args:
        summary: as `summarise` gives it.
        facts: of the plan.
        has_sizes: whether there are learning curves.
    """
    tasks, n_repetitions = set(summary["task"]), int(summary["n_repetitions"].max())
    if "regression" in tasks:
        yield "MAE and RMSE: smaller is better. R2: larger is better, 1 is exact, 0 the mean."
    if "classification" in tasks:
        yield "ROC AUC and accuracy: larger is better; 0.5 is what guessing gives the AUC."
    if n_repetitions > 1:
        yield (
            f"a ± b: mean and sample standard deviation over {n_repetitions} repetitions, each"
            " with its own split and seeds; in one repetition all models have the same split."
        )
    else:
        yield ("One repetition: nothing here says how much another split or seed would change.")
    yield from _budget_notes(summary, facts)
    yield from _time_notes()
    yield (
        "Bold: the best of a setting, only where every other model of that setting is told apart"
        " from it. Told apart: both intervals (t corrected, bootstrap) leave out zero; below three"
        " repetitions, or five test crystals, that is not estimated."
    )
    yield from _interval_notes(n_repetitions)
    if has_sizes:
        yield (
            "Slope: of a straight line through log10(MAE) against log10(training rows), at least"
            " three sizes; -0.3 halves the error with ten times the rows. The sizes are nested"
            " subsets tested on the same rows, and the line says nothing of larger sets."
        )


def _budget_notes(summary: pd.DataFrame, facts: PlanFacts) -> Iterator[str]:
    budgets = "; ".join(f"{model} {budget}" for model, budget in facts.budgets.items())
    yield f"Budget, spent anew for every line and repetition: {budgets}."
    yield from (f"{remark}." for remark in facts.remarks)
    if "default" in set(summary["setting"]):
        yield from _default_notes(summary, facts)
    if facts.stopped_early:
        yield (
            "ASHA stops trials of a search, and seeds of a default just the same, when they fall"
            f" behind ({', '.join(facts.stopped_early)}). The first of each, which has the default"
            " configuration, is never stopped."
        )
    if _some_ended_early(summary):
        yield (
            "Spent, `k to their end`: so many of the trials or seeds trained all their epochs (mean"
            " over the repetitions); the others were stopped, or failed."
        )


def _default_notes(summary: pd.DataFrame, facts: PlanFacts) -> Iterator[str]:
    models = dict.fromkeys(summary["model"])
    closed = [model for model in models if model in facts.closed_form]
    seeded = [model for model in models if model not in facts.closed_form]
    if seeded:
        whose = f" of {', '.join(seeded)}" if closed else ""
        yield (
            f"The default{whose} has as many seeds as a search has trials; like the winner of a"
            " search, the best is chosen by the validation rows, so the best of N stands against"
            " the best of N."
        )
        if "first_mae_mean" in summary and summary["first_mae_mean"].notna().any():
            yield "MAE of the first seed alone: what one training of the default gives."
    if closed:
        yield (
            f"{', '.join(closed)}: solved in closed form, without drawing anything, so every"
            " seed gives the same; the default is one fit and stands against the best of N trials."
        )


def _time_notes() -> Iterator[str]:
    yield (
        "Training: wall seconds of the training steps of the chosen model alone, on the named"
        " device, without validation, without making features and without the rest of the search;"
        " measured while other trials shared the machine."
    )
    yield (
        "Features: seconds to make the graphs or descriptors of all rows once, as the chosen model"
        " reads them, extrapolated from at most 512 crystals on one core, imports not counted."
        " Stored: bytes of the model's weights."
    )


def _interval_notes(n_repetitions: int) -> Iterator[str]:
    yield (
        "Differences are taken on the same test rows of the same repetition; all intervals are 95"
        " %. Bootstrap: over the test crystals, all rows of a crystal together; it covers which"
        " crystals were tested, not another training set, seed or search."
    )
    if n_repetitions > 1:
        yield (
            "t: over the repetitions; it covers split, seeds and search, but takes repetitions for"
            " independent, though their training rows overlap. Corrected: the same with the"
            " variance widened by test rows / training rows (Nadeau & Bengio, Mach. Learn. 2003,"
            " 52, 239)."
        )
    yield (
        "The best model was chosen on the test rows that it is compared on, which favors it; and"
        " of twenty pairs that do not differ about one is told apart by chance."
    )


def _some_ended_early(summary: pd.DataFrame) -> bool:
    columns = [f"{name}_mean" for name in ("n_trials", "n_trials_complete")]
    if not set(columns) <= set(summary):
        return False
    return bool((summary[columns[1]] < summary[columns[0]]).any())


def _rows(name: str, plan: ComparisonPlan, data: DataFacts) -> str:
    rows, left_out = plan.property_plan(name).describe_rows(), data.left_out.get(name, 0)
    if not left_out:
        return rows
    return f"{rows}; {left_out:,} left out for all models because one cannot read them"


def _describe_split(plan: ComparisonPlan) -> str:
    split = plan.split
    if split.kind == "kfold":
        return (
            f"kfold (repetition r tests fold r of {split.n_folds}, {split.validation:g} of the"
            f" other rows validate), one shuffle with seed {plan.first_seed}"
        )
    shares = f"{split.train:g} training, {split.validation:g} validation, {split.test:g} test"
    return f"{split.kind} ({shares}), seed {plan.first_seed} + repetition"


def _has_asha(model: ModelPlan) -> bool:
    is_closed = load_spec(model.name).fit == "closed_form"
    return not is_closed and model.search_space().scheduler.name == "asha"


def _budget(model: ModelPlan) -> str:
    trials = f"{model.trials} trials" if model.trials > 1 else "1 trial"
    return f"{trials} of at most {model.epochs} epochs" if model.epochs else trials
