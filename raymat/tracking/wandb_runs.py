"""What a run directory holds, arranged as runs of Weights & Biases; nothing is written here.

A search has one W&B run for each trial, an ensemble one whose steps are its members, a comparison
one for each cell; and each has one of its own, with scores, tables, figures and the model. All of
them share a group: the name of the run directory.

The event log alone decides what they hold, so they can be written at any time and again: an id is
made from what a run directory keeps when it is moved or renamed.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from raymat.reading import open_file
from raymat.tracking.events import Event
from raymat.tracking.run_directory import safe_name

WHOLE, MEMBERS = "run", "members"  # keys of the W&B runs that are no trial and no cell
COMPARED = "compared"  # what a cell's bar stands for
_ID_LENGTH = 12
_PLAIN = (str, int, float, bool)
_ARGUMENTS = ("fraction", "weights", "classes", "time_budget_s", "concurrency", "gpus", "per_class")
_TRIAL_FACTS = ("n_parameters", "host", "device")
_STEP_FACTS = ("gpu_memory_gb",)
_FACTS = ("target", "unit", "task", "threshold")


@dataclass
class WandbRun:
    """One run of W&B, as far as the event log tells.

    Attributes:
        key: tells it from the others of a run directory.
        name: shown by W&B.
        kind: W&B's job type: "trial", "cell", "members", or the command.
        config: W&B's configuration by dotted key.
        rows: the steps of its curves, ascending, and what is known of each.
        summary: what it came to.
        host: where it ran.
        has_ended: nothing will be added.
        has_failed: W&B shall show it as failed.
    """

    key: str
    name: str
    kind: str
    config: dict[str, Any]
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    host: str | None = None
    has_ended: bool = False
    has_failed: bool = False

    def add(self, step: int, time: str, values: Mapping[str, Any]) -> None:
        """Take the values of one more step; one that is known already, as after a resume, passes.

        Args:
            step: from 1.
            time: of the event that told them.
            values: those that are missing or not finite are left out.
        """
        if self.rows and step <= self.rows[-1][0]:
            return
        stamp = {"_timestamp": datetime.fromisoformat(time).timestamp()}
        self.rows.append((step, {**plain(values), **stamp}))


class WandbRuns:
    """All W&B runs of a run directory; it takes the log's events one by one.

    Args:
        header: the content of `run.json`.
        group: the name of the study.
    """

    def __init__(self, header: Mapping[str, Any], group: str) -> None:
        self.header, self.group = header, group
        self.command = str(header.get("command"))
        self.runs: dict[str, WandbRun] = {}
        self._facts = dict(header)
        self._select = "mae"  # what selects among epochs and trials
        self._trials: dict[int, WandbRun] = {}  # number -> its latest attempt
        self._best = math.nan
        self.whole = self._begin(WHOLE, group, self.command, {**_asked(header)})

    def __iter__(self) -> Iterator[WandbRun]:
        return iter(list(self.runs.values()))

    def take(self, event: Event) -> None:
        """Take one event; those that tell nothing for W&B pass."""
        handler = getattr(self, f"_take_{event['event']}", None)
        if handler is not None:
            handler(event)

    def conclude(self, header: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        """Take what is known once the run is over, or has stopped for now.

        Args:
            header: the present content of `run.json`.
            files: name -> content of its JSON files of results.
        """
        status = str(header.get("status"))
        self.whole.config |= {**_asked(header), **self._known_facts()}
        for run in self.runs.values():
            if run.key in (WHOLE, MEMBERS):
                run.has_ended = status == "complete"
                run.has_failed = status == "failed"
                run.summary["status"] = status
        self.whole.summary |= flat(files.get("metrics", {}))
        calibration = {k: files.get("calibration", {}).get(k, {}) for k in ("before", "after")}
        self.whole.summary |= flat({"calibration": calibration})
        if MEMBERS in self.runs:
            self.runs[MEMBERS].summary |= flat({"calibration": calibration})
            self.runs[MEMBERS].summary |= flat({"test": files.get("metrics", {}).get("test", {})})

    @property
    def score_name(self) -> str:
        """What the validation score is called, here and in a run's tables."""
        is_class = self._facts.get("task") == "classification"
        return "val_auc" if is_class else f"val_{self._select}"

    def _begin(self, key: str, name: str, kind: str, config: Mapping[str, Any]) -> WandbRun:
        known = {**self._known_facts(), **plain(config)}
        self._select = str(known.get("training.select", self._select))
        return self.runs.setdefault(key, WandbRun(key, name, kind, known, host=self._host()))

    def _host(self) -> str | None:
        return self.header.get("host")

    def _known_facts(self) -> dict[str, Any]:
        """Give what every W&B run of the run directory says of data and target; no path, ever."""
        facts = self._facts
        data, split = facts.get("data") or {}, facts.get("split") or {}
        found = {key: facts.get(key) for key in _FACTS}
        found |= {"command": self.command, "model.name": _model(self.header)}
        found |= {"data": data.get("name"), "data_sha256": data.get("sha256")}
        return plain(found | {"split": split.get("kind"), "split_sha256": split.get("sha256")})

    # --- events -----------------------------------------------------------------------------------

    def _take_data(self, event: Event) -> None:
        self._facts.update(event)
        self.whole.config |= self._known_facts()

    def _take_trial_started(self, event: Event) -> None:
        number = event["trial"]
        if number not in self._trials:
            config = {**event["config"], "trial": number, "seed": event["seed"]}
            name = f"{self.group} {number:04d}"
            self._trials[number] = self._begin(f"{number:04d}", name, "trial", config)

    def _take_epoch(self, event: Event) -> None:
        run, facts = self._trials[event["trial"]], event.get("facts") or {}
        told = {k: v for k, v in event.items() if k not in ("event", "time", "trial", "facts")}
        told[self.score_name] = told.pop("val_score")
        told |= {key: facts[key] for key in _STEP_FACTS if key in facts}
        run.add(event["epoch"], event["time"], told)
        run.config |= plain({key: facts.get(key) for key in _TRIAL_FACTS})
        run.host = facts.get("host") or run.host

    def _take_batch_halved(self, event: Event) -> None:
        """The trial begins anew: what was trained before does not count, and W&B forgets nothing.

        So its curve goes to another W&B run, and the one before says that it was given up.
        """
        number, old = event["trial"], self._trials[event["trial"]]
        old.summary["status"] = "begun anew with smaller batches"
        old.has_ended = True
        if not old.rows:
            del self.runs[old.key]
        attempts = [key for key in self.runs if key.split("-")[0] == f"{number:04d}"]
        key = f"{number:04d}" + (f"-{len(attempts) + 1}" if attempts else "")
        config = {**old.config, "training.batch_size": event["batch_size"]}
        self._trials[number] = self._begin(key, old.name, old.kind, config)

    def _take_trial_ended(self, event: Event) -> None:
        run = self._trials[event["trial"]]
        scores = {step: row[self.score_name] for step, row in run.rows if self.score_name in row}
        run.summary |= {
            "status": event["status"],
            "epochs": len(run.rows),
            "total_time_s": sum(row.get("time_s", 0.0) for _, row in run.rows),
            **({} if event["error"] is None else {"error": event["error"]}),
        }
        if scores:
            pick = max if self.score_name == "val_auc" else min
            epoch = pick(scores, key=lambda step: scores[step])
            run.summary |= {"best_epoch": epoch, f"best_{self.score_name}": scores[epoch]}
            if event["status"] != "failed":
                known = [] if math.isnan(self._best) else [self._best]
                self._best = pick([*known, scores[epoch]])
        run.has_ended, run.has_failed = True, event["status"] == "failed"
        self.whole.add(
            len(self.whole.rows) + 1,
            event["time"],
            {"trials": len(self.whole.rows) + 1, f"best_{self.score_name}": self._best},
        )

    def _take_member_started(self, event: Event) -> None:
        del event
        self._begin(MEMBERS, f"{self.group} members", MEMBERS, _asked(self.header))

    def _take_member_ended(self, event: Event) -> None:
        run = self.runs[MEMBERS]
        row = {"member": event["member"], **event["row"]}
        if "val_score" in row:
            row[self.score_name] = row.pop("val_score")
        run.add(len(run.rows) + 1, event["time"], row)
        run.summary["members"] = len(run.rows)

    def _take_cell_ended(self, event: Event) -> None:
        row = plain(event["row"])
        asked = {key: row[key] for key in row if isinstance(row[key], str) or key == "repetition"}
        asked[COMPARED] = f"{row.get('model')}, {row.get('setting')}"  # W&B groups bars by one key
        run = self._begin(
            f"cell-{safe_name(event['cell'])}", f"{self.group} {event['cell']}", "cell", asked
        )
        run.summary |= {"status": "complete", **row}
        run.has_ended = True


