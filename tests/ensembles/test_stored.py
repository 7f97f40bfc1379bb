"""An ensemble on disk: what comes back, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import make_crystal
from made_ensembles import Made, make_ensemble, write_sixty
from safetensors.torch import load_file, save_file

from raymat.data.crystals import Crystal, CrystalSet
from raymat.ensembles.recalibration import StdScaling
from raymat.ensembles.stored import (
    damaged_members,
    is_ensemble,
    load_ensemble,
    predict_together,
    read_outputs,
    store_member,
)
from raymat.errors import DataError, ModelFileError, RunError
from raymat.features.store import FeatureStore
from raymat.tracking.run_directory import RunDirectory
from raymat.training.fit import EpochMetrics
from raymat.training.model_files import load_model
from raymat.training.results import FitResult

SAME_NUMBER = 1e-6  # float32 sums in batches of another size
OUTLIER = 1e6  # in latent coordinates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    write_sixty(folder / "sixty.parquet")
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Made:
    """Members 0, 1 and 3; 2 failed twice."""
    failed = ((2, 0), (2, 1))
    return make_ensemble(folder / "run", folder / "sixty.parquet", members=(0, 1, 3), failed=failed)


@pytest.fixture(scope="module")
def noisy(folder: Path) -> Made:
    def noise(inputs: Any) -> Any:
        return np.full((3, len(inputs.crystals)), 0.2)

    return make_ensemble(folder / "noisy", folder / "sixty.parquet", members=(0, 1, 2), noise=noise)


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(made.path, tmp_path / "copy")
    return tmp_path / "copy"


def features_of(made: Made, rows: list[int] | None = None) -> FeatureStore:
    crystals = made.inputs.crystals.without_properties()
    if rows is None:
        return FeatureStore(crystals, [made.table])
    some = crystals.take(np.array(rows, dtype=np.int64))
    return FeatureStore(some, [made.table.config.build(some)])


# --- what comes back -----------------------------------------------------------------------------


def test_everything_comes_back(made: Made) -> None:
    ensemble = load_ensemble(made.path)
    assert ensemble.numbers == (0, 1, 3)
    assert ensemble.n_planned == 4
    np.testing.assert_array_equal(ensemble.weights, [1 / 3] * 3)
    assert (ensemble.target, ensemble.unit, ensemble.task) == ("y", "", "regression")
    assert ensemble.threshold is None
    assert ensemble.elements == made.inputs.elements()
    assert [model.training["seed"] for model in ensemble.members] == [0, 1, 3]
    assert ensemble.reference is ensemble.members[0]
    assert len(ensemble.views) == 1
    calibration = json.loads((made.path / "calibration.json").read_text("utf-8"))
    fitted = calibration["methods"]["std_scaling"]["fitted"]
    assert ensemble.recalibration == StdScaling(fitted["factor"])
    conformal = calibration["methods"]["split_conformal"]["fitted"]
    assert ensemble.intervals is not None
    assert ensemble.intervals.scores.tolist() == conformal["scores"]
    met = np.concatenate([made.rows("train"), made.rows("validation")])
    assert ensemble.learned_from == set(made.inputs.crystals.material_ids[met])
    assert ensemble.learned is not None
    assert set(ensemble.learned.crystals.material_ids) == ensemble.learned_from


def test_crystals_that_it_learned_from_are_known_again(made: Made) -> None:
    """By what they are: neither a new name nor a name that a stranger has too changes that."""
    ensemble = load_ensemble(made.path)
    crystals = made.inputs.crystals
    met = np.sort(np.concatenate([made.rows("train"), made.rows("validation")]))
    renamed = crystals.take(met)
    renamed = replace(
        renamed, material_ids=np.array([f"row-{row}" for row in range(len(met))], dtype=object)
    )
    assert ensemble.knows(renamed).all()
    far = [make_crystal("NaCl", 1.4), make_crystal("Si", 0.7)]
    ids = crystals.material_ids[met[:2]]
    strangers = CrystalSet.from_crystals(
        [
            Crystal(str(name), c.lattice, c.atomic_numbers, c.frac_coords)
            for name, c in zip(ids, far, strict=True)
        ]
    )
    assert ensemble.knows(strangers).tolist() == [False, False]


def test_an_ensemble_without_its_crystals_compares_ids_but_no_row_numbers(
    made: Made, tmp_path: Path
) -> None:
    copy = shutil.copytree(made.path, tmp_path / "copy")
    (copy / "learned.parquet").unlink()
    crystals = made.inputs.crystals.take(made.rows("train")[:3])
    ids = np.array([crystals.material_ids[0], "elsewhere", "row-1"], dtype=object)
    named = replace(crystals, material_ids=ids)
    assert load_ensemble(copy).knows(named).tolist() == [True, False, pd.NA]
    split = pd.read_parquet(copy / "split.parquet")
    split["material_id"] = [f"row-{row}" for row in range(len(split))]
    split.to_parquet(copy / "split.parquet")
    assert load_ensemble(copy).knows(named).isna().all()


def test_rows_that_nobody_used_were_not_learned_from(made: Made, tmp_path: Path) -> None:
    copy = shutil.copytree(made.path, tmp_path / "copy")
    split = pd.read_parquet(copy / "split.parquet")
    unused = split.loc[split["part"] == "train", "material_id"].iloc[0]
    split.loc[split["material_id"] == unused, "part"] = "unused"
    split.to_parquet(copy / "split.parquet")
    before, after = (load_ensemble(path).learned_from for path in (made.path, copy))
    assert before is not None
    assert after == before - {unused}


def test_damaged_members_are_found(made: Made, tmp_path: Path) -> None:
    copy = shutil.copytree(made.path, tmp_path / "copy")
    (copy / "members" / "0001" / "model.safetensors").write_bytes(b"torn")
    (copy / "members" / "0003" / "model.json").unlink()
    found = damaged_members(copy, [0, 1, 3])
    assert {1, 3} <= set(found)
    assert "0001" in found[1]


def test_predictions_are_those_of_the_run_and_of_each_member_alone(made: Made) -> None:
    ensemble, table = load_ensemble(made.path), made.predictions
    found = ensemble.predict(features_of(made))
    np.testing.assert_allclose(found.mean, table["mean"], atol=SAME_NUMBER)
    np.testing.assert_allclose(found.total, table["std"], atol=SAME_NUMBER)
    np.testing.assert_allclose(found.values.T, np.stack(table["members"]), atol=SAME_NUMBER)
    for place, number in enumerate(ensemble.numbers):
        alone = load_model(made.path / "members" / f"{number:04d}").predict(made.table)
        np.testing.assert_allclose(found.values[place], alone, atol=SAME_NUMBER)
    assert np.ptp(found.values, axis=0).min() > 0.0  # members are not one and the same


def test_some_members_keep_their_order_and_share_the_weight(made: Made) -> None:
    ensemble = load_ensemble(made.path)
    some = ensemble.take({3, 0, 17})
    assert some.numbers == (0, 3)
    np.testing.assert_allclose(some.weights, [0.5, 0.5])
    assert some.n_planned == 4
    assert some.reference is ensemble.reference  # the domain lies in its latents
    values = ensemble.predict(features_of(made)).values
    np.testing.assert_array_equal(some.predict(features_of(made)).values, values[[0, 2]])
    with pytest.raises(DataError, match=r"none of the 0 members asked for has any weight"):
        ensemble.take({17})


def test_ensembles_together_predict_what_each_predicts_alone(made: Made, noisy: Made) -> None:
    """One of them heteroscedastic, the other not: neither takes the other's noise away."""
    both = {"plain": load_ensemble(made.path), "noisy": load_ensemble(noisy.path)}
    features = features_of(made)
    together = predict_together(both, features)
    for name, ensemble in both.items():
        alone = ensemble.predict(features)
        np.testing.assert_allclose(together[name].values, alone.values, atol=SAME_NUMBER)
        np.testing.assert_allclose(together[name].total, alone.total, atol=SAME_NUMBER)
    assert together["plain"].noise is None
    noise = together["noisy"].noise
    assert noise is not None
    assert np.isfinite(noise).all()
    assert (noise > 0).all()


