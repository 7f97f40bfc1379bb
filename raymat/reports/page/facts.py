"""What was asked of a run, and with which data."""

from typing import Any

from raymat.data.leakage import Leakage
from raymat.errors import RunError
from raymat.reports.drawing import with_unit
from raymat.reports.page.parts import Section, Table
from raymat.reports.page.run_files import RunFiles

_SHORT_HASH = 12
MOST_REJECTED = 500


def facts(run: RunFiles) -> dict[str, str]:
    """Give name -> value of what the head of a run's page says."""
    header, data = run.header, run.header.get("data") or {}
    found = {
        "folder": str(run.path),
        "command": header.get("command"),
        "status": header.get("status"),
        "begun": header.get("started"),
        "ended": header.get("ended"),
        "target": with_unit(header.get("target", ""), header.get("unit", "")),
        "model": (header.get("arguments") or {}).get("model"),
        "data": _data(data),
        "split": _split(header.get("split") or {}),
        "leakage": _leakage(run),
        "seed": header.get("seed"),
        "device": header.get("device"),
        "host": header.get("host"),
        "versions": ", ".join(f"{k} {v}" for k, v in (header.get("versions") or {}).items()),
        "error": header.get("error"),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "", {})}


def sections(run: RunFiles) -> list[Section]:
    """Give the list of rejected rows, if there are any.

    Raises:
        RunError: it is damaged.
    """
    if not run.has("rejected.csv"):
        return []
    rejected = run.table("rejected.csv")
    if rejected.empty:
        return []
    more = len(rejected) - MOST_REJECTED
    caption = f"and {more:,} more in rejected.csv" if more > 0 else ""
    return [Section("Rejected rows", [Table("Rejected", rejected.head(MOST_REJECTED), caption)])]


def _data(data: dict[str, Any]) -> str:
    if "sha256" not in data:
        return ""
    counts = f"{data.get('n_rows', 0):,} rows"  # a screening has used none before its first shard
    if "n_used" in data:
        counts = f"{data['n_used']:,} crystals, {data.get('n_rejected', 0):,} rows rejected"
    return f"{data.get('name', '')}: {counts}; SHA-256 {data['sha256'][:_SHORT_HASH]}"


def _split(split: dict[str, Any]) -> str:
    rows = split.get("rows") or {}
    if not rows:
        return ""
    parts = ", ".join(f"{n:,} {part}" for part, n in rows.items())
    return f"{split.get('kind', '')}: {parts}"


def _leakage(run: RunFiles) -> str:
    try:  # the header counts the rows that are left once a model has left some out
        return Leakage(**run.header["leakage"]).line().removeprefix("leakage: ")
    except (KeyError, TypeError):  # of a run that has not come so far, or is damaged
        pass
    try:
        event = run.last("data")
    except RunError:  # of a damaged log, which another part of the page tells
        return ""
    return str(event.get("leakage_line", "")).removeprefix("leakage: ") if event else ""
