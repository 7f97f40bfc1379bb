"""A run of contributions, written without a model; its figures are small stand-ins for files."""

from pathlib import Path

import numpy as np
import pandas as pd

from raymat.tracking.run_directory import RunDirectory

UNIT = "eV/atom"
SITES = {"O": 60, "Li": 30, "Fe": 12, "Os": 1}
LEVELS = {"O": -2.0, "Li": -0.5, "Fe": 0.9, "Os": 1.0}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30"><rect width="9" height="9"/></svg>'  # noqa: E501


def write_contributions_run(path: Path, *, is_complete: bool = True) -> Path:
    """Write a run; one that is not complete has a log only."""
    header = {"command": "contributions", "arguments": {"model": "/models/linear"}}
    with RunDirectory.create(path, header) as run:
        run.update_header(target="formation_energy_per_atom", unit=UNIT, task="regression")
        run.emit("contributions_started", crystals=20, rejected=0)
        run.emit("warning", text="elements that the model never met in training (crystals): Os (1)")
        if is_complete:
            _write_files(run)
    return path


def _write_files(run: RunDirectory) -> None:
    sites = _sites()
    own = sites.groupby("element", sort=False)["contribution"]
    elements = pd.DataFrame(
        {"n_sites": own.size(), "n_crystals": own.size() // 3 + 1, "mean": own.mean(),
         "std": own.std(ddof=0), "min": own.min(), "max": own.max()}
    ).reset_index()  # fmt: skip
    pairs = [(a, b, n, LEVELS[a]) for a, n in SITES.items() for b in SITES if n > 1]
    sites.to_parquet(run.path / "contributions.parquet", index=False)
    elements.to_csv(run.path / "elements.csv", index=False)
    columns = ["element", "neighbor", "n_sites", "mean"]
    pd.DataFrame(pairs, columns=columns).to_csv(run.path / "pairs.csv", index=False)
    for name in ("elements", "histograms", "site_map", "element_map"):
        (run.path / f"{name}.svg").write_text(SVG, encoding="utf-8")
    values = sites["contribution"]
    found = {"crystals": 20, "rejected": 0, "sites": len(sites), "elements": len(SITES),
             "lowest": float(values.min()), "highest": float(values.max())}  # fmt: skip
    run.emit("scored", metrics={"unit": UNIT, "contributions": found})


def _sites() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    tables = [
        pd.DataFrame({"element": symbol, "contribution": rng.normal(LEVELS[symbol], 0.3, n)})
        for symbol, n in SITES.items()
    ]
    return pd.concat(tables, ignore_index=True)
