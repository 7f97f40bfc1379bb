"""A comparison as Markdown: scores, paired differences, learning curves, and how to read them."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from raymat.reports.comparison_notes import PlanFacts, notes
from raymat.reports.comparison_pairs import say_told_apart, say_verdicts
from raymat.reports.comparison_statistics import largest_size, records, summarise
from raymat.reports.number_text import signed, signed_interval, size, spread

_SCORES = {
    "regression": {"mae": "MAE", "rmse": "RMSE", "r2": "R2"},
    "classification": {
        "auc": "ROC AUC",
        "accuracy": "accuracy",
        "accuracy_0": "accuracy of class 0",
        "accuracy_1": "accuracy of class 1",
    },
}
_WITH_UNIT = ("mae", "rmse")
_N_NAMED = 3  # missing cells that are named


def markdown_report(
    rows: pd.DataFrame, differences: pd.DataFrame, slopes: pd.DataFrame, facts: PlanFacts
) -> str:
    """Write the tables of a comparison, property by property, as far as it has results.

    Args:
        rows: as for `summarise`; there may be none.
        differences: as `paired_differences` gives them.
        slopes: as `learning_curve_fit` gives them.
        facts: of the plan.

    Raises:
        RunError: a cell stands in the rows twice.
    """
    parts = [*_unfinished(facts), "```bash", facts.command, "```"]
    if rows.empty:
        return "\n".join(parts) + "\n"
    summary = summarise(rows)
    for name, own in summary.groupby("property", sort=False):
        pairs = differences[differences["property"] == name]
        curves = slopes[slopes["property"] == name]
        parts += ["", *_property_section(str(name), own, pairs, curves, facts)]
    has_sizes = bool((slopes["n_sizes"] > 1).any())
    parts += ["", "## How to read this", ""]
    parts += [f"- {note}" for note in notes(summary, facts, has_sizes=has_sizes)]
    return "\n".join(parts) + "\n"


def _unfinished(facts: PlanFacts) -> Iterator[str]:
    if not facts.missing:
        return
    n = len(facts.missing)
    named = [f"`{name}`" for name in facts.missing[:_N_NAMED]]
    more = [f"{n - _N_NAMED} more"] if n > _N_NAMED else []
    yield (
        f"**Unfinished: {n} of {facts.n_cells} cells are missing** ({', '.join([*named, *more])})."
        " `raymat resume` runs them; until then what stands here can change."
    )
    yield ""


def _property_section(
    name: str, own: pd.DataFrame, pairs: pd.DataFrame, curves: pd.DataFrame, facts: PlanFacts
) -> Iterator[str]:
    largest = largest_size(own)
    full = own[own["training_size"] == largest]
    first = full.iloc[0]
    yield f"## {_with_unit(name, first['unit'])}"
    yield ""
    yield f"Data: {facts.data[name]}. Split: {facts.split}."
    yield ""
    yield from (f"- {line}" for line in facts.parts.get(name, ()))
    yield ""
    at_full = pairs[pairs["training_size"] == largest]
    yield from _score_table(full, at_full, facts)
    for line in say_verdicts(at_full).get(name, ()) if len(at_full) else ():
        yield ""
        yield line
    if len(at_full):
        yield ""
        yield from _difference_table(at_full)
    if len(own["training_size"].unique()) > 1 and len(curves):
        yield ""
        yield from _curve_table(own, curves)


def _score_table(full: pd.DataFrame, pairs: pd.DataFrame, facts: PlanFacts) -> Iterator[str]:
    first = full.iloc[0]
    scores = {k: v for k, v in _SCORES[first["task"]].items() if f"{k}_mean" in full}
    titles = [
        _with_unit(title, first["unit"]) if key in _WITH_UNIT else title
        for key, title in scores.items()
    ]
    has_first = "first_mae_mean" in full and full["first_mae_mean"].notna().any()
    if has_first:
        titles.insert(1, _with_unit("MAE of the first seed alone", first["unit"]))
    others = ["training (s)", "features (s)", "parameters", "stored", "device", "spent"]
    yield from _head(["model", "setting", *titles, *others], n_text=2)
    bold = _told_best(full, pairs)
    for row in records(full):
        cells = [_score(row, key) for key in scores]
        if (row["model"], row["setting"]) in bold:
            cells[0] = f"**{cells[0]}**"
        if has_first:
            cells.insert(1, _score(row, "first_mae"))
        yield _row([row["model"], _setting(row, facts), *cells, *_costs(row, facts)])


def _costs(row: Mapping[str, Any], facts: PlanFacts) -> list[str]:
    return [
        _score(row, "train_time_s"),
        _score(row, "featurize_time_s"),
        _score(row, "n_parameters"),
        size(row["model_bytes_mean"], row["model_bytes_std"]),
        str(row["device"]),
        _spent(row, facts),
    ]


def _spent(row: Mapping[str, Any], facts: PlanFacts) -> str:
    """Give how many trials, seeds or fits a cell had, and how many of them reached their end."""
    planned, ended = row.get("n_trials_mean"), row.get("n_trials_complete_mean")
    if planned is None or pd.isna(planned):
        return "-"
    what = "fits" if row["model"] in facts.closed_form else "seeds"
    what = "trials" if row["setting"] == "tuned" else what
    text = f"{spread(planned)} {what if planned != 1 else what[:-1]}"
    if ended is None or pd.isna(ended) or ended == planned:
        return text
    return f"{text}, {ended:.3g} to their end"


def _setting(row: Mapping[str, Any], facts: PlanFacts) -> str:
    n = row["n_repetitions"]
    missing = f" ({n} of {facts.repetitions} repetitions)" if n != facts.repetitions else ""
    return f"{row['setting']}{missing}"


def _told_best(full: pd.DataFrame, pairs: pd.DataFrame) -> set[tuple[str, str]]:
    """Give the best model of each setting, where all others are told apart from it."""
    against = pairs[pairs["comparison"] == "against the best"]
    n_models = full["setting"].value_counts().to_dict()
    bold = set()
    for setting, own in against.groupby("setting"):
        if own["told_apart"].eq(True).all() and len(own) == n_models[setting] - 1:
            bold.add((str(own.iloc[0]["other_model"]), str(setting)))
    return bold


def _difference_table(pairs: pd.DataFrame) -> Iterator[str]:
    first, n_repetitions = pairs.iloc[0], int(pairs["n_repetitions"].max())
    metric = first["metric"]
    title = _with_unit("MAE", first["unit"]) if metric == "mae" else "accuracy"
    columns = [f"difference in {title}", f"t over {n_repetitions} repetitions"]
    columns += ["t, corrected", "bootstrap over crystals", "rows", "told apart"]
    if n_repetitions < 2:
        columns[1:3] = []
    yield from _head(["first", "minus second", *columns], n_text=2)
    seen = set()
    for row in records(pairs):
        names = _pair_names(row)
        if frozenset(names) in seen:  # also compared with the best
            continue
        seen.add(frozenset(names))
        t = [signed_interval(row[f"{k}_low"], row[f"{k}_high"]) for k in ("t", "corrected")]
        yield _row(
            [
                *names,
                signed(row["difference"]),
                *(t if n_repetitions > 1 else []),
                signed_interval(row["bootstrap_low"], row["bootstrap_high"]),
                f"{row['n_rows']:,} of {row['n_crystals']:,} crystals",
                say_told_apart(row["told_apart"]),
            ]
        )


def _pair_names(row: Mapping[str, Any]) -> tuple[str, str]:
    own = f"{row['model']}, {row['setting']}"
    return own, f"{row['other_model']}, {row['other_setting']}"


def _curve_table(own: pd.DataFrame, curves: pd.DataFrame) -> Iterator[str]:
    sizes = own.groupby("training_size", sort=False)["n_train"].first().sort_values()
    mae = _with_unit("MAE", own.iloc[0]["unit"])
    shown = [f"{mae} of {n:,} rows" for n in sizes]
    yield from _head(["model", "setting", *shown, "slope", "95 % interval"], n_text=2)
    scores = {(r["model"], r["setting"], r["training_size"]): r for r in records(own)}
    for curve in records(curves):
        model, setting = curve["model"], curve["setting"]
        cells = [_score(scores.get((model, setting, n), {}), "mae") for n in sizes.index]
        slope = f"{curve['slope']:+.3f} (SE {curve['slope_se']:.3f})"
        ends = signed_interval(curve["slope_low"], curve["slope_high"])
        yield _row([model, setting, *cells, "-" if pd.isna(curve["slope"]) else slope, ends])


def _score(row: Mapping[str, Any], key: str) -> str:
    if f"{key}_mean" not in row:
        return "-"
    return spread(row[f"{key}_mean"], row[f"{key}_std"])


def _head(titles: list[str], *, n_text: int) -> Iterator[str]:
    yield _row(titles)
    yield _row(["---"] * n_text + ["---:"] * (len(titles) - n_text))


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
