"""How the members of an ensemble fared, rebuilt from the run's event log."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from raymat.ensembles.members import MAX_ATTEMPTS
from raymat.tracking.events import Event, reading_log

MEMBER_STARTED, MEMBER_ENDED, MEMBER_FAILED = "member_started", "member_ended", "member_failed"
_COLUMNS = (
    *("member", "seed", "status", "n_train", "val_score", "best_epoch", "epochs", "time_s"),
    *("host", "device", "attempts", "configuration", "error"),
)


@dataclass
class EnsembleRecord:
    """All members of an ensemble.

    Attributes:
        n_planned: members asked for.
        ended: member -> what is known of it at its end.
        failures: member -> the failed attempts, each with its seed and error; `died` are those
            whose process or host died, which is no fault of the configuration or the seed.
    """

    n_planned: int
    ended: dict[int, dict[str, Any]] = field(default_factory=dict)
    failures: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    @reading_log()
    def from_events(cls, events: Iterable[Event], n_planned: int) -> "EnsembleRecord":
        """Rebuild the record from a run's event log."""
        record = cls(n_planned)
        for event in events:
            record.take(event)
        return record

    def take(self, event: Event) -> None:
        """Take one event; those that are not about the end of a member pass."""
        if event["event"] == MEMBER_ENDED:
            self.ended[event["member"]] = event["row"]
        if event["event"] == MEMBER_FAILED:
            known = self.failures.setdefault(event["member"], [])
            if event["attempt"] == _n_own(known):  # an attempt may be logged again after a resume
                attempt = {"seed": event["seed"], "error": event["error"]}
                kind = {key: event.get(key, key == "diverged") for key in ("diverged", "died")}
                known.append({**attempt, **kind})

    @property
    def given_up(self) -> list[int]:
        """Members that failed as often as they may, ascending."""
        return sorted(
            member
            for member, failed in self.failures.items()
            if max(_n_own(failed), len(failed) - _n_own(failed)) >= MAX_ATTEMPTS
            and member not in self.ended
        )

    def forgive(self) -> list[int]:
        """Let members have their attempts back that were given up for no fault of theirs.

        What diverged would diverge again; what a process or host did to a member need not be so
        when the run is continued.

        Returns:
            Those members, ascending.
        """
        forgiven = [m for m in self.given_up if not self.failures[m][-1]["diverged"]]
        for member in forgiven:
            del self.failures[member]
        return forgiven

    @property
    def n_retried(self) -> int:
        """Members that needed a second attempt."""
        return sum(1 for failed in self.failures.values() if failed)

    def missing(self) -> list[tuple[int, int]]:
        """Give (member, next attempt) of those that are neither trained nor given up.

        An attempt whose process or host died is made again, with the same rows and seed.
        """
        given_up = set(self.given_up)
        return [
            (member, _n_own(self.failures.get(member, [])))
            for member in range(self.n_planned)
            if member not in self.ended and member not in given_up
        ]

    def table(self, score_name: str) -> pd.DataFrame:
        """Give `members.parquet`: one row per planned member that was trained or given up."""
        rows = [self._row(member) for member in range(self.n_planned)]
        table = pd.DataFrame([row for row in rows if row is not None], columns=_COLUMNS)
        return table.rename(columns={"val_score": score_name})

    def _row(self, member: int) -> dict[str, Any] | None:
        failed = self.failures.get(member, [])
        error = failed[-1]["error"] if failed else None
        if member in self.ended:
            row = self.ended[member]
            return {"member": member, "status": "complete", **row, "error": error}
        if member not in self.given_up:
            return None
        return {
            "member": member,
            "status": "failed",
            "seed": failed[-1]["seed"],
            "attempts": len(failed),
            "error": error,
        }


def _n_own(failed: list[dict[str, Any]]) -> int:
    """Count the failed attempts that were the member's own fault."""
    return sum(1 for attempt in failed if not attempt["died"])
