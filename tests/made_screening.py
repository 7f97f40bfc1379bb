"""What a screening needs, without any training: Li candidates, and ensembles of plain networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from conftest import FCC, SITES

from raymat.cluster.screen import ScreenRequest
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.scaling import TargetScaling
from raymat.data.writers import write_crystals
from raymat.ensembles.domain import LatentDomain
from raymat.ensembles.members import member_name
from raymat.ensembles.stored import DOMAIN, MEMBERS, Ensemble, load_ensemble, write_description
from raymat.features.table import FeatureTable
from raymat.models import load_spec
from raymat.screening.criterion import Criterion, read_criterion
from raymat.tracking.run_directory import RunDirectory
from raymat.training.members import latent_vectors
from raymat.training.model_files import TrainedModel, save_model

N_MEMBERS = 8
# Of numbers that follow from float32 sums in batches of another size: the outputs of untrained
# networks differ little between crystals, so they are enlarged about 20 times before a power of
# ten is taken of them. One member more or less that passes changes P_s by 1/8.
SAME_NUMBER = 1e-4
SAME_WAVELENGTH = 1e-3  # it grows beyond all bounds where chi changes its sign at every k
TINY: dict[str, dict[str, Any]] = {
    "cgcnn": {"atom_dim": 4, "n_conv": 1, "hidden_dim": 4},
    "megnet": {"n_blocks": 1},
}
BULK, SHEAR = "log10_K_VRH", "log10_G_VRH"
# Mean and spread over the crystals, log10(GPa), around which lithium-metal interfaces are stable
# by some members and not by others.
MODULI = {BULK: (0.9, 0.2), SHEAR: (0.5, 0.2)}

LI, H, O, F, NA, S, CL, SE, BR, RB, I = 3, 1, 8, 9, 11, 16, 17, 34, 35, 37, 53  # noqa: E741
ELEMENTS = (LI, O, F, S, CL, SE, BR, I)  # that the ensembles have met
PLAIN = {
    "band_gap": 3.0,
    "matbench_band_gap": np.nan,
    "e_above_hull": 0.01,
    "K_VRH": np.nan,
    "G_VRH": np.nan,
    "note": "plain",
}
# Candidates that are left out, and why; "nowhere" is no crystal at all.
EXCLUDED = {
    "no-lithium": "contains no lithium",
    "metal": "metallic (band gap 0)",
    "unstable": "energy above hull of 0.1 eV/atom or more",
    "soft-dft": "elastic moduli of DFT not positive",
    "open": "the Voronoi cell of Li is open: site 0 is not enclosed by the 0 atoms within 10 Å",
    "nowhere": "not finite: lattice or coordinates hold NaN, or numbers beyond 1e6",
}
KNOWN = ("dft-1", "dft-2")  # by their own moduli
N_LITHIUM = 120  # in a cell of glass, each with a Voronoi cell of its own: it takes some 0.1 s


def rock_salt(name: str, first: int, second: int, edge: float) -> Crystal:
    """Give a crystal of two elements with six neighbors each; `edge` in Å."""
    numbers = np.array([first] * 4 + [second] * 4, dtype=np.uint8)
    return Crystal(name, np.eye(3) * edge, numbers, np.array(SITES["fcc+half"], dtype=np.float64))


def antifluorite(name: str, anion: int, edge: float) -> Crystal:
    """Give a crystal Li2X; `edge` in Å."""
    quarter = [[x + a, y + a, z + a] for x, y, z in FCC for a in (0.25, 0.75)]
    numbers = np.array([anion] * 4 + [LI] * 8, dtype=np.uint8)
    return Crystal(name, np.eye(3) * edge, numbers, np.array(FCC + quarter, dtype=np.float64))


def glass(name: str, seed: int) -> Crystal:
    """Give a disordered crystal of Li and Cl on the sites of a simple cubic lattice."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*3 * [np.arange(6)]), axis=-1).reshape(-1, 3)
    sites = (grid + rng.uniform(-0.15, 0.15, grid.shape)) / 6
    numbers = np.full(len(grid), 17, dtype=np.uint8)
    numbers[rng.permutation(len(grid))[:N_LITHIUM]] = LI
    return Crystal(name, np.eye(3) * 6 * 2.6, numbers, sites)


