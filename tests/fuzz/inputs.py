"""Small valid inputs of every kind, made once, and commands that read one of them damaged."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from conftest import TINY, make_crystal
from made_ensembles import make_ensemble, write_sixty
from mutations import NASTY, damage
from pymatgen.core import Lattice, Structure

from raymat.cli.main import run
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.writers import write_crystals
from raymat.tracking.run_directory import RunDirectory

TINY_CONFIG = {
    "model": "cgcnn",
    "config": {
        "model.atom_dim": 4, "model.n_conv": 1, "model.hidden_dim": 4, "model.cutoff": 4.0,
        "training.epochs": 1, "training.batch_size": 8,
    },
    "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
    "data": "crystals.parquet",
    "target": "y",
}  # fmt: skip
SPACE = {
    "model": "cgcnn",
    "data": "nowhere.parquet",  # so that no search begins, whatever is left of the space
    "target": "y",
    "space": {
        "model.n_conv": {"int": [1, 3]},
        "model.atom_dim": {"choice": [4, 8]},
        "training.optimizer": {"choice": ["adam", "sgd"]},
        "training.lr": [
            {"log_uniform": [1e-3, 1e-2], "when": {"training.optimizer": "adam"}},
            {"uniform": [0.01, 0.05], "step": 0.01},
        ],
    },
    "fixed": {"training.batch_size": 8},
    "try_first": [{"model.n_conv": 2}],
    "budget": {"trials": 2, "epochs": 2},
    "scheduler": {"name": "asha", "grace_period": 1, "reduction_factor": 2},
    "search": {"name": "tpe", "startup_trials": 2},
    "resources": {"cpu": 1},
    "split": {"kind": "random", "seed": 1},
}
PLAN = {
    "data": "nowhere.parquet",
    "properties": {"y": {"rows": 10, "where": {"x": {"above": 0}}}},
    "models": {"cgcnn": {"space": "quick"}, "soap_svr": {"budget": {"trials": 2}}},
    "settings": ["default", "tuned"],
    "repetitions": 2,
    "training_sizes": [5, "all"],
    "split": {"kind": "random", "train": 0.6, "validation": 0.2, "test": 0.2},
    "budget": {"trials": 2, "epochs": 2},
}


@dataclass(frozen=True)
class Kind:
    """An input that can be damaged.

    Attributes:
        name: for messages.
        path: of the file or folder within the material.
        commands: that read it, each a line in which ``{}`` is the input, or the folder that holds
            it; none would train or start Ray if the damage did no harm.
        folder: of the material, given to the command in place of the file.
    """

    name: str
    path: str
    commands: tuple[str, ...]
    folder: str = ""


_OF_DATA = (
    "data check {}",
    "data describe {} --target y",
    "data duplicates {} --target y",
    "predict {} --model {m}/model -o out.csv",
    "train --config {m}/config.yaml --data {} --target y --out out --quiet",
    "contributions {} --model {m}/linear --out out --quiet",
    "screen --candidates {} --criterion wide_gap_soft --ensemble gap=nowhere --out out",
    "data import {} -o out.parquet --workers 1 --quiet",
)
_OF_RUNS = ("status {}", "runs {m}", "report {} -o page.html")
KINDS = (
    Kind("parquet", "crystals.parquet", _OF_DATA),
    Kind("csv", "crystals.csv", _OF_DATA),
    Kind("json", "crystals.json", _OF_DATA),
    Kind("json.gz", "crystals.json.gz", _OF_DATA),
    Kind("cif in a folder", "cifs/NaCl.cif", _OF_DATA, folder="cifs"),
    Kind("list of a folder", "cifs/id_prop.csv", _OF_DATA, folder="cifs"),
    Kind("cif", "cifs/Si.cif", ("data import {} -o out.parquet --workers 1 --quiet",)),
    Kind("poscar", "POSCAR", ("data import {} -o out.parquet --workers 1 --quiet",)),
    Kind("extxyz", "some.extxyz", ("data import {} -o out.parquet --workers 1 --quiet",)),
    Kind("space", "space.yaml", ("tune --space {} --out out", "data cache build {m}/crystals.parquet --space {}")),
    Kind("plan", "plan.yaml", ("compare --plan {} --out out",)),
    Kind("criterion", "criterion.yaml", ("screen --candidates {m}/crystals.parquet --criterion {} --ensemble gap=nowhere --out out",)),
    Kind("config", "config.yaml", (
        "train --config {} --data nowhere.parquet --out out",
        "ensemble --config {} --data nowhere.parquet --out out",
    )),
    *(
        Kind(f"{folder} {file}", f"{folder}/{file}", (
            "predict {m}/crystals.parquet --model {} -o out.csv",
            "contributions {m}/crystals.parquet --model {} --out out --quiet",
            "explain --data nowhere.parquet --target y --model {} --out out",
        ), folder=folder)
        for folder in ("model", "linear") for file in ("model.json", "model.safetensors")
    ),
    *(
        Kind(f"ensemble {file}", f"ensemble/{file}", (
            "predict {m}/crystals.parquet --model {} -o out.csv",
            "screen --candidates {m}/crystals.parquet --criterion {m}/criterion.yaml --ensemble gap={} --ensemble bulk=nowhere --out out",
            "status {}", "report {} -o page.html", "resume {}",
        ), folder="ensemble")
        for file in (
            "ensemble.json", "domain.npz", "split.parquet", "members/0000/model.json",
            "members/0001/model.safetensors", "run.json", "events.jsonl", "metrics.json",
            "calibration.json", "member_curve.csv", "predictions.parquet", "members.parquet",
        )
    ),
    *(
        Kind(f"training {file}", f"trained/{file}", (*_OF_RUNS, "resume {}", "predict {m}/crystals.parquet --model {} -o out.csv"), folder="trained")
        for file in ("run.json", "events.jsonl", "metrics.json", "best.yaml", "predictions.parquet", "best/model.json")
    ),
    *(
        Kind(f"search {file}", f"search/{file}", (*_OF_RUNS, "resume {}", "resume {} --finish", "ensemble --from-search {} --data nowhere.parquet --out out"), folder="search")
        for file in ("run.json", "events.jsonl")
    ),
    *(
        Kind(f"{command} run.json", f"{command}/run.json", (*_OF_RUNS, "resume {}"), folder=command)
        for command in ("compare", "explain", "screen", "contributions")
    ),
)  # fmt: skip
# Options and words that take a value; each is given one that no command can use, or anything.
OPTIONS = (
    "tune --space quick --data nowhere.parquet --target y {option}",
    "train --config {m}/config.yaml --data nowhere.parquet {option}",
    "compare --plan {m}/plan.yaml {option}",
    "ensemble --config {m}/config.yaml --data nowhere.parquet {option}",
    "explain --data nowhere.parquet --target y {option}",
    "screen --candidates nowhere.parquet --criterion wide_gap_soft --ensemble gap=x {option}",
    "predict nowhere.parquet --model {m}/model {option}",
    "contributions nowhere.parquet --model {m}/linear {option}",
    "data check nowhere.parquet {option}",
    "data describe nowhere.parquet {option}",
    "data duplicates nowhere.parquet {option}",
    "data import nowhere -o out.parquet {option}",
    "data cache limit {value}",
    "data cache build nowhere.parquet {option}",
    "status {value}", "runs {value}", "resume {value}", "report {value} -o page.html", "{value}",
    "data {value}", "predict {value} --model {m}/model", "tune --space {value}",
)  # fmt: skip
NAMES = (
    "seed", "epochs", "trials", "threads", "gpus", "concurrency", "max-rejected", "split", "classes",
    "target", "data", "out", "time-budget", "members", "fraction", "top", "shard-size", "ensemble",
    "per-class", "max-nodes", "rule", "criterion", "model", "wandb", "config", "symprec", "ids",
    "unit", "properties", "workers", "address", "nothing", "labels", "episodes",
)  # fmt: skip
VALUES = (
    "", "-1", "0", "1.5", "1e9", "nan", "inf", "9" * 400, str(2**63), str(2**64), "true", "None",
    "x" * 10_000, "é", "\x1b[31m", "[/x]", "a=b", "=", "/dev/null", "/dev/zero", "/dev/stdin", "/", ".",
    "..", "~", "~nobody", "nowhere/at/all", "a\nb", "--", "-", "*", "$(x)", "1h", "1h1h", "0s", "9" * 30 + "d",
    "delta", "quick", "cgcnn", "median", "1,2", "http://", "http://127.0.0.1:1", "\udcff",
)  # fmt: skip


def make_material(place: Path) -> Path:
    """Make one valid input of every kind."""
    crystals = write_crystal_files(place)
    del crystals
    for name, content in (("config", TINY_CONFIG), ("space", SPACE), ("plan", PLAN)):
        (place / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    criterion = Path(__file__).parents[2] / "criteria" / "wide_gap_soft.yaml"
    shutil.copy(criterion, place / "criterion.yaml")
    make_models(place)
    make_ensemble(place / "ensemble", write_sixty(place / "sixty.parquet"))
    make_runs(place)
    return place


def write_crystal_files(place: Path) -> CrystalSet:
    """Write twelve crystals in every form."""
    found = []
    for k, scale in enumerate((0.95, 1.0, 1.06)):
        for name in TINY:
            c = make_crystal(name, scale)
            found.append(Crystal(f"{name}-{k}", c.lattice, c.atomic_numbers, c.frac_coords))
    values = pd.DataFrame({"y": np.linspace(1.0, 2.0, len(found))})
    crystals = CrystalSet.from_crystals(found, values)
    write_crystals(crystals, place / "crystals.parquet")
    structures = [
        Structure(Lattice(c.lattice), [int(z) for z in c.atomic_numbers], c.frac_coords)
        for c in found
    ]
    table = values.assign(
        material_id=[c.material_id for c in found], structure=[s.as_dict() for s in structures]
    )
    table.to_json(place / "crystals.json", orient="records")
    table.to_json(place / "crystals.json.gz", orient="records")
    table.assign(structure=[s.to(fmt="cif") for s in structures]).to_csv(
        place / "crystals.csv", index=False
    )
    (place / "cifs").mkdir()
    for name, structure in zip(TINY, structures, strict=False):
        structure.to(str(place / "cifs" / f"{name}.cif"), fmt="cif")
    (place / "cifs" / "id_prop.csv").write_text("".join(f"{name},{len(name)}\n" for name in TINY))
    structures[0].to(str(place / "POSCAR"), fmt="poscar")
    lattice = " ".join(str(x) for x in structures[1].lattice.matrix.ravel())
    atoms = "\n".join(f"Si {x} {y} {z}" for x, y, z in structures[1].cart_coords)
    head = f'{len(structures[1])}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"'
    (place / "some.extxyz").write_text(f"{head}\n{atoms}\n")
    return crystals


def make_models(place: Path) -> None:
    """Train the tiny network for one epoch, once with each readout."""
    data = ["--data", str(place / "crystals.parquet"), "--quiet", "--out"]
    linear = {**TINY_CONFIG, "config": {**TINY_CONFIG["config"], "model.readout": "linear"}}  # type: ignore[dict-item]
    (place / "linear.yaml").write_text(yaml.safe_dump(linear))
    assert (
        run(["train", "--config", str(place / "config.yaml"), *data, str(place / "trained")]) == 0
    )
    assert run(["train", "--config", str(place / "linear.yaml"), *data, str(place / "second")]) == 0
    shutil.copytree(place / "trained" / "best", place / "model")
    shutil.copytree(place / "second" / "best", place / "linear")


def make_runs(place: Path) -> None:
    """Write interrupted runs whose data are gone, so that none goes on."""
    with_trials = {
        "space": SPACE,
        "space_path": "space.yaml",
        "data": "nowhere.parquet",
        "target": "y",
        "split": {},
    }
    search = _begin(place / "search", "tune", with_trials)
    search.emit("search_started", trials=4)
    for number in range(2):
        values = {"training.lr": 0.01, "model.n_conv": 2}
        search.emit("trial_started", trial=number, seed=number, values=values, config=values)
        scores = {"train_loss": 1.0, "val_score": 0.5, "time_s": 0.1, "train_time_s": 0.1}
        search.emit("epoch", trial=number, epoch=1, **scores, facts={"n_parameters": 9})
        search.emit("trial_ended", trial=number, status="complete", error=None)
    search._close()
    others = {
        "compare": {"plan": {**PLAN, "path": "plan.yaml"}},
        "explain": {"data": "nowhere.parquet", "target": "y", "split": {}},
        "screen": {
            "criterion": yaml.safe_load((place / "criterion.yaml").read_text()),
            "criterion_path": "c.yaml",
            "ensembles": {"gap": "nowhere"},
            "candidates": "nowhere.parquet",
        },
        "contributions": {"crystals": "nowhere.parquet", "model": str(place / "nowhere")},
    }
    for command, given in others.items():
        _begin(place / command, command, given)._close()


def _begin(path: Path, command: str, arguments: dict[str, object]) -> RunDirectory:
    header = {"command": command, "arguments": arguments, "seed": 0, "task": "regression"}
    made = RunDirectory.create(path, header)
    made.emit("warning", text="one")
    made.update_header(status="interrupted")
    return made


Line = tuple[str, list[str]]


def damaged_input(kind: Kind, material: Path, place: Path, rng: random.Random) -> Line:
    """Damage a copy of one input, and give a command line that reads it."""
    top = Path(kind.path).parts[0] if kind.folder else kind.path
    target = place / kind.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind.folder:
        shutil.copytree(material / top, place / top, dirs_exist_ok=True)
    else:
        shutil.copy(material / kind.path, target)
    before = target.read_bytes()
    damage(target, rng)
    given = place / (kind.folder or kind.path)
    if not kind.folder and rng.random() < 0.05:  # an ending that says something else
        given = given.rename(
            place / rng.choice(["x.csv", "x.parquet", "x.json", "x.yaml", "x", "x.cif"])
        )
    command = rng.choice(kind.commands)
    del before
    words = [word.format(given, m=material) for word in command.split(" ")]
    return kind.name, words


def odd_options(material: Path, rng: random.Random) -> Line:
    """Give a command line with an odd value of an option, or in place of a word."""
    value = rng.choice(VALUES)
    words = []
    for word in rng.choice(OPTIONS).split(" "):
        if word == "{option}":
            words += [f"--{rng.choice(NAMES)}", value]
        else:
            words.append(word.format(m=material, value=value))
    return "options", words


__all__ = ["KINDS", "NASTY", "Callable", "damaged_input", "make_material", "odd_options"]