def run_id(header: Mapping[str, Any], log: Path) -> str:
    """Give what no other run directory has: of its start, and of the log's first line.

    The name of the folder has no part in it, nor what a resume changes.
    """
    with open_file(log) as file:
        first = file.readline()
    text = f"{header.get('started')}|{header.get('host')}|{header.get('command')}|".encode()
    return hashlib.sha256(text + first).hexdigest()[:_ID_LENGTH]


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give what W&B can plot or sort by: text, booleans and finite numbers; lists as text."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list | tuple) and len(value) > 0:
            found[key] = str(value)
        elif isinstance(value, float) and not math.isfinite(value):
            continue
        elif isinstance(value, _PLAIN):
            found[key] = value
    return found


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give dotted keys as W&B wants a configuration: nested, which it shows with dots again.

    Its charts find a value by a path; with a dot within a key that path would lead elsewhere.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        *above, last = key.split(".")
        place = found
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return found


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give nested values as one level, such as ``test/mae``, with the ends of intervals apart.

    W&B shows what has the same word before the slash together.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}/")
        elif isinstance(value, list | tuple):
            ends = zip(("low", "high"), value, strict=True) if len(value) == 2 else ()
            found |= plain({f"{name}_{end}": number for end, number in ends})
        else:
            found |= plain({name: value})
    return found


def _asked(header: Mapping[str, Any]) -> dict[str, Any]:
    """Give what was asked for, from a list of what may be known: paths and addresses may not."""
    arguments = header.get("arguments") or {}
    space = arguments.get("space") if isinstance(arguments.get("space"), Mapping) else {}
    asked = {key: arguments.get(key) for key in _ARGUMENTS}
    for part in ("budget", "scheduler", "search"):
        found = (space or {}).get(part) or {}
        asked |= {f"{part}.{key}": value for key, value in found.items()}
    asked["n_members"] = arguments.get("members")
    versions = header.get("versions") or {}
    asked |= {f"versions.{name}": version for name, version in versions.items()}
    asked |= {key: header.get(key) for key in ("seed", "device", "cpus", "host")}
    return plain(asked)


def _model(header: Mapping[str, Any]) -> str | None:
    arguments = header.get("arguments") or {}
    places = [arguments.get("space"), arguments.get("config"), *(arguments.get("configs") or ())]
    models = [place.get("model") for place in places if isinstance(place, Mapping)]
    return next((str(model) for model in models if isinstance(model, str)), None)
