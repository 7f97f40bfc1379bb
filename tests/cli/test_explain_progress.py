"""What the display of an explanation run says, from the events of a run."""

import time

from raymat.cli.explain_progress import ExplainProgress


def test_time_left_counts_epochs_of_classifiers() -> None:
    progress = ExplainProgress(quiet=True)
    names = ["full", "group-0", "period-0"]
    progress({"event": "classifiers_started", "names": names, "done": 1, "epochs": 10})
    begun = time.time()
    assert progress.say_time(begun + 60.0) == "1 min 00 s elapsed"  # nothing to go by yet
    progress({"event": "classifier_started", "name": "group-0"})
    progress({"event": "classifier_epochs", "epochs": {"group-0": 5}})
    expected = "1 min 00 s elapsed, about 3 min 00 s left for these"  # explanations follow
    assert progress.say_time(begun + 60.0) == expected
    assert progress.status().startswith("training classifiers: group-0 epoch 5/10; ")
    ended = {"event": "classifier_ended", "name": "group-0", "row": {"val_auc": 0.9}}
    progress(ended)
    expected = "1 min 00 s elapsed, about 1 min 00 s left for these"
    assert progress.say_time(begun + 60.0) == expected


def test_time_left_is_known_before_anything_is_found() -> None:
    """An explanation that is not found has used a share of the policies it may have."""
    progress = ExplainProgress(quiet=True)
    started = {"explanations": 8, "done": 0, "per_class": 4, "max_attempts": 10}
    progress({"event": "explaining_started", **started})
    begun = time.time()
    own = {"labels": "group", "target_class": 0, "member": 0, "first": 0, "total": 8, "left": 8}
    running = [{**own, "attempt": 2, "episode": 25}]  # 1.5 of 10 policies
    progress({"event": "explanations_progress", "running": running, "episodes": 50})
    expected = "1 min 00 s elapsed, at most about 5 min 40 s left"
    assert progress.say_time(begun + 60.0) == expected
    running = [{**own, "left": 4, "attempt": 2, "episode": 0}]
    progress({"event": "explanations_progress", "running": running, "episodes": 50})
    assert progress.say_time(begun + 66.0) == "1 min 06 s elapsed, about 54 s left"


def test_next_property_begins_anew() -> None:
    progress = ExplainProgress(quiet=True)
    progress({"event": "explaining_started", "explanations": 8, "done": 2, "per_class": 4})
    assert progress.status().startswith("2 of 8 explanations, 0 policies")
    progress({"event": "property_started", "target": "efermi", "number": 2, "properties": 3})
    assert progress.status() == "reading data"
    assert (progress.total, progress.done) == (0, 0)