def test_training_rows_lie_in_the_domain_and_others_outside(made: Made) -> None:
    ensemble = load_ensemble(made.path)
    distances = ensemble.domain_distances(features_of(made))
    assert distances is not None
    assert distances.shape == (60,)
    assert (distances[made.rows("train")] <= 1.0).all()  # each counts among its own neighbors
    some = ensemble.domain_distances(features_of(made, [7, 3]))
    np.testing.assert_allclose(some, distances[[7, 3]], rtol=1e-4)
    assert ensemble.domain is not None
    far = np.full((1, len(ensemble.domain.center)), OUTLIER)
    assert ensemble.domain.distances(far)[0] > 100 * ensemble.domain.threshold


def test_no_crystals_have_no_distances(made: Made) -> None:
    empty = FeatureStore(made.inputs.crystals.take(np.zeros(0, dtype=np.int64)), [])
    found = load_ensemble(made.path).domain_distances(empty)
    assert found is not None
    assert found.shape == (0,)


# --- what is refused -----------------------------------------------------------------------------


def test_what_is_an_ensemble(made: Made, tmp_path: Path) -> None:
    assert is_ensemble(made.path)
    assert not is_ensemble(made.path / "members" / "0000")
    assert not is_ensemble(tmp_path)
    (tmp_path / "run.json").write_text('{"command": "tune"}', encoding="utf-8")
    assert not is_ensemble(tmp_path)
    (tmp_path / "run.json").write_text("[", encoding="utf-8")
    assert not is_ensemble(tmp_path)