def plain_crystals() -> list[Crystal]:
    """Give 36 crystals that pass every filter: LiX and Li2X at several volumes."""
    found = []
    for scale in (0.94, 0.97, 1.0, 1.03, 1.06, 1.09):
        for anion, edge in ((F, 4.03), (CL, 5.14), (BR, 5.50), (I, 6.03)):
            found.append(rock_salt(f"salt-{anion}-{scale}", LI, anion, edge * scale))
    for scale in (0.95, 1.0, 1.05, 1.1):
        for anion, edge in ((O, 4.62), (S, 5.71), (SE, 6.00)):
            found.append(antifluorite(f"anti-{anion}-{scale}", anion, edge * scale))
    return found


def all_candidates() -> CrystalSet:
    """Give the plain crystals and, among them, every kind that is not screened as they are."""
    alone = Crystal("open", np.eye(3) * 40.0, np.array([LI], dtype=np.uint8), np.zeros((1, 3)))
    broken = rock_salt("nowhere", LI, F, 4.0)
    broken.frac_coords[0, 0] = np.nan
    special: list[tuple[Crystal, dict[str, Any]]] = [
        (rock_salt("no-lithium", NA, CL, 5.64), {}),
        (rock_salt("metal", LI, F, 4.1), {"band_gap": 0.0}),
        (rock_salt("unstable", LI, F, 4.2), {"e_above_hull": 0.3}),
        (rock_salt("soft-dft", LI, F, 4.3), {"K_VRH": 5.0, "G_VRH": -1.0}),
        (alone, {}),
        (broken, {}),
        (rock_salt("dft-1", LI, CL, 5.2), {"K_VRH": 8.0, "G_VRH": 2.0}),
        (antifluorite("dft-2", S, 5.8), {"K_VRH": 70.0, "G_VRH": 40.0}),
        (rock_salt("unseen", LI, RB, 6.8), {}),
        (rock_salt("unlabelled", LI, H, 4.08), dict.fromkeys(PLAIN)),
    ]
    crystals, rows = plain_crystals(), [dict(PLAIN) for _ in plain_crystals()]
    for place, (crystal, changes) in enumerate(special):
        crystals.insert(4 * place, crystal)
        rows.insert(4 * place, {**PLAIN, **changes})
    return CrystalSet.from_crystals(crystals, pd.DataFrame(rows))


def write_candidates(path: Path, crystals: CrystalSet | None = None) -> Path:
    """Write candidates, all there are unless given."""
    write_crystals(all_candidates() if crystals is None else crystals, path)
    return path


def without(crystals: CrystalSet, *ids: str) -> CrystalSet:
    """Give the crystals without some."""
    return crystals.take(np.flatnonzero(~np.isin(crystals.material_ids, ids)))


@cache
def _learned(model: str) -> tuple[CrystalSet, FeatureTable]:
    crystals = CrystalSet.from_crystals(plain_crystals())
    view = load_spec(model).reads(load_spec(model).config(**TINY[model]))
    return crystals, view.table_config.build(crystals)


def make_member(target: str, number: int, *, model: str = "cgcnn") -> TrainedModel:
    """Give an untrained network, its outputs scaled to what a trained one could predict.

    The same for the same target and number.
    """
    mean, std = MODULI.get(target, (2.0, 1.0))
    rng = np.random.default_rng([number, *target.encode()])
    torch.manual_seed(int(rng.integers(2**31)))
    spec = load_spec(model)
    config = spec.config(**TINY[model])
    member = TrainedModel(
        name=model,
        config=config,
        network=spec.build(config, "regression").eval(),
        target=target,
        unit="",
        task="regression",
        scaling=TargetScaling(),
        threshold=None,
        elements=ELEMENTS,
        training={"seed": number},
    )
    outputs = member.predict(_learned(model)[1])
    scale = std / float(outputs.std())
    center = mean + float(rng.normal(0.0, std / 2)) - scale * float(outputs.mean())
    return TrainedModel(**{**member.__dict__, "scaling": TargetScaling(center, scale)})


