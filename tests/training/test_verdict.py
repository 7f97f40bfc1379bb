"""Whether a model beats what it must beat, row by row, and the words for it."""

import json
from pathlib import Path

import numpy as np
import pytest

from raymat.training.metrics import bootstrap_mean_interval, roc_auc, score_predictions
from raymat.training.verdict import judge, not_beaten, outcome, verdict_lines, warning_about_model

RNG = np.random.default_rng(0)
TARGETS = RNG.normal(size=300)
NOISE = RNG.normal(size=300)
GOOD, SAME, BAD = TARGETS + 0.1 * NOISE, TARGETS + 0.1 * NOISE[::-1], TARGETS + 0.3 * NOISE
MEAN = np.zeros(300)


def test_difference_is_of_the_same_rows() -> None:
    found = judge("regression", TARGETS, GOOD, {"mean": MEAN, "composition": BAD, "default": SAME})
    gains = np.abs(GOOD - TARGETS) - np.abs(BAD - TARGETS)
    low, high = bootstrap_mean_interval(gains)
    assert (found["metric"], found["n"]) == ("mae", 300)
    own = found["composition"]
    assert own["difference"] == pytest.approx(gains.mean())
    assert (own["lo"], own["hi"]) == (low, high)
    outcomes = {name: outcome(found, name) for name in ("mean", "composition", "default")}
    assert outcomes == {"mean": "better", "composition": "better", "default": "same"}
    (line,) = verdict_lines(found)
    assert line.startswith("The model beats the training mean (difference -0.7")
    assert f"95 % interval {low:+.3g} to {high:+.3g}); it does not differ from its default" in line
    assert json.loads(json.dumps(found)) == found


def test_model_that_loses_is_named_in_a_warning() -> None:
    found = judge("regression", TARGETS, BAD, {"mean": MEAN, "composition": GOOD})
    assert (outcome(found, "mean"), outcome(found, "composition")) == ("better", "worse")
    assert not_beaten(found) == ["composition"]
    line, warning = verdict_lines(found, model="The ensemble")
    assert "; it is worse than the composition forest (difference +0.1" in line
    assert warning == (
        "warning: the ensemble is not shown to beat the composition forest on these 300 test rows;"
        " draw no conclusions from it"
    )


def test_classes_are_compared_by_auc() -> None:
    classes = (TARGETS > 0).astype(float)
    found = judge("classification", classes, GOOD, {"mean": MEAN, "composition": BAD})
    assert found["metric"] == "auc"
    assert found["mean"]["difference"] == pytest.approx(roc_auc(classes, GOOD) - 0.5)
    assert outcome(found, "composition") == "better"  # a higher AUC
    worse = judge("classification", classes, BAD, {"composition": GOOD})
    assert outcome(worse, "composition") == "worse"
    assert worse["composition"]["lo"] == pytest.approx(-found["composition"]["hi"])


def test_few_rows_tell_nothing() -> None:
    few = slice(0, 4)
    found = judge("regression", TARGETS[few], GOOD[few], {"mean": MEAN[few]})
    assert found["mean"]["lo"] is None
    assert found["mean"]["difference"] is not None
    line, warning = verdict_lines(found)
    assert "cannot be compared, with so few rows, with the training mean" in line
    assert "not shown to beat the training mean on these 4 test rows" in warning
    some = slice(0, 7)
    found = judge("regression", TARGETS[some], GOOD[some], {"mean": MEAN[some]})
    assert "(few rows: 7)." in verdict_lines(found)[0]
    one_class = judge("classification", np.ones(20), GOOD[:20], {"mean": MEAN[:20]})
    assert one_class["mean"] == {"difference": None, "lo": None, "hi": None}


@pytest.mark.parametrize("n", [1, 4, 5])
def test_scores_that_few_rows_cannot_tell_are_none(n: int) -> None:
    found = score_predictions("regression", np.arange(n) + 0.0, np.arange(n) + 0.5)
    assert (found["mae_ci95"] is None) == (n < 5)
    assert (found["r2"] is None) == (n < 2)
    assert found["mae"] == 0.5
    equal = score_predictions("regression", np.full(20, 0.1), np.arange(20.0))
    assert equal["r2"] is None
    classes = np.array([1.0] * n + [0.0] * 30)
    found = score_predictions("classification", classes, np.arange(len(classes)) / 100)
    assert (found["auc_ci95"] is None) == (n < 5)
    assert score_predictions("classification", classes[:n], classes[:n])["auc"] is None


def test_model_of_a_run_that_the_mean_beats(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    assert warning_about_model(folder) is None  # nothing is known
    for predictions, is_warned in ((GOOD, False), (TARGETS + 5.0, True)):
        verdict = judge("regression", TARGETS, predictions, {"mean": MEAN})
        (tmp_path / "metrics.json").write_text(json.dumps({"verdict": verdict}))
        warning = warning_about_model(folder)
        assert (warning is not None) == is_warned
    assert warning is not None
    assert "is not shown to beat the mean of its training rows (difference +4" in warning
    (tmp_path / "metrics.json").write_text('{"verdict": [1]}')
    assert warning_about_model(folder) is None
