"""Where a benchmark's numbers go: a JSON file, if one was asked for."""

import json
from pathlib import Path
from typing import Any


def write_results(out: Path | None, results: dict[str, Any]) -> None:
    """Write the numbers; nothing for None."""
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
