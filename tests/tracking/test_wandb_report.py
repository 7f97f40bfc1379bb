"""A W&B report is made, written and read back without any network."""

import socket
from pathlib import Path

import pytest
from made_runs import write_search

from raymat.errors import ConfigError, RunError
from raymat.tracking import wandb_report
from raymat.tracking.run_directory import RunDirectory
from raymat.tracking.wandb_report import (
    build_report,
    define_report,
    describe_study,
    publish_report,
    read_definition,
    write_definition,
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def studies(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "cgcnn-1", tmp_path / "megnet-1"]
    for path in paths:
        write_search(path)
    return paths


def test_study_is_described_by_its_log(studies):
    study = describe_study(studies[0])
    assert (study.group, study.score, study.searched) == ("cgcnn-1", "val_mae", ("training.lr",))


def test_report_compares_studies(studies, tmp_path):
    path = write_definition(define_report(studies, title="two models"), tmp_path / "wandb")
    report = build_report(read_definition(path), entity="team")
    assert (report.title, report.project, report.entity) == ("two models", "raymat", "team")
    grid = report.blocks[-1]
    assert [s.name for s in grid.runsets] == ["cgcnn-1", "megnet-1"]
    assert {s.entity for s in grid.runsets} == {"team"}
    assert "Metric(\"Group\") == 'cgcnn-1'" in grid.runsets[0].filters
    kinds = {type(panel).__name__ for panel in grid.panels}
    assert kinds >= {"LinePlot", "ScatterPlot", "ParallelCoordinatesPlot"}
    assert "ParameterImportancePlot" in kinds


def test_report_is_what_wandb_would_be_sent(studies):
    report = build_report(define_report(studies, title="x"), entity="")  # nobody's: no look-up
    sent = report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    assert '"config:training.value.lr"' in sent  # where a nested configuration has it
    assert '"summary:best_val_mae"' in sent
    assert '"targetKey":"best_val_mae"' in sent


def test_comparison_is_shown_as_bars(tmp_path):
    path = tmp_path / "four-models"
    with RunDirectory.create(path, {"command": "compare"}) as run:
        for prop, score in (("log10_K_VRH", {"mae": 0.1}), ("is_metal", {"auc": 0.9})):
            row = {"model": "cgcnn", "setting": "tuned", "property": prop, "repetition": 0, **score}
            run.emit("cell_ended", cell=f"{prop}-r0", row=row)
    study = describe_study(path)
    assert study.compared == (("log10_K_VRH", "mae"), ("is_metal", "auc"))
    file = write_definition(define_report([path], title="models"), tmp_path)
    report = build_report(read_definition(file), entity="")
    grids = [block for block in report.blocks if type(block).__name__ == "PanelGrid"]
    assert len(grids) == 2  # none of trials: a comparison's own are in its cells
    assert "Config(\"property\") == 'is_metal'" in grids[1].runsets[0].filters
    sent = report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    assert '"summary:auc"' in sent
    assert '"groupBy":"compared.value"' in sent


@pytest.mark.parametrize("text", [None, "{torn", "{}"])
def test_definition_that_cannot_be_read(tmp_path, text):
    if text is not None:
        (tmp_path / "r.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"r\.json: cannot be read"):
        publish_report(tmp_path / "r.json", "team")


def test_report_without_the_package(studies, monkeypatch):
    monkeypatch.setattr(wandb_report, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'raymat\[wandb\]'"):
        build_report(define_report(studies, title="x"), entity="team")
