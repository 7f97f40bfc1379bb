"""Charts of explanations: what they are made of, and which labels are joined."""

import altair as alt
import pandas as pd

from raymat.explain.finish import CLASSES
from raymat.features.coarse_graphs import N_LABELS, LabelKind
from raymat.reports.page import charts
from raymat.reports.page.explanation_findings import Findings
from raymat.reports.page.parts import Chart

# Okabe & Ito's, readable on a light and on a dark page; low and high as in the run's own figures.
CLASS_COLORS = ("#d55e00", "#0072b2")
_ROW_HEIGHT = {"group": 19, "period": 34}  # pixels
_GAP = 1  # columns between the heat maps of the two classes


def label_rows(found: Findings, labels: str) -> pd.DataFrame:
    """Give a row for each label and class: how often it occurs, and in the training crystals."""
    own = _of(found, labels, "node").rename(columns={"a": labels})
    own["share"] = own["share"].where(~own["class"].isin(_without(own)))  # not a share of 0 %
    return own[[labels, "class", "count", "share", "training_share", "ratio"]]


def edge_rows(found: Findings, labels: str) -> pd.DataFrame:
    """Give a row for each pair of labels (a <= b) and class."""
    own = _of(found, labels, "edge").astype({"b": int})
    return own[["class", "a", "b", "count", "share", "training_share", "ratio"]]


def _without(rows: pd.DataFrame) -> list[str]:
    """Give the classes of which there is no explanation."""
    counts = rows.groupby("class", sort=False)["count"].sum()
    return [str(word) for word, count in counts.items() if not count]


def _say_without(words: list[str]) -> str:
    return "".join(f" There are no explanations of {word}." for word in words)


def _of(found: Findings, labels: str, kind: str) -> pd.DataFrame:
    own = found.summary[(found.summary["labels"] == labels) & (found.summary["kind"] == kind)]
    words = [found.word(int(c)) for c in own["target_class"]]
    return own.assign(**{"class": words}).reset_index(drop=True)


def label_chart(found: Findings, labels: LabelKind) -> Chart:
    """Draw the share of every label among the nodes of either class, side by side."""
    rows = label_rows(found, labels)
    has_training = bool(rows["training_share"].notna().any())
    shown = charts.base()
    x = alt.X(f"{labels}:O", title=labels, axis=alt.Axis(labelAngle=0))
    offset = alt.XOffset("class:N", sort=_words(found))
    tips = [
        alt.Tooltip(field=labels, type="ordinal"),
        alt.Tooltip("class:N"),
        alt.Tooltip("count:Q", title="nodes"),
        *_share_tips("nodes"),
    ]
    bars = shown.mark_bar().encode(
        x=x,
        xOffset=offset,
        y=alt.Y("share:Q", title="share of nodes", axis=alt.Axis(format="%")),
        color=_color(found),
        tooltip=tips,
    )
    marks = shown.mark_point(
        shape="diamond",
        filled=True,
        fill="white",
        stroke="#222222",
        strokeWidth=1,
        opacity=1,
        size=34,
    ).encode(x=x, xOffset=offset, y="training_share:Q", tooltip=tips)
    drawn = (
        bars + marks if has_training else bars + shown.mark_point(size=0).encode(x=x)
    ).properties(width=charts.WIDTH, height=charts.HEIGHT)
    caption = (
        "Bars are of the nodes of all explanations of a class; a diamond is the share among the"
        " atoms of the training crystals of that class. Graphs begin with a label drawn uniformly,"
        " so labels that crystals rarely have stand above their diamond in both classes: what tells"
        " is where the classes differ."
        if has_training
        else "Of the nodes of the explanations that there are so far."
    )
    caption += _say_without(_without(rows))
    return charts.chart(f"{labels.capitalize()}s in explanations", drawn, rows, caption)


def edge_chart(found: Findings, labels: LabelKind) -> Chart:
    """Draw heat maps of the pairs of labels that are joined: one for each class, on one scale."""
    rows = edge_rows(found, labels)
    n, words = N_LABELS[labels], _words(found)
    places = list(range(1, 2 * n + _GAP + 1))
    second = n + _GAP
    label = (
        f"datum.value > {second} ? datum.value - {second} : datum.value > {n} ? '' : datum.value"
    )
    axis = alt.Axis(labelAngle=0, labelExpr=label, labelOverlap=True, ticks=False, domain=False)
    x = alt.X("place:O", title=labels, scale=alt.Scale(domain=places), axis=axis)
    y_axis = alt.Axis(ticks=False, domain=False)
    cells = (
        charts.base()
        .transform_filter("datum.count > 0")
        .transform_calculate(place=f"datum.a + (datum['class'] === '{words[1]}' ? {second} : 0)")
        .mark_rect()
        .encode(
            x=x,
            y=alt.Y("b:O", title=labels, scale=alt.Scale(domain=places[:n]), axis=y_axis),
            color=alt.Color(
                "share:Q",
                title="share of edges",
                scale=alt.Scale(scheme="viridis", type="sqrt", domainMin=0),
                legend=alt.Legend(format="%", gradientLength=220),
            ),
            tooltip=[
                alt.Tooltip("class:N"),
                alt.Tooltip("a:O", title=labels),
                alt.Tooltip("b:O", title=f"joined to {labels}"),
                alt.Tooltip("count:Q", title="edges"),
                *_share_tips("edges"),
            ],
        )
    )
    empty = _without(rows)
    names = [f"{word}: no explanations" if word in empty else word for word in words]
    heads = [{"place": 1 + c * second + n // 2, "text": names[c], "b": 1} for c in CLASSES]
    titles = (
        alt.Chart(alt.InlineData(values=heads))
        .mark_text(fontSize=13, fontWeight="bold", baseline="top")
        .encode(x=x, y=alt.Y("b:O"), text="text:N")
    )
    drawn = (cells + titles).properties(width=charts.WIDTH, height=_ROW_HEIGHT[labels] * n)
    caption = (
        f"Left {words[0]}, right {words[1]}. Each pair stands once, the smaller label below."
        " Where there is no cell, no explanation has an edge of that pair. Colors follow the"
        " square root of the share."
    ) + _say_without(empty)
    return charts.chart(f"{labels.capitalize()}s that are joined", drawn, rows, caption)


def _share_tips(what: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("share:Q", title=f"share of {what}", format=".2%"),
        alt.Tooltip("training_share:Q", title="in training crystals", format=".2%"),
        alt.Tooltip("ratio:Q", title="ratio", format=".3g"),
    ]


def _words(found: Findings) -> list[str]:
    return [found.word(c) for c in CLASSES]


def _color(found: Findings) -> alt.Color:
    scale = alt.Scale(domain=_words(found), range=list(CLASS_COLORS))
    return alt.Color("class:N", title=None, scale=scale)