def test_incomplete_ensemble_is_refused_with_advice(folder: Path, tmp_path: Path) -> None:
    part = make_ensemble(tmp_path / "part", folder / "sixty.parquet", finish=False)
    assert is_ensemble(part.path)
    words = f"^{part.path}: the ensemble is not complete, it has 4 members so far; continue it"
    with pytest.raises(ModelFileError, match=words):
        load_ensemble(part.path)


def test_folder_that_is_no_ensemble(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere: no such folder; expected the run direct"):
        load_ensemble(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match=r": not an ensemble; expected the run directory of"):
        load_ensemble(tmp_path)


def edit(changes: dict[str, Any]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        path = run / "ensemble.json"
        content = json.loads(path.read_text("utf-8")) | changes
        kept = {key: value for key, value in content.items() if value is not ...}
        path.write_text(json.dumps(kept), encoding="utf-8")

    return damage


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut("ensemble.json", 40), r"ensemble\.json: cannot be read"),
        (lambda run: (run / "ensemble.json").write_text("[1]"), r"expected a JSON object"),
        (edit({"weights": ...}), r"ensemble\.json: the key 'weights' is missing"),
        (edit({"elements": ...}), r"ensemble\.json: the key 'elements' is missing"),
        (edit({"weights": [0.5, 0.5]}), r"ensemble\.json: damaged \(3 members with weights of"),
        (edit({"weights": "many"}), r"ensemble\.json: damaged \("),
        (edit({"members": []}), r"ensemble\.json: damaged \(0 members"),
        (edit({"members": 3}), r"ensemble\.json: damaged \("),
        (edit({"recalibration": {"kind": "std_scaling"}}), r"the key 'factor' is missing"),
        (edit({"members": [0, 1, 2]}), r"members/0002: no such folder"),
        (lambda run: shutil.rmtree(run / "members" / "0001"), r"members/0001: no such folder"),
        (cut("members/0003/model.safetensors", 100), r"0003/model\.safetensors: cannot be loaded"),
        (cut("domain.npz", 0), r"domain\.npz: cannot be read"),
        (cut("domain.npz", 100), r"domain\.npz: cannot be read"),
        (lambda run: (run / "domain.npz").write_text("words"), r"domain\.npz: cannot be read"),
        (lambda run: (run / "domain.npz").unlink(), r"domain\.npz: cannot be read"),
    ],
)
def test_damaged_file_is_one_line(damage: Callable[[Path], None], words: str, copy: Path) -> None:
    damage(copy)
    with pytest.raises(ModelFileError, match=words) as caught:
        load_ensemble(copy)
    assert "\n" not in str(caught.value)


# --- members as they are stored ------------------------------------------------------------------


