"""The time budget counts the seconds of all starts of a search."""

import math

from raymat.cluster.search import seconds_left
from raymat.tracking.events import Event


def at(second: int, kind: str) -> Event:
    return {"event": kind, "time": f"2026-01-01T00:00:{second:02d}.000+00:00"}


def test_without_a_budget_time_never_ends() -> None:
    assert seconds_left([at(0, "search_started"), at(9, "epoch")], None) == math.inf


def test_new_run_has_the_whole_budget() -> None:
    assert seconds_left([at(0, "data"), at(5, "features_ready")], 30.0) == 30.0


def test_time_between_two_starts_does_not_count() -> None:
    first = [at(1, "search_started"), at(2, "trial_started"), at(6, "epoch")]
    assert seconds_left(first, 30.0) == 25.0
    second = [at(20, "data"), at(21, "search_started"), at(23, "trial_resumed"), at(24, "epoch")]
    assert seconds_left(first + second, 30.0) == 22.0


def test_training_the_winner_again_does_not_count() -> None:
    ended = [at(1, "search_started"), at(5, "trial_ended"), at(30, "refit_started")]
    assert seconds_left(ended, 4.0) == 0.0
