"""Members per hour: an ensemble through Ray against the same fits in one process.

`ensemble_screening.py` runs it. All sides train the same members (rows, seeds, settings), on one
thread each, and must reach the same validation errors.
"""

import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from platform_overhead import Clock

from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.splits import SplitConfig, make_split
from raymat.data.writers import write_crystals
from raymat.ensembles.members import plan_member
from raymat.features.store import FeatureStore
from raymat.models import load_spec
from raymat.training.fit import Fit, FitData
from raymat.training.loops import start_fit
from raymat.training.results import conclude
from raymat.tuning.trial_config import TrialConfig

SAME = 1e-6  # relative for numbers above 1


@dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes:
        target: column to learn.
        n_crystals: of which 80 % are training rows.
        n_members: that are trained.
        epochs: of each.
        cores: members that Ray trains at a time, in the last of the sides.
        seed: of crystals, split and members.
        fraction: of the training rows that a member learns from.
    """

    target: str
    n_crystals: int
    n_members: int
    epochs: int
    cores: int
    seed: int
    fraction: float = 0.6

    @property
    def config(self) -> dict:
        """Give the members' configuration: the defaults, but for the epochs."""
        return {"model": "cgcnn", "config": {"training.epochs": self.epochs}}


class MemberClock(Clock):
    """Notes also when each member ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def __call__(self, event: dict) -> None:
        """Take one event."""
        super().__call__(event)
        if event["event"] == "member_ended":
            self.ends.append(self.now())


def assert_same(ours: np.ndarray, theirs: np.ndarray, what: str) -> float:
    """Give the largest difference, relative to numbers above 1; stop if it is too large."""
    worst = float((np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1.0)).max())
    if not worst <= SAME:
        raise SystemExit(f"{what} differ by up to {worst:g}")
    return worst


def train_in_one_process(source: Path, work: Work) -> tuple[dict, np.ndarray]:
    """Train one member after another, without checkpoint or log; give times and errors."""
    crystals = load_crystals(str(source), target=work.target).crystals
    split = make_split(crystals, SplitConfig(seed=work.seed))
    config = TrialConfig.from_dict(work.config, where="ensemble_training")
    spec = load_spec(config.model)
    table = spec.reads(config.architecture).table_config.build(crystals.without_properties())
    store = FeatureStore(crystals.without_properties(), (table,))
    train, validation = split.rows("train"), split.rows("validation")

    def begin(number: int) -> Fit:
        plan = plan_member(number, 0, seed=work.seed, fraction=work.fraction, train=train)
        data = FitData(store, crystals.target(work.target), plan.rows, validation, "regression")
        return start_fit(spec, config.architecture, config.training, data=data, seed=plan.seed)

    begin(0).run_epoch()  # what PyTorch loads at its first step is no member's time
    errors = []
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(work.n_members):
        fitting = begin(number)
        while not fitting.finished:
            fitting.run_epoch()
        errors.append(conclude(fitting).best.val_score)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "start_s": None}, np.array(errors)


def train_through_ray(
    source: Path, work: Work, folder: Path, at_once: int
) -> tuple[dict, np.ndarray]:
    """Train an ensemble into a fresh folder; give its times and the members' errors."""
    clock = MemberClock()
    # Imported when the clock runs: a user waits for it, too. The second side finds it imported.
    from raymat.cluster.ensemble import EnsembleRequest, ensemble

    request = EnsembleRequest(
        configs=(work.config,),
        config_path="ensemble_training",
        data=str(source),
        target=work.target,
        split=SplitConfig(seed=work.seed),
        members=work.n_members,
        fraction=work.fraction,
        seed=work.seed,
        concurrency=at_once,
    )
    ensemble(request, folder, listeners=(clock,))
    table = pd.read_parquet(folder / "members.parquet").sort_values("member")
    start, end = clock.first["member_started"], clock.ends[-1]
    times = {
        "wall_s": end - start,
        "start_s": start,
        "first_member_ended_s": clock.ends[0] - start,
        "epochs_s": float(table["time_s"].sum()),
        "afterwards_s": clock.now() - end,
        # Without the start of the workers, which a hundred members hardly notice.
        "later_members_per_hour": _rate(work.n_members - at_once, end - clock.ends[at_once - 1]),
    }
    return times, table["val_mae"].to_numpy(dtype=np.float64)


def compare_training(crystals: CrystalSet, work: Work) -> dict:
    """Train the same members in one process, through Ray one by one, and through Ray at once."""
    rows = np.random.default_rng(work.seed).permutation(len(crystals))[: work.n_crystals]
    with tempfile.TemporaryDirectory(prefix="raymat-ensemble-") as name:
        folder = Path(name)
        os.environ["RAYMAT_CACHE"] = str(folder / "cache")
        source = folder / "crystals.parquet"
        write_crystals(crystals.take(np.sort(rows)), source)
        alone, expected = train_in_one_process(source, work)
        sides = {"one process": alone}
        for at_once in dict.fromkeys((1, work.cores)):
            times, errors = train_through_ray(source, work, folder / f"run-{at_once}", at_once)
            assert_same(errors, expected, "validation errors")
            sides[f"Ray, {at_once} at a time"] = times
    for times in sides.values():
        times["members_per_hour"] = _rate(work.n_members, times["wall_s"])
        times.setdefault("later_members_per_hour", times["members_per_hour"])
        times["ratio"] = times["later_members_per_hour"] / alone["members_per_hour"]
    return {**asdict(work), "n_crystals": len(rows), "sides": sides}


def report_training(found: dict) -> None:
    print(
        f"\ntraining: {found['n_members']} members of {found['epochs']} epochs on"
        f" {found['fraction']:.0%} of the training rows of {found['n_crystals']} crystals"
    )
    heads = ("members/h", "later ones", "ratio", "wall, s", "start, s", "epochs, s")
    print(f"{'':20}" + "".join(f"{head:>12}" for head in heads))
    for name, times in found["sides"].items():
        cells = [
            f"{times['members_per_hour']:,.0f}",
            f"{times['later_members_per_hour']:,.0f}",
            f"{times['ratio']:.2f}",
            *(_seconds(times.get(key)) for key in ("wall_s", "start_s", "epochs_s")),
        ]
        print(f"{name:20}" + "".join(f"{cell:>12}" for cell in cells))
    print("later ones: those after the first of every worker, which wait for no start; their ratio")


def _rate(n_members: int, seconds: float) -> float:
    return 3600 * n_members / seconds if seconds > 0 else float("nan")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
