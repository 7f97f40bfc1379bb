"""A search that its user ends early: no further trial, and the best there is scored."""

from pathlib import Path
from typing import Any

import pytest
from spaces import small_space

from raymat.cli import main
from raymat.cluster.tune import resume_tune, tune
from raymat.data.splits import SplitConfig
from raymat.tracking.events import read_events
from raymat.tracking.run_directory import read_header
from raymat.tuning.request import TuneRequest


def stop_at_second_trial(event: dict[str, Any]) -> None:
    if event["event"] == "epoch" and event["trial"] == 1:
        raise KeyboardInterrupt


@pytest.mark.long
def test_the_best_so_far_is_the_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    space = small_space(budget={"trials": 50, "epochs": 4})
    request = TuneRequest(
        space=dict(space.content),
        space_path=space.path,
        data="delta",
        target="log10_bulk_modulus",
        split=SplitConfig(),
        concurrency=1,
    )
    with pytest.raises(KeyboardInterrupt):
        tune(request, tmp_path / "run", listeners=(stop_at_second_trial,))
    metrics = resume_tune(tmp_path / "run", finish_now=True)
    assert metrics["winner"]["trial"] in (0, 1)
    assert metrics["winner"]["val_score_refitted"] == metrics["winner"]["val_score_in_search"]
    events = read_events(tmp_path / "run" / "events.jsonl")
    ended = {e["trial"]: e["status"] for e in events if e["event"] == "trial_ended"}
    assert ended == {0: "complete", 1: "stopped"}
    assert read_header(tmp_path / "run")["status"] == "complete"


def test_only_a_search_ends_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text('{"command": "train", "status": "interrupted"}')
    assert main.run(["resume", str(tmp_path), "--finish"]) == 2
    assert "--finish ends a search early; this is a train run" in capsys.readouterr().err
