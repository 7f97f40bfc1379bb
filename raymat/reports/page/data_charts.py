"""Charts of a data set: histograms with their numbers counted here, and bars by name."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.reports.intervals import intervals
from raymat.reports.page.charts import ROW_HEIGHT, base, chart, tips
from raymat.reports.page.parts import Chart


def histogram(title: str, values: NDArray[np.float64], label: str, caption: str = "") -> Chart:
    """Draw how many of (n,) values lie in each of some equal intervals.

    The few values far out are in the outermost intervals, and the caption says so.

    Args:
        title: over it.
        values: in the unit that `label` tells.
        label: name and unit.
        caption: under it.
    """
    edges = intervals(values)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    rows = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "crystals": counts})
    n_out = int(((values < edges[0]) | (values > edges[-1])).sum())
    if n_out:
        ends = f"{values.min():.4g} to {values.max():.4g}"
        beyond = "1 value" if n_out == 1 else f"{n_out:,} values"
        far = f"The outermost bars hold {beyond} beyond the axis; all lie in {ends}."
        caption = f"{caption} {far}".strip()
    drawn = (
        base()
        .mark_bar(binSpacing=0)
        .encode(
            x=alt.X("from:Q", bin="binned", title=label),
            x2="to",
            y=alt.Y("crystals:Q", title="crystals"),
            tooltip=tips(rows, "from", "to", "crystals"),
        )
    )
    return chart(title, drawn, rows, caption)


def counts(title: str, names: Sequence[str], numbers: Sequence[int], caption: str = "") -> Chart:
    """Draw a bar for each name, in the order given."""
    rows = pd.DataFrame({"name": list(names), "crystals": list(numbers)})
    drawn = (
        base()
        .mark_bar()
        .encode(
            x=alt.X("crystals:Q", title="crystals"),
            y=alt.Y("name:N", sort=None, title=None),
            tooltip=tips(rows, "name", "crystals"),
        )
        .properties(height=ROW_HEIGHT * max(1, len(rows)))
    )
    return chart(title, drawn, rows, caption)
