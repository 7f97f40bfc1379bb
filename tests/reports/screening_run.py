"""A screening run's files, through the physics of the interface itself."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from raymat.screening.lithium_interface import (
    HIGH_WAVENUMBER,
    LOW_WAVENUMBER,
    critical_wavelength_nm,
    stability_parameter,
)
from raymat.screening.probability import wilson_interval


def lithium_table(n: int = 400, n_members: int = 50, seed: int = 0) -> pd.DataFrame:
    """Give a table as the lithium-metal criterion does, without its `excluded.csv`."""
    rng = np.random.default_rng(seed)
    log_shear = rng.normal(1.6, 0.25, n) - 0.9 * (rng.random(n) < 0.2)
    log_shear = log_shear + rng.normal(0.0, 0.12, (n_members, n))
    log_bulk = log_shear.mean(axis=0) + 0.25 + rng.normal(0.0, 0.08, (n_members, n))
    volume = np.clip(rng.normal(0.12, 0.08, n), 0.03, 0.95)
    bulk, shear = 10**log_bulk, 10**log_shear
    low = stability_parameter(bulk, shear, volume, LOW_WAVENUMBER)
    high = stability_parameter(bulk, shear, volume, HIGH_WAVENUMBER)
    wavelength = critical_wavelength_nm(bulk, shear, volume)
    is_bounded = np.isfinite(wavelength)
    bounded = pd.DataFrame(np.where(is_bounded, wavelength, np.nan))
    columns: dict[str, object] = {
        "material_id": [f"mp-{k}" for k in range(n)],
        "formula": [f"Li{k % 7 + 1}X" for k in range(n)],
    }
    for name, chi in (("low", low), ("high", high)):
        share = (chi < 0).mean(axis=0)
        ends = wilson_interval(share * n_members, n_members)
        columns |= {f"chi_{name}": chi.mean(axis=0), f"chi_{name}_std": chi.std(axis=0, ddof=1)}
        columns |= {f"p_s_{name}": share}
        columns |= {f"p_s_{name}_lo": ends[0], f"p_s_{name}_hi": ends[1]}
    columns |= {
        "lambda_crit_nm": bounded.mean().fillna(np.inf),
        "lambda_crit_nm_std": bounded.std(),
        "n_members": n_members,
        "n_unbounded": (~is_bounded).sum(axis=0),
        "shear_gpa": shear.mean(axis=0),
        "molar_volume_ratio": volume,
        "source": "ensemble",
        "in_domain": rng.random(n) < 0.9,
    }
    table = pd.DataFrame(columns).sort_values("lambda_crit_nm", ascending=False, ignore_index=True)
    table.insert(0, "rank", np.arange(1, n + 1))
    return table


def as_dft(table: pd.DataFrame, row: int) -> None:
    """Make a row one of DFT moduli: no spread, a sure answer."""
    table["in_domain"] = table["in_domain"].astype(object)
    table.loc[row, ["source", "in_domain"]] = ["dft", None]
    missing = [c for c in table if str(c).endswith(("_std", "_lo", "_hi"))]
    table.loc[row, missing] = np.nan
    for name in ("low", "high"):
        table.loc[row, f"p_s_{name}"] = float(table.loc[row, f"chi_{name}"] < 0)  # type: ignore[operator]


def write_screening_run(folder: Path, table: pd.DataFrame, n_excluded: int = 7) -> None:
    """Write the files of a run."""
    (folder / "run.json").write_text(json.dumps({"command": "screen"}), encoding="utf-8")
    table.to_parquet(folder / "screening.parquet", index=False)
    ids = [f"gone-{k}" for k in range(n_excluded)]
    excluded = pd.DataFrame({"material_id": ids, "reason": "metallic (band gap 0)"})
    excluded.to_csv(folder / "excluded.csv", index=False)
