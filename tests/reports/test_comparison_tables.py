"""The Markdown of a comparison: its tables, and the notes that stand around them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from comparison_rows import KINDS, errors_of, table

from raymat.reports.comparison_log import DataFacts
from raymat.reports.comparison_notes import PlanFacts, notes, plan_facts
from raymat.reports.comparison_pairs import paired_differences
from raymat.reports.comparison_statistics import learning_curve_fit, summarise
from raymat.reports.comparison_tables import markdown_report
from raymat.tuning.comparison_plan import parse_plan

FACTS = PlanFacts(
    data={"log10_K_VRH": "elastic, all usable rows", "is_metal": "mp, all usable rows"},
    split="random",
    repetitions=2,
    budgets={"cgcnn": "4 trials of at most 30 epochs", "soap_svr": "4 trials"},
    command="raymat compare --plan plan.yaml",
    parts={"log10_K_VRH": ("repetition 0: so many rows", "repetition 1: others")},
    closed_form=("soap_svr",),
    n_cells=4,
)


def compared(*, gap: float = 0.1, repetitions: int = 2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two models, of which the second is worse by `gap` on every test row."""
    rng = np.random.default_rng(3)
    rows, errors = [], []
    for repetition in range(repetitions):
        hard = rng.gamma(1, 0.1, 60)
        for model, extra in (("cgcnn", 0.0), ("soap_svr", gap)):
            values = hard + extra + rng.normal(0, 1e-4, 60)
            row = table({"model": model, "repetition": repetition, "mae": values.mean()})
            rows.append(row)
            errors.append(errors_of(row, {(model, "default"): values}))
    return pd.concat(rows), pd.concat(errors)


def report(rows: pd.DataFrame, errors: pd.DataFrame, facts: PlanFacts = FACTS) -> str:
    differences = paired_differences(rows, errors, kinds=KINDS)
    return markdown_report(rows, differences, learning_curve_fit(rows), facts)


