"""Put a screening and its ensembles into `reports/`: tables, scores and figures.

python tools/export_screening.py runs/K runs/G runs/screen reports/lithium_metal \
    --published published.csv --ensemble-only runs/screen_members \
    --other-split runs/K_systems runs/G_systems

Of the data there are only ids and formulas of ranked candidates. `--published` names a table of
published numbers (columns model, dataset, property, unit, n_train, metric, value, source); its
candidates are set beside ours and pointed out in the figures. `--ensemble-only` is a second
screening, with `--ignore-known`, in which members speak also for candidates with DFT moduli.
`--other-split` names ensembles of the same moduli on another split, to be scored beside ours.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ensemble_text import ensemble_scores, ensembles_text
from numpy.typing import NDArray
from screening_text import (
    describe_screening,
    jsonable,
    published_beside,
    published_candidates,
    published_text,
    top_text,
)

from raymat.data.readers import load_crystals
from raymat.ensembles.stored import Ensemble, load_ensemble
from raymat.errors import DataError, RunError
from raymat.features.usable import usable_features
from raymat.reports import ensemble_results, screening_results
from raymat.reports.ensemble_figures import save_ensemble_figures
from raymat.reports.latent_figures import save_latent_map
from raymat.reports.lithium_figures import LITHIUM_COLUMNS
from raymat.reports.screening_figures import save_screening_figures
from raymat.reports.screening_results import ScreeningResults
from raymat.screening.paired_ensembles import find_fingerprint
from raymat.tracking.run_directory import read_header
from raymat.training.members import latent_vectors

TOP = 30
Floats = NDArray[np.float64]


def main() -> None:
    """Export one study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bulk", type=Path, help="run of the bulk modulus' ensemble")
    parser.add_argument("shear", type=Path, help="run of the shear modulus' ensemble")
    parser.add_argument("screening", type=Path, help="run of the screening")
    parser.add_argument("out", type=Path)
    parser.add_argument("--published", type=Path, metavar="CSV")
    parser.add_argument("--ensemble-only", type=Path, metavar="RUN")
    parser.add_argument("--other-split", type=Path, metavar="RUN", nargs="+", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    export(
        {"bulk": options.bulk, "shear": options.shear},
        options.screening,
        options.out,
        published=options.published,
        ensemble_only=options.ensemble_only,
        other_splits=options.other_split,
    )


def export(
    ensembles: Mapping[str, Path],
    screening: Path,
    out: Path,
    *,
    published: Path | None = None,
    ensemble_only: Path | None = None,
    other_splits: Sequence[Path] = (),
) -> None:
    """Write everything into a folder.

    Raises:
        RunError: a run is of another kind or not finished.
        DataError: the screening is no lithium screening, or not by ensembles of these targets.
    """
    results = read_lithium_screening(screening)
    scores = {name: read_scores(run) for name, run in ensembles.items()}
    check_targets(read_header(screening), {n: found["target"] for n, found in scores.items()})
    check_same_members(screening, ensembles)
    if ensemble_only is not None:
        check_same_members(ensemble_only, ensembles)
    beside = None
    if published is not None:
        beside = read_beside(screening, results, published, ensemble_only)
        (out / "published.md").write_text(published_text(beside), encoding="utf-8")
    drawn = dict(ensembles)
    for run in other_splits:
        found = read_scores(run)
        name = name_of(found)
        if name in scores:
            raise DataError(f"{run} and {drawn[name]} are both of {name}; give one of them")
        scores[name], drawn[name] = found, run
    write_tables(screening, results, scores, beside, out)
    names = list(dict.fromkeys(beside["material_id"])) if beside is not None else []
    save_figures(drawn, screening, results, out, highlighted=names)
    draw_latent_map(ensembles["shear"], screening, results, out, highlighted=names)


def read_lithium_screening(run: Path) -> ScreeningResults:
    """Read a screening that has the columns of the lithium-metal criterion."""
    results = screening_results.read_results(run)
    missing = sorted(LITHIUM_COLUMNS - set(results.table))
    if missing:
        raise DataError(f"{run}: no column '{missing[0]}'; expected a lithium-metal screening")
    return results


def read_scores(run: Path) -> dict[str, Any]:
    """Read what the report says of an ensemble."""
    found = ensemble_results.read_results(run)
    return ensemble_scores(read_header(run), found.metrics, found.calibration)


def name_of(scores: Mapping[str, Any]) -> str:
    """Give the name of an ensemble that takes no part in the screening."""
    return f"{scores['target']}_{scores['split']['kind']}"


def check_same_members(screening: Path, ensembles: Mapping[str, Path]) -> None:
    """Refuse ensembles that are not the very ones that a screening asked.

    Raises:
        DataError: one is another.
    """
    known = read_header(screening).get("ensemble_sha256", {})
    for name, run in ensembles.items():
        if name in known and known[name] != find_fingerprint(run):
            raise DataError(
                f"{run}: not the {name} ensemble that {screening} was made with; give that one, or"
                " screen again"
            )


def check_targets(header: Mapping[str, Any], targets: Mapping[str, str]) -> None:
    """Refuse ensembles of other targets than the screening's, such as two that are swapped.

    Raises:
        DataError: they are.
    """
    wanted = header["arguments"]["criterion"]["predictions"]
    for name, target in targets.items():
        if wanted.get(name) != target:
            raise DataError(
                f"the ensemble given as {name} learned {target}, the screening's learned"
                f" {wanted.get(name)}; give the bulk run first, then the shear run"
            )


def read_beside(
    screening: Path, results: ScreeningResults, published: Path, ensemble_only: Path | None
) -> pd.DataFrame:
    """Set the published candidates beside ours."""
    members = None
    if ensemble_only is not None:
        members = read_lithium_screening(ensemble_only).table
        if not (members["source"] == "ensemble").all():
            raise RunError(f"{ensemble_only}: DFT moduli took part; screen with --ignore-known")
    excluded = pd.read_csv(screening / "excluded.csv")
    candidates = published_candidates(pd.read_csv(published))
    return published_beside(candidates, results.table, excluded, ensemble_only=members)


def write_tables(
    screening: Path,
    results: ScreeningResults,
    scores: Mapping[str, dict[str, Any]],
    beside: pd.DataFrame | None,
    out: Path,
) -> None:
    """Write `top.md`, `ensembles.md`, `metrics.json`."""
    header = read_header(screening)
    metrics = json.loads((screening / "metrics.json").read_text(encoding="utf-8"))
    top = top_text(results.table, describe_screening(header, metrics), TOP)
    (out / "top.md").write_text(top, encoding="utf-8")
    (out / "ensembles.md").write_text(ensembles_text(list(scores.values())), encoding="utf-8")
    data = {key: header["data"][key] for key in ("name", "sha256", "n_rows")}
    content: dict[str, Any] = {"screening": {"data": data, **metrics}, "ensembles": scores}
    if beside is not None:
        content["published"] = jsonable(beside)
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")


def save_figures(
    ensembles: Mapping[str, Path],
    screening: Path,
    results: ScreeningResults,
    out: Path,
    *,
    highlighted: list[str],
) -> None:
    """Draw the runs' own figures again, published candidates pointed out, as PNG."""
    ranked = set(results.table["material_id"])
    shown = [name for name in highlighted if name in ranked]
    with tempfile.TemporaryDirectory(prefix="raymat-figures-") as name:
        folder = Path(name)
        for role, run in ensembles.items():
            for file in save_ensemble_figures(run, folder=folder):
                file.rename(file.with_stem(f"{file.stem}_{role}"))
        save_screening_figures(screening, folder=folder, highlighted=shown)
        copy_pictures(folder, out)
    shutil.copy(screening / "probability_curve.csv", out / "probability_curve.csv")
    for role, run in ensembles.items():
        shutil.copy(run / "member_curve.csv", out / f"member_curve_{role}.csv")


def copy_pictures(folder: Path, out: Path) -> None:
    """Copy what a README shows: the PNG files."""
    for picture in sorted(folder.glob("*.png")):
        shutil.copy(picture, out / picture.name)


def draw_latent_map(
    run: Path, screening: Path, results: ScreeningResults, out: Path, *, highlighted: list[str]
) -> None:
    """Draw training crystals and ranked candidates in the shear reference member's latent space."""
    ensemble = load_ensemble(run)
    domain = ensemble.domain
    if domain is None:
        raise RunError(f"{run}: the ensemble has no domain, so its training latents are unknown")
    ids = results.table["material_id"].tolist()
    latents = candidate_latents(ensemble, screening, ids)
    known = results.table["in_domain"].astype("boolean")
    inside = known.fillna(pd.Series(domain.contains(latents))).to_numpy(dtype=np.bool_)
    labels = dict(zip(ids, results.labels, strict=True))
    places = {name: ids.index(name) for name in highlighted if name in labels}
    with tempfile.TemporaryDirectory(prefix="raymat-figures-") as name:
        save_latent_map(
            Path(name) / "latent_map.png",
            domain.training * domain.scale + domain.center,
            latents,
            in_domain=inside,
            highlighted={
                row: labels[key] for key, row in places.items() if np.isfinite(latents[row]).all()
            },
        )
        copy_pictures(Path(name), out)


def candidate_latents(ensemble: Ensemble, screening: Path, ids: list[str]) -> Floats:
    """Give (n_ids, n_dim) latent vectors of candidates; nan for those the member cannot read.

    Raises:
        DataError: the candidates' file is not that of the screening.
    """
    data = read_header(screening)["data"]
    loaded = load_crystals(data["path"] or data["name"], max_rejected=1.0)
    if loaded.source.sha256 != data["sha256"]:
        raise DataError(f"{data['path']}: the candidates have changed since the screening")
    row_of = {key: row for row, key in enumerate(loaded.crystals.material_ids)}
    crystals = loaded.crystals.take(np.array([row_of[key] for key in ids], dtype=np.int64))
    reference = ensemble.reference
    with tempfile.TemporaryDirectory(prefix="raymat-features-") as cache:
        found = usable_features(crystals.without_properties(), reference.views, cache=Path(cache))
        table = found.features.find(reference.view.table_config)
        vectors = latent_vectors(reference, table)
    latents = np.full((len(ids), vectors.shape[1]), np.nan)
    latents[found.rows] = vectors
    return latents


if __name__ == "__main__":
    main()