def write_ensemble(
    folder: Path,
    target: str,
    *,
    numbers: Sequence[int] = tuple(range(N_MEMBERS)),
    planned: int | None = None,
    weights: Sequence[float] | None = None,
    scalings: Mapping[int, TargetScaling] | None = None,
    model: str = "cgcnn",
    finished: bool = True,
    threshold: float | None = None,
) -> Path:
    """Write the run directory of an ensemble.

    Args:
        folder: the run directory.
        target: what it learned.
        numbers: of the members that could be trained.
        planned: members asked for; up to the largest number if None.
        weights: of these members, sum 1; None for equal ones.
        scalings: number -> what takes the place of a member's scaling, such as one of nan.
        model: of the members.
        finished: False leaves a run that was interrupted.
        threshold: where the target was cut into classes, as `ensemble.json` says.
    """
    with RunDirectory.create(folder, {"command": "ensemble", "arguments": {}}) as run:
        for number in numbers:
            member = make_member(target, number, model=model)
            member.__dict__["scaling"] = (scalings or {}).get(number, member.scaling)
            if threshold is not None:
                network = load_spec(model).build(member.config, "classification").eval()
                of_classes = {"task": "classification", "threshold": threshold}
                member.__dict__.update(network=network, **of_classes)
            save_model(member, folder / MEMBERS / member_name(number))
        if not finished:
            return folder
        reference = make_member(target, numbers[0], model=model)
        latents = latent_vectors(reference, _learned(model)[1]).astype(np.float64)
        with (folder / DOMAIN).open("wb") as file:
            np.savez(file, **LatentDomain.fit(latents).to_arrays())  # type: ignore[arg-type]
        share = [1 / len(numbers)] * len(numbers)
        content = {
            "members": list(numbers),
            "planned": planned or max(numbers) + 1,
            "weights": list(weights or share),
            "model": model,
            "target": target,
            "unit": "",
            "task": "regression" if threshold is None else "classification",
            "threshold": threshold,
            "elements": list(ELEMENTS),
            "recalibration": None,
            "domain": DOMAIN,
        }
        write_description(run, content)
    return folder


@dataclass(frozen=True)
class Study:
    """Two ensembles and a file of candidates.

    Attributes:
        folder: that holds all.
        candidates: the file.
    """

    folder: Path
    candidates: Path

    @property
    def folders(self) -> dict[str, str]:
        """Prediction of the lithium-metal criterion -> ensemble."""
        return {"bulk": str(self.folder / "K"), "shear": str(self.folder / "G")}

    @cached_property
    def ensembles(self) -> dict[str, Ensemble]:
        """Read the ensembles."""
        return {name: load_ensemble(Path(folder)) for name, folder in self.folders.items()}

    def request(self, **changes: Any) -> ScreenRequest:
        """Give what is asked for: everything by the lithium-metal criterion, on CPUs."""
        criterion = read_criterion("lithium_metal")
        values: dict[str, Any] = {
            "criterion": dict(criterion.content),
            "criterion_path": criterion.path,
            "ensembles": self.folders,
            "candidates": str(self.candidates),
            "shard_size": 10,
            "gpus": 0.0,
        }
        return ScreenRequest(**{**values, **changes})


def write_study(folder: Path) -> Study:
    """Write both ensembles, of the same members, and the candidates."""
    write_ensemble(folder / "K", BULK)
    write_ensemble(folder / "G", SHEAR)
    return Study(folder, write_candidates(folder / "candidates.parquet"))


def rank(table: pd.DataFrame, criterion: Criterion) -> pd.DataFrame:
    """Order judged candidates as the criterion says, by pandas; equal ones share a rank."""
    ordered = table.sort_values(
        [criterion.rank.by, "material_id"],
        ascending=[criterion.rank.order == "ascending", True],
        ignore_index=True,
    )
    is_up = criterion.rank.order == "ascending"
    ranks = ordered[criterion.rank.by].rank(method="min", ascending=is_up, na_option="bottom")
    ordered.insert(0, "rank", ranks.astype(int))
    return ordered


def assert_same_ranking(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Check that two tables agree, row by row, in every number."""
    assert list(found) == list(expected)
    for name in found:
        tolerance = SAME_WAVELENGTH if name.startswith("lambda") else SAME_NUMBER
        pd.testing.assert_series_equal(
            _plain(found[name]),
            _plain(expected[name]),
            rtol=tolerance,
            atol=SAME_NUMBER,
            check_dtype=False,  # of a column of nothing but missing values
        )


def _plain(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Give flags and words with one kind of missing value."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column
    return column.astype(object).where(column.notna(), None)
