"""The map of a run's latent space: which crystals its model finds alike, and where it errs."""

from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd

from raymat.reports.drawing import with_unit
from raymat.reports.page import charts
from raymat.reports.page.failing_parts import parts_or_note
from raymat.reports.page.parts import Chart, Part, Section
from raymat.reports.page.run_files import RunFiles
from raymat.training.latent_map import LATENT_MAP

_PLACES = ["material_id", "part", "x", "y"]
_SHAPES = {"train": "circle", "validation": "diamond", "test": "triangle-up"}
_SIZES = {"train": 18, "validation": 22, "test": 40}  # square pixels
_EDGE = 8  # pixels beside the outermost crystals
_FULL_SIZE = 700  # crystals of a map below which they are drawn larger
_TAIL = 0.02  # share of the crystals beyond each end of the colors: a few would take them all
_TIPS = ("material_id", "part", "target", "prediction", "error")
_MEANING = (
    "t-SNE lays crystals side by side that are alike to the model, by the vectors from which it"
    " predicts. Only who is near whom means something: neither the distances between groups, nor"
    " their sizes, nor the directions do, and another seed would lay them elsewhere. Click a part"
    " in the legend to see it alone."
)
_TRAINING = "The model learned from the training rows, so theirs are no errors of prediction."


def sections(run: RunFiles) -> list[Section]:
    """Give the section on the latent space; none for a run that has no map."""
    if not run.has(LATENT_MAP):
        return []
    return [Section("Latent space", parts_or_note(lambda: _maps(run)))]


def _maps(run: RunFiles) -> Iterator[Part]:
    rows = _rows(run)
    if rows.empty:
        return
    target, unit = str(run.header.get("target", "target")), str(run.header.get("unit", ""))
    is_class = run.header.get("task") == "classification"
    color = _class_color(target) if is_class else _number_color(rows, "target", target, unit)
    yield _map(rows, "Latent space, by target", color, f"{_say_counts(run, rows)} {_MEANING}")
    if rows["error"].notna().any():
        what = "absolute error of P(class 1)" if is_class else "absolute error"
        worst_on_top = rows.sort_values("error", na_position="first", kind="stable")
        color = _number_color(rows, "error", what, unit)
        yield _map(worst_on_top, "Latent space, by error", color, _TRAINING)


def _rows(run: RunFiles) -> pd.DataFrame:
    """Give the places with target, prediction and absolute error; test rows last, on top."""
    places = run.table(LATENT_MAP, columns=_PLACES)
    value = "mean" if run.header.get("command") == "ensemble" else "prediction"
    known = run.table("predictions.parquet", columns=["material_id", "target", value])
    known = known.rename(columns={value: "prediction"})
    rows = places.merge(known, on="material_id", how="left", validate="one_to_one")
    order = rows["part"].map({part: place for place, part in enumerate(_SHAPES)})
    rows = rows.assign(error=(rows["prediction"] - rows["target"]).abs())
    return rows.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def _say_counts(run: RunFiles, rows: pd.DataFrame) -> str:
    counts = rows["part"].value_counts()
    told = ", ".join(f"{counts[part]:,} {part}" for part in _SHAPES if part in counts)
    total = sum(((run.header.get("split") or {}).get("rows") or {}).values())
    drawn = f" of {total:,} crystals, drawn at random" if total > len(rows) else " crystals"
    is_ensemble = run.header.get("command") == "ensemble"
    whose = " Places are those of one member, predictions the mean of all." if is_ensemble else ""
    return f"{len(rows):,}{drawn}: {told}.{whose}"


def _number_color(rows: pd.DataFrame, column: str, name: str, unit: str) -> alt.Color:
    low, high = (float(rows[column].quantile(share)) for share in (_TAIL, 1.0 - _TAIL))
    low = 0.0 if column == "error" else low
    domain = [low, high] if high > low else [low, low + 1.0]
    scale = alt.Scale(scheme="viridis", domain=domain, clamp=True)
    legend = alt.Legend(gradientLength=220)
    return alt.Color(f"{column}:Q", title=with_unit(name, unit), scale=scale, legend=legend)


def _class_color(target: str) -> alt.Color:
    scale = alt.Scale(domain=[0, 1], range=["#e69f00", "#0072b2"])
    return alt.Color("target:N", title=f"class of {target}", scale=scale)


def _map(rows: pd.DataFrame, title: str, color: alt.Color, caption: str) -> Chart:
    parts = [part for part in _SHAPES if part in set(rows["part"])]
    chosen = alt.selection_point(name="part", fields=["part"], bind="legend")
    shapes = alt.Scale(domain=parts, range=[_SHAPES[part] for part in parts])
    room = float(np.clip(_FULL_SIZE / len(rows), 1.0, 4.0))
    sizes = alt.Scale(domain=parts, range=[room * _SIZES[part] for part in parts])
    legend = alt.Legend(title=None, symbolOpacity=1)
    axis = alt.Axis(labels=False, ticks=False, grid=False)
    drawn = (
        charts.base()
        .mark_point(filled=True, stroke="#808080", strokeWidth=0.4)
        .encode(
            x=alt.X(**charts.quantity("x", "t-SNE 1", padding=_EDGE), axis=axis),
            y=alt.Y(**charts.quantity("y", "t-SNE 2", padding=_EDGE), axis=axis),
            color=color,
            shape=alt.Shape("part:N", scale=shapes, sort=parts, legend=legend),
            size=alt.Size("part:N", scale=sizes, sort=parts, legend=legend),
            opacity=alt.condition(chosen, alt.value(0.85), alt.value(0.06)),
            tooltip=charts.tips(rows, *_TIPS),
        )
        .properties(height=480)
        .add_params(chosen)
    )
    return charts.chart(title, charts.zoomable(drawn), rows, caption)