def cells_of(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_scores_and_costs_of_a_property() -> None:
    rows, errors = compared()
    rows["first_mae"] = 0.25
    text = report(rows, errors)
    assert "## log10_K_VRH (log10(GPa))" in text
    head, values = cells_of(text, "| model | setting | MAE"), cells_of(text, "| soap_svr | default")
    found = dict(zip(head, values, strict=True))
    assert found["MAE of the first seed alone (log10(GPa))"] == "0.2500"
    assert found["RMSE (log10(GPa))"] == "0.2000"
    assert found["training (s)"] == "12"
    assert found["parameters"] == "80,833"
    assert found["stored"] == "326 kB"
    assert found["spent"] == "4 fits"
    assert cells_of(text, "| cgcnn | default")[-1] == "4 seeds"
    assert "±" in found["MAE (log10(GPa))"]
    for words in ("smaller is better", "4 trials of at most 30 epochs", "training steps"):
        assert words in text
    at = text.index("- repetition 0: so many rows\n- repetition 1: others\n\n| model |")
    assert text.index("## log10_K_VRH") < at


def test_the_best_is_bold_where_it_is_told_apart() -> None:
    assert cells_of(report(*compared(repetitions=3)), "| cgcnn | default")[2].startswith("**")


def test_nothing_is_bold_where_it_is_not() -> None:
    text = report(*compared(gap=1e-6, repetitions=3))
    assert "**" not in text
    pairs = [line for line in text.splitlines() if ", default |" in line]
    assert len(pairs) == 1  # against the best and graph against descriptor: told once
    assert pairs[0].endswith("| no |")


def test_missing_repetitions_are_told() -> None:
    rows, errors = compared()
    text = report(rows.iloc[:3], errors)
    assert "| soap_svr | default (1 of 2 repetitions)" in text


def test_trials_that_were_stopped_are_told() -> None:
    rows = table({"setting": "tuned", "n_trials_complete": 1})
    text = report(rows, errors_of(rows, {("cgcnn", "tuned"): [1]}))
    assert "| 4 trials, 1 to their end |" in text


def test_one_repetition_says_what_it_cannot_tell() -> None:
    rows, errors = compared(repetitions=1)
    text = report(rows, errors, replace(FACTS, repetitions=1))
    assert "nothing here says how much another split or seed would change" in text
    assert "corrected |" not in text


def test_learning_curves_have_a_table() -> None:
    rows = table(*({"n_train": n, "mae": 2.0 * n**-0.25} for n in (100, 400, 1600)))
    text = report(rows, errors_of(rows, {("cgcnn", "default"): [1.0]}))
    assert "MAE (log10(GPa)) of 1,600 rows" in text
    line = next(line for line in text.splitlines() if "(SE " in line)
    assert "-0.250 (SE 0.000)" in line
    assert "Slope: of a straight line" in text


def test_classes_show_their_own_scores() -> None:
    change = {"property": "is_metal", "unit": "", "task": "classification", "mae": None}
    scores = {"auc": 0.95, "accuracy": 0.9, "accuracy_0": 0.8, "accuracy_1": 0.7}
    rows = table({**change, **scores})
    text = report(rows, errors_of(rows, {("cgcnn", "default"): [0.1]}))
    assert "| model | setting | ROC AUC | accuracy | accuracy of class 0 |" in text
    assert "MAE" not in text


def test_a_repetition_that_is_missing_everywhere() -> None:
    """An unfinished comparison: intervals over what is there, no t of one repetition."""
    rows, errors = compared(repetitions=1)
    missing = ("K-r1-nall-cgcnn-default", "K-r1-nall-soap_svr-default")
    text = report(rows, errors, replace(FACTS, missing=missing))
    first = text.splitlines()[0]
    assert first.startswith("**Unfinished: 2 of 4 cells are missing** (`K-r1-nall-cgcnn-default`, ")
    assert "`raymat resume` runs them" in first
    assert "One repetition: nothing here says" in text
    assert "t over" not in text
    assert "Unfinished" not in report(rows, errors)


def test_many_missing_cells_are_not_all_named() -> None:
    missing = tuple(f"cell-{k}" for k in range(9))
    text = markdown_report(*[pd.DataFrame()] * 3, replace(FACTS, missing=missing, n_cells=9))
    assert "9 of 9 cells are missing** (`cell-0`, `cell-1`, `cell-2`, 6 more)." in text
    assert text.endswith(f"```bash\n{FACTS.command}\n```\n")


# --- notes ---------------------------------------------------------------------------------------


def notes_of(*changes: dict[str, Any], **facts: Any) -> str:
    summary = summarise(table(*changes))
    return "\n".join(notes(summary, replace(FACTS, **facts), has_sizes=False))


def test_default_of_a_closed_form_model_is_one_fit() -> None:
    svr = {"model": "soap_svr", "n_trials": 1, "n_trials_complete": 1, "first_mae": 0.1}
    text = notes_of({}, svr)
    assert "The default of cgcnn has as many seeds as a search has trials" in text
    assert "soap_svr: solved in closed form" in text
    assert "the default is one fit and stands against the best of N trials" in text
    alone = notes_of(svr)
    assert "as many seeds" not in alone
    assert "soap_svr: solved in closed form" in alone
    assert "The default has as many seeds as a search has trials" in notes_of({})
    assert "default" not in notes_of({"setting": "tuned"})


def test_first_seed_is_explained_where_it_is_shown() -> None:
    words = "first seed alone"
    assert words in notes_of({"first_mae": 0.2})
    assert words not in notes_of({})
    assert words not in notes_of({"task": "classification", "mae": None, "auc": 0.9})


def test_asha_is_said_to_stop_seeds_too() -> None:
    words = "seeds of a default just the same, when they fall behind (cgcnn)"
    assert words in notes_of({}, stopped_early=("cgcnn",))
    assert "ASHA" not in notes_of({})


def test_to_their_end_is_explained_where_it_stands() -> None:
    assert "`k to their end`" in notes_of({"n_trials_complete": 2})
    assert "to their end" not in notes_of({})


def test_times_say_what_they_hold() -> None:
    text = notes_of({})
    for words in (
        "training steps of the chosen model alone", "without validation",
        "while other trials shared the machine",
        "extrapolated from at most 512 crystals on one core, imports not counted",
    ):  # fmt: skip
        assert words in text


def test_remarks_of_the_plan_are_notes() -> None:
    assert "\ncgcnn: of 6 trials, 1 is the default.\n" in notes_of(
        {}, remarks=("cgcnn: of 6 trials, 1 is the default",)
    )


# --- facts of a plan -----------------------------------------------------------------------------


def facts_of(**changes: Any) -> PlanFacts:
    content = {
        "data": "e.parquet",
        "properties": {"K": {"rows": 50}},
        "models": ["cgcnn"],
        "repetitions": 2,
        "first_seed": 5,
        "budget": {"trials": 1, "epochs": 9},
        **changes,
    }
    data = DataFacts({"K": "`e` (80 rows)"}, {"K": 3}, {"K": ("repetition 0",)})
    return plan_facts(parse_plan(content, path="p"), data=data, command="c", missing=("a",))


def test_facts_of_a_plan() -> None:
    facts = facts_of()
    assert facts.data["K"].startswith("`e` (80 rows); a random subset of 50 usable rows (seed 0)")
    assert facts.data["K"].endswith("3 left out for all models because one cannot read them")
    assert facts.budgets == {"cgcnn": "1 trial of at most 9 epochs"}
    assert facts.split == "random (0.8 training, 0.1 validation, 0.1 test), seed 5 + repetition"
    assert facts.parts == {"K": ("repetition 0",)}
    assert (facts.n_cells, facts.missing) == (4, ("a",))


def test_facts_on_folds() -> None:
    split = facts_of(split={"kind": "kfold", "n_folds": 3}).split
    assert split.startswith("kfold (repetition r tests fold r of 3, 0.1 of the other rows")
    assert split.endswith("one shuffle with seed 5")


def test_facts_on_models() -> None:
    asha = {"name": "asha", "grace_period": 2}
    facts = facts_of(models=["cgcnn", "soap_svr"], scheduler=asha)
    assert facts.closed_form == ("soap_svr",)
    assert facts.stopped_early == ("cgcnn",)
    assert facts_of(scheduler={"name": "none"}).stopped_early == ()
    assert [remark.split(":")[0] for remark in facts.remarks] == ["cgcnn", "soap_svr"]
