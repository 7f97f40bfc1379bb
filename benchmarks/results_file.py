"""Where a benchmark's numbers go, and what machine they are of."""

import json
import os
import platform
from pathlib import Path
from typing import Any


def write_results(out: Path | None, results: dict[str, Any]) -> None:
    """Write the numbers, and which processor they are of, as JSON; nothing for None."""
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"processor": processor_facts(), **results}, indent=1)
    out.write_text(text + "\n", encoding="utf-8")


def processor_facts() -> dict[str, Any]:
    """Give the processor's name, family and model, and whether it has AVX-512 (None: unknown)."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    first: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        first.setdefault(name.strip(), value.strip())
    return {
        "name": first.get("model name") or platform.processor() or platform.machine(),
        "vendor": first.get("vendor_id"),
        "family": first.get("cpu family"),
        "model": first.get("model"),
        "avx512": "avx512f" in first["flags"].split() if "flags" in first else None,
    }


def machine_facts() -> dict[str, Any]:
    """Give what the numbers depend on: processor, cores, load, versions, how it computes."""
    import torch  # not before: some benchmarks time its import

    processor = processor_facts()
    return {
        "cpu": processor["name"],
        "avx512": processor["avx512"],
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "denormals": "computed" if float(torch.tensor(1e-30) * 1e-10) else "taken as 0",
    }