def result_like(made: Made, predictions: Any, noise: Any = None) -> FitResult:
    model = load_model(made.path / "members" / "0000")
    return FitResult(
        best=EpochMetrics(1, 0.1, 0.1, 0.1),
        network=model.network,
        scaling=model.scaling,
        predictions=predictions,
        noise=noise,
        epochs=1,
        train_time_s=0.1,
        featurize_time_s=0.0,
        n_parameters=1,
    )


def test_member_takes_the_place_of_what_a_killed_run_left(made: Made, tmp_path: Path) -> None:
    model = load_model(made.path / "members" / "0000")
    with RunDirectory.create(tmp_path / "run", {"command": "ensemble"}) as run:
        for name in (".0007", "0007"):  # half written, and whole but not logged
            (run.path / "members" / name).mkdir(parents=True)
            (run.path / "members" / name / "old").touch()
        store_member(model, result_like(made, np.array([1.0, np.nan])), 7, run)
        store_member(model, result_like(made, np.array([2.0, 4.0])), 8, run)
    folders = run.path / "members"
    assert sorted(p.name for p in folders.iterdir()) == ["0007", "0008"]
    files = ["model.json", "model.safetensors", "outputs.npz"]
    assert sorted(p.name for p in (folders / "0007").iterdir()) == files
    found = read_outputs(run.path, [8, 7])
    np.testing.assert_array_equal(found.values, [[2.0, 4.0], [1.0, np.nan]])
    np.testing.assert_array_equal(found.weights, [0.5, 0.5])
    assert found.noise is None


@pytest.mark.parametrize("size", [0, 100])
def test_damaged_outputs_are_one_line(made: Made, tmp_path: Path, size: int) -> None:
    model = load_model(made.path / "members" / "0000")
    with RunDirectory.create(tmp_path / "run", {"command": "ensemble"}) as run:
        store_member(model, result_like(made, np.zeros(2), np.ones(2)), 0, run)
    noise = read_outputs(run.path, [0]).noise
    np.testing.assert_array_equal(noise, [[1.0, 1.0]])
    cut("members/0000/outputs.npz", size)(run.path)
    with pytest.raises(RunError, match=r"outputs\.npz: cannot be read"):
        read_outputs(run.path, [0])


def test_member_that_cannot_be_written(made: Made, tmp_path: Path) -> None:
    model = load_model(made.path / "members" / "0000")
    with RunDirectory.create(tmp_path / "run", {"command": "ensemble"}) as run:
        (run.path / "members").touch()
        with pytest.raises(RunError, match=r"members/\.0000: the model cannot be written"):
            store_member(model, result_like(made, np.zeros(2)), 0, run)


# --- damage that would speak ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [0.5, 0.5, -0.0001]}, "weights of members must be shares of 1"),
        ({"weights": [float("nan"), 0.5, 0.5]}, "weights of members must be shares of 1"),
        ({"weights": [1.0, 1.0, 1.0]}, "weights of members must be shares of 1; they sum to 3"),
        ({"recalibration": {"factor": 0.0}}, "factor of the recalibration is 0, expected above 0"),
        ({"recalibration": {"factor": float("nan")}}, "factor of the recalibration is nan"),
        ({"intervals": {"scores": [float("nan"), 1.0]}}, "scores of the intervals"),
        ({"target": "band_gap"}, "target is 'band_gap', but of a member 'y'"),
        ({"unit": "eV"}, "unit is 'eV', but of a member ''"),
    ],
)
def test_an_ensemble_of_impossible_numbers(copy: Path, changes: Any, message: str) -> None:
    path = copy / "ensemble.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    with pytest.raises(ModelFileError, match=rf"ensemble\.json: damaged \(.*{message}"):
        load_ensemble(copy)


def test_a_member_of_no_numbers(copy: Path) -> None:
    path = copy / "members" / "0001" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name][...] = float("nan")
    save_file(weights, path)
    with pytest.raises(
        ModelFileError, match=rf"0001/model\.safetensors: damaged: '{name}' holds NaN"
    ):
        load_ensemble(copy)


def test_a_domain_of_no_numbers(copy: Path) -> None:
    arrays = dict(np.load(copy / "domain.npz"))
    np.savez(copy / "domain.npz", **{**arrays, "threshold": np.nan})
    with pytest.raises(ModelFileError, match=r"domain\.npz: damaged: it holds numbers"):
        load_ensemble(copy)
