"""How members fared, from the log alone."""

from typing import Any

import pandas as pd

from raymat.ensembles.record import EnsembleRecord
from raymat.tracking.events import Event

ROW = {
    "seed": 11, "n_train": 60, "val_score": 0.25, "best_epoch": 3, "epochs": 4, "time_s": 1.5,
    "host": "here", "device": "cpu", "attempts": 1, "configuration": 0,
}  # fmt: skip


def ended(member: int, **changes: Any) -> Event:
    return {"event": "member_ended", "member": member, "row": {**ROW, **changes}}


def failed(member: int, attempt: int, error: str = "diverged") -> Event:
    seed = 100 * member + attempt
    return {
        "event": "member_failed",
        "member": member,
        "attempt": attempt,
        "seed": seed,
        "error": error,
    }


def record(*events: Event, n_planned: int = 4) -> EnsembleRecord:
    others: list[Event] = [{"event": "data"}, {"event": "member_started", "member": 3}]
    return EnsembleRecord.from_events([*others, *events], n_planned)


def test_nothing_done_yet() -> None:
    empty = record()
    assert empty.missing() == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert (empty.given_up, empty.n_retried) == ([], 0)
    assert empty.table("val_mae").empty


def test_what_is_missing_and_at_which_attempt() -> None:
    log = (ended(0), failed(1, 0), failed(2, 0), failed(2, 1))
    found = record(*log)
    assert found.missing() == [(1, 1), (3, 0)]
    assert found.given_up == [2]
    assert found.n_retried == 2
    assert record(*log, ended(1), ended(3)).missing() == []


def test_member_that_succeeds_at_last_is_not_given_up() -> None:
    found = record(failed(1, 0), ended(1, attempts=2))
    assert found.given_up == []
    assert found.n_retried == 1
    (row,) = found.table("val_mae").to_dict("records")
    assert (row["status"], row["attempts"], row["error"]) == ("complete", 2, "diverged")


def test_attempt_that_is_logged_again_counts_once() -> None:
    """A run killed before its log was on the disk may meet the same failure once more."""
    found = record(failed(1, 0), failed(1, 0))
    assert found.given_up == []
    assert found.missing()[1] == (1, 1)


def test_only_who_diverged_stays_given_up() -> None:
    died = {"error": "a process of the run died 4 times", "diverged": False}
    log = [failed(1, 0), failed(1, 1), failed(2, 0), failed(3, 0), failed(3, 1)]
    log[1] |= died  # diverged first, then met with an accident
    log[2] |= died
    found = record(ended(0), *log)
    assert found.given_up == [1, 3]
    assert found.forgive() == [1]
    assert found.given_up == [3]
    assert found.missing() == [(1, 0), (2, 1)]


def test_who_lost_its_host_keeps_its_seed() -> None:
    died = {"error": "a host of the run was lost", "diverged": False, "died": True}
    found = record(failed(1, 0) | died, failed(2, 0) | died, failed(2, 0), failed(3, 0) | died)
    assert found.missing() == [(0, 0), (1, 0), (2, 1), (3, 0)]
    found.take(failed(3, 0) | died)  # twice: given up for this session
    assert found.given_up == [3]
    assert found.forgive() == [3]
    assert found.missing()[-1] == (3, 0)


def test_table_has_every_member_that_was_trained_or_given_up() -> None:
    log = (ended(2, val_score=0.5), failed(1, 0, "first"), failed(1, 1, "second"), ended(0))
    table = record(*log).table("val_mae")
    assert table["member"].tolist() == [0, 1, 2]
    assert table["status"].tolist() == ["complete", "failed", "complete"]
    lost = table.iloc[1]
    assert (lost["seed"], lost["attempts"], lost["error"]) == (101, 2, "second")
    assert pd.isna(lost["val_mae"])
    assert table["val_mae"].dropna().tolist() == [0.25, 0.5]
    contract = ["member", "seed", "status", "n_train", "val_mae", "epochs", "time_s", "host"]
    assert set(contract) <= set(table.columns)
    assert "val_score" not in table


def test_members_beyond_the_plan_are_not_shown() -> None:
    assert record(ended(0), ended(1), n_planned=1).table("val_auc")["member"].tolist() == [0]
