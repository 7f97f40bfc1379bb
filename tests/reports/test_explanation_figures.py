"""Pictures of explanations, read back from their artists."""

import json
from pathlib import Path

import numpy as np
import pytest

from raymat.errors import RunError
from raymat.explain.explanations import Explanation, Task
from raymat.explain.summary import (
    LabelCounts,
    count_explanations,
    summary_rows,
    summary_table,
)
from raymat.reports.explanation_figures import (
    N_MOTIFS,
    edge_figure,
    graph_layout,
    label_figure,
    motif_figure,
    read_explanations,
    save_explanation_figures,
)

LOW = [Explanation(i, i, (4, 4, 5), ((0, 1), (1, 2)), 0.9, 1) for i in range(3)]
HIGH = [Explanation(i, i, (1, 2), ((0, 1),), 0.95, 2) for i in range(2)]


def write_run(folder: Path, low=LOW, high=HIGH) -> Path:
    """Write what an explanation run of periods leaves."""
    folder.mkdir()
    training = LabelCounts(np.arange(7), np.triu(np.ones((7, 7), dtype=int)))
    rows, lines = [], []
    for c, found in ((0, low), (1, high)):
        rows += summary_rows(Task("period", c), count_explanations(found, "period"), training)
        head = {"property": "band_gap", "labels": "period", "target_class": c, "member": 0}
        lines += [json.dumps({**head, **e.to_dict()}) + "\n" for e in found]
    summary_table(rows).to_csv(folder / "summary.csv", index=False)
    (folder / "explanations.jsonl").write_text("".join(lines), encoding="utf-8")
    metrics = {"target": "band_gap", "threshold": 0.5, "explanations": [{"labels": "period"}]}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


@pytest.fixture
def results(tmp_path):
    (found,) = read_explanations(write_run(tmp_path / "run"))
    return found


def test_run_is_read_back(results):
    assert (results.target, results.labels) == ("band_gap", "period")
    assert results.explanations == {0: LOW, 1: HIGH}


def test_bars_are_shares_of_nodes_beside_those_of_crystals(results):
    (axes,) = label_figure(results).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights[:7] == pytest.approx([0, 0, 0, 200 / 3, 100 / 3, 0, 0])
    assert heights[7:] == pytest.approx([50, 50, 0, 0, 0, 0, 0])
    for lines in axes.collections:
        known = [segment[0, 1] for segment in lines.get_segments()]
        assert known == pytest.approx([100 * n / 21 for n in range(7)])
    assert [t.get_text() for t in axes.get_xticklabels()] == [str(n) for n in range(1, 8)]


def test_heat_maps_share_one_scale_and_leave_the_upper_half_empty(results):
    low, high = edge_figure(results).axes[:2]
    images = [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in (low, high)]
    assert images[0][3, 3] == pytest.approx(50)
    assert images[0][4, 3] == pytest.approx(50)
    assert images[1][1, 0] == pytest.approx(100)
    assert np.isnan(images[0][np.triu_indices(7, 1)]).all()
    assert low.images[0].get_clim() == high.images[0].get_clim() == (0, 100)
    assert [t.get_text() for t in high.texts] == ["100"]


def test_motifs_are_drawn_with_their_nodes_and_edges(results):
    axes = motif_figure(results).axes
    assert len(axes) == 2 * N_MOTIFS
    first, other = axes[0], axes[N_MOTIFS]
    assert first.get_title() == "3 of 3"
    assert sorted(t.get_text() for t in first.texts) == ["4", "4", "5", "low"]
    assert len(first.lines) == 2
    assert len(first.collections[0].get_offsets()) == 3
    assert other.get_title() == "2 of 2"
    assert len(axes[1].collections) == 0  # there is one motif only


@pytest.mark.parametrize(
    ("n", "edges"),
    [
        (2, [(0, 1)]),
        (4, [(0, 1), (1, 2), (2, 3), (0, 3)]),
        (6, [(0, i) for i in range(1, 6)]),
    ],
)
def test_nodes_keep_apart_inside_the_unit_circle(n, edges):
    places = graph_layout(n, edges)
    assert places.shape == (n, 2)
    gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    assert gaps[np.triu_indices(n, 1)].min() > 0.5
    assert np.hypot(*places.T).max() <= 1.0 + 1e-9


def test_figures_are_files(tmp_path):
    files = save_explanation_figures(write_run(tmp_path / "run"))
    names = {"labels-period", "edges-period", "motifs-period"}
    assert {path.name for path in files} == {f"{n}.{e}" for n in names for e in ("png", "svg")}
    assert all(path.stat().st_size > 2000 for path in files)


def test_class_without_explanations_is_drawn_empty(tmp_path):
    """Nothing that could be read as a share of 0 %."""
    run = write_run(tmp_path / "run", high=[])
    assert len(save_explanation_figures(run)) == 6
    (results,) = read_explanations(run)
    (bars,) = label_figure(results).axes
    assert np.isnan([bar.get_height() for bar in bars.patches[7:]]).all()
    assert not np.isnan([bar.get_height() for bar in bars.patches[:7]]).any()
    _, labels = bars.get_legend_handles_labels()
    assert "high: no explanations" in labels
    low, high, *_ = edge_figure(results).axes
    assert len(low.images) == 1
    assert not high.images
    assert high.patch.get_hatch() == "//"
    assert [text.get_text() for text in high.texts] == ["no explanations"]
    row = motif_figure(results).axes[N_MOTIFS:]
    assert [text.get_text() for text in row[0].texts] == ["no explanations", "high"]
    assert save_explanation_figures(write_run(tmp_path / "none", low=[], high=[])) == []


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(RunError, match="not a finished explanation run"):
        save_explanation_figures(tmp_path)
    run = write_run(tmp_path / "run")
    (run / "explanations.jsonl").write_text("{torn", encoding="utf-8")
    with pytest.raises(RunError, match="not a finished explanation run, or damaged"):
        save_explanation_figures(run)
