import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from made_ensembles import Made, make_ensemble, write_sixty

from raymat.cli import main
from raymat.cli.outputs import source_stem
from raymat.cli.predict import prediction_table, score_against_data
from raymat.data.crystals import Crystal, CrystalSet
from raymat.data.scaling import TargetScaling
from raymat.data.writers import write_crystals
from raymat.ensembles.stored import load_ensemble
from raymat.ensembles.usable_crystals import new_elements
from raymat.features import store
from raymat.features.neighbor_table import NeighborConfig
from raymat.features.soap import SoapConfig
from raymat.features.store import FeatureStore
from raymat.models import load_spec
from raymat.training.model_files import TrainedModel, find_model, load_model, save_model

ELEMENTS = (11, 14, 17, 38, 55)  # Na Si Cl Sr Cs: SrTiO3 has two that are new


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model() -> TrainedModel:
    """An untrained CGCNN that knows some of the elements."""
    spec = load_spec("cgcnn")
    config = spec.config(atom_dim=8, hidden_dim=8, n_conv=1)
    return TrainedModel(
        name="cgcnn",
        config=config,
        network=spec.build(config, "regression").eval(),
        target="y",
        unit="eV/atom",
        task="regression",
        scaling=TargetScaling(),
        threshold=None,
        elements=ELEMENTS,
        training={},
    )


@pytest.fixture
def files(tmp_path: Path, model: TrainedModel, tiny_crystals: CrystalSet) -> dict[str, Path]:
    """A run with a model, and crystals without any property."""
    save_model(model, tmp_path / "run" / "best")
    write_crystals(tiny_crystals, tmp_path / "tiny.parquet")
    return {"run": tmp_path / "run", "crystals": tmp_path / "tiny.parquet"}


@pytest.fixture
def soap_files(tmp_path: Path, tiny_crystals: CrystalSet) -> dict[str, Path]:
    """A SOAP-MLP made for the elements of NaCl and Si, and all four tiny crystals."""
    spec = load_spec("soap_mlp")
    config = spec.config(**spec.from_data(tiny_crystals.take(np.array([0, 1]))), hidden_dim=4)
    made = TrainedModel(
        name="soap_mlp",
        config=config,
        network=spec.build(config, "regression").eval(),
        target="y",
        unit="eV",
        task="regression",
        scaling=TargetScaling(),
        threshold=None,
        elements=(11, 14, 17),
        training={},
    )
    save_model(made, tmp_path / "soap")
    write_crystals(tiny_crystals, tmp_path / "tiny.parquet")
    return {"run": tmp_path / "soap", "crystals": tmp_path / "tiny.parquet"}


def table_of(model: TrainedModel, crystals: CrystalSet) -> pd.DataFrame:
    features = FeatureStore(crystals, [model.view.table_config.build(crystals)])
    return prediction_table(model, crystals, features=features)


def predict(files: dict[str, Path], *options: str) -> int:
    return main.run(["predict", "--model", str(files["run"]), str(files["crystals"]), *options])


def test_predictions_need_no_target(
    files: dict[str, Path], model: TrainedModel, tiny_crystals: CrystalSet
) -> None:
    assert predict(files) == 0
    table = pd.read_parquet("tiny-predictions.parquet")
    assert table["material_id"].tolist() == ["NaCl", "Si", "CsCl", "SrTiO3"]
    assert table["formula"].tolist() == ["NaCl", "Si", "CsCl", "SrTiO3"]
    expected = table_of(model, tiny_crystals)["prediction"]
    np.testing.assert_array_equal(table["prediction"], expected)
    field = pq.read_schema("tiny-predictions.parquet").field("prediction")
    assert field.metadata[b"unit"] == b"eV/atom"
    assert pd.read_csv("tiny-predictions-rejected.csv").empty


def test_elements_never_met_are_a_warning(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(files, "-o", "p.csv") == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: elements that the model never met in training")
    assert "O (1), Ti (1);" in said.err
    assert said.err.count("\n") == 1
    assert "p.csv: 4 predictions" in said.out
    assert "y (eV/atom)" in said.out
    assert len(pd.read_csv("p.csv")) == 4


def test_known_elements_are_no_warning(model: TrainedModel, tiny_crystals: CrystalSet) -> None:
    assert new_elements(model, tiny_crystals.take(np.array([0, 1, 2]))) == {}


def test_quiet_prints_no_table(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(files, "--quiet") == 0
    assert "SrTiO3" not in capsys.readouterr().out


def test_error_is_shown_where_the_data_hold_the_target(
    model: TrainedModel, twelve_crystals: CrystalSet
) -> None:
    table = table_of(model, twelve_crystals)
    error = (twelve_crystals.target("y") - table["prediction"]).abs().mean()
    line = score_against_data(model, twelve_crystals, table)
    assert line is not None
    assert f"MAE {error:.4g} eV/atom on 12 rows" in line


def test_no_error_without_the_target(model: TrainedModel, tiny_crystals: CrystalSet) -> None:
    table = table_of(model, tiny_crystals)
    assert score_against_data(model, tiny_crystals, table) is None


def test_unusable_rows_are_listed_and_limited(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(files["crystals"]).to_pandas()
    table.loc[1, "material_id"] = "NaCl"  # twice the same id
    table.to_parquet(files["crystals"], index=False)
    assert predict(files) == 2
    assert "more than --max-rejected 0.05" in capsys.readouterr().err
    assert predict(files, "--max-rejected", "0.9") == 0
    n_rejected = len(pd.read_csv(tmp_path / "tiny-predictions-rejected.csv"))
    assert n_rejected > 0
    assert len(pd.read_parquet("tiny-predictions.parquet")) == 4 - n_rejected


@pytest.mark.parametrize("pad", ["mask", "reference"])
def test_an_atom_without_neighbors_is_rejected_or_a_warning(
    model: TrainedModel, tiny_crystals: CrystalSet, capsys: pytest.CaptureFixture[str], pad: str
) -> None:
    config = model.config.model_copy(update={"pad": pad})
    save_model(replace(model, config=config), Path("padded"))
    lone = Crystal("lone", np.eye(3) * 100.0, np.array([14], np.uint8), np.zeros((1, 3)))
    structures = [*(tiny_crystals[k] for k in range(4)), lone]
    write_crystals(CrystalSet.from_crystals(structures), Path("some.parquet"))
    assert main.run(["predict", "--model", "padded", "some.parquet", "--max-rejected", "0.5"]) == 0
    rejected = pd.read_csv("some-predictions-rejected.csv")
    if pad == "mask":
        assert rejected.to_numpy().tolist() == [["lone", "no atom has a neighbor within 8 Å"]]
        return
    assert len(rejected) == 0
    told = "1 crystals have atoms without neighbors (the first: lone: no atom has a neighbor within"
    assert told in capsys.readouterr().err


def test_an_element_the_model_was_not_made_for_is_an_error(
    soap_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(soap_files) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert (
        "2 of 4 crystals hold elements that this model was not made for: O, Ti, Sr and Cs (the"
        " first: CsCl); drop these crystals, or give --max-rejected SHARE to go on without them"
    ) in said
    assert sorted(path.name for path in Path().iterdir()) == ["soap", "tiny.parquet"]


def test_such_crystals_can_be_left_out_on_request(
    soap_files: dict[str, Path], tiny_crystals: CrystalSet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(soap_files, "--max-rejected", "0.49") == 2
    assert "2 of 4 crystals cannot be used by this model" in capsys.readouterr().err
    assert predict(soap_files, "--max-rejected", "0.5", "-o", "p.csv") == 0
    assert "p.csv: 2 predictions, 2 rejected" in capsys.readouterr().out
    found, rejected = pd.read_csv("p.csv"), pd.read_csv("p-rejected.csv")
    assert rejected["material_id"].tolist() == ["CsCl", "SrTiO3"]
    assert rejected["reason"][1].startswith("holds O, Ti and Sr, which are not among the 3")
    expected = table_of(load_model(soap_files["run"]), tiny_crystals.take(np.array([0, 1])))
    assert found["material_id"].tolist() == ["NaCl", "Si"]
    np.testing.assert_allclose(found["prediction"], expected["prediction"], rtol=1e-12)


def test_features_are_computed_once(
    soap_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    build = SoapConfig.build

    def counted(config: SoapConfig, crystals: CrystalSet) -> Any:
        built.append(len(crystals))
        return build(config, crystals)

    monkeypatch.setattr(SoapConfig, "build", counted)
    assert predict(soap_files, "--max-rejected", "0.5") == 0
    assert built == [4]
    assert len(list(Path("cache").iterdir())) == 1


def test_features_that_do_not_fit_are_refused(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "available_memory", lambda: 1000)
    monkeypatch.setattr(NeighborConfig, "build", None)
    assert predict(files) == 2
    said = capsys.readouterr().err
    assert "1e-06 GB are free; lower model.max_neighbors, or take fewer crystals" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "stem"),
    [("delta", "delta"), ("a/new.json.gz", "new"), ("x.y.CSV", "x.y"), ("cifs/", "cifs")],
)
def test_predictions_are_called_after_the_crystals(source: str, stem: str) -> None:
    assert source_stem(source) == stem


def test_a_run_directory_stands_for_its_model(files: dict[str, Path]) -> None:
    best = files["run"] / "best"
    assert find_model(files["run"]) == best
    assert find_model(best) == best


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            {"command": "tune", "status": "running"},
            "away: a tune run that is running and has no model yet; models will lie in away/best",
        ),
        (
            {"command": "compare", "status": "interrupted"},
            "away: a compare run that is interrupted and has no model yet; models will lie in"
            " away/cells (see `raymat status away`)",
        ),
        (
            {"command": "screen", "arguments": {"ensembles": {"bulk": "/runs/K", "shear": "G"}}},
            "away: a screen run, which has no model; name an ensemble that it used: /runs/K, G",
        ),
        (
            {"command": "explain", "arguments": {"model": "runs/full"}},
            "away: an explain run, which has no model; name the one that it used: runs/full",
        ),
    ],
)
def test_a_run_without_a_model_says_where_one_lies(
    files: dict[str, Path],
    header: dict[str, Any],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("away").mkdir()
    Path("away/run.json").write_text(json.dumps(header), encoding="utf-8")
    assert predict(files, "--model", "away") == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_folder_of_models_names_them(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cells = Path("plan/cells")
    for name in ("a", "b"):
        shutil.copytree(files["run"] / "best", cells / name / "best")
    Path("plan/run.json").write_text('{"command": "compare", "status": "complete"}', "utf-8")
    assert predict(files, "--model", "plan") == 2
    assert (
        "plan: a compare run without a model of its own; 2 models lie below it: name one, such as"
        " plan/cells/a/best"
    ) in capsys.readouterr().err
    assert predict(files, "--model", "plan/cells/a") == 0
    Path("kept/ensemble").mkdir(parents=True)
    Path("kept/ensemble/ensemble.json").touch()
    assert predict(files, "--model", "kept", "--overwrite") == 2
    assert "kept: not a model; a model lies below it: name one, such as kept/ensemble" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "p.txt"], "-o p.txt: expected a name that ends in .parquet or .csv"),
        (
            ["--model", "nowhere"],
            "nowhere: no such folder; expected a model folder, such as RUN/best",
        ),
        (["--model", "cache"], "cache: no model.json here"),
        (["-o", "tiny.parquet"], "tiny.parquet is the source itself; choose another -o"),
        (
            ["-o", "there.csv"],
            "there.csv: exists already; choose another -o, or replace it with --overwrite",
        ),
        (["-o", "run/p.csv"], "run/p.csv belongs to a run; choose another -o"),
        (["--gpus", "2"], "'--gpus': must be at most 1;"),
    ],
)
def test_unusable_input(
    files: dict[str, Path], options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (files["run"] / "run.json").touch()
    for path in (Path("there.csv"), files["run"] / "p.csv"):
        path.touch()
    Path("cache").mkdir(exist_ok=True)
    before = files["crystals"].read_bytes()
    assert predict(files, *options) == 2
    assert files["crystals"].read_bytes() == before
    said: Any = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


# --- an ensemble ---------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path) -> Made:
    data = write_sixty(tmp_path / "sixty.parquet")
    return make_ensemble(tmp_path / "ensemble", data, members=(0, 1, 3))


def predict_with(made: Made, crystals: str, *options: str) -> int:
    return main.run(["predict", "--model", str(made.path), crystals, *options])


def test_ensemble_adds_its_spread(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict_with(made, "sixty.parquet") == 0
    said = capsys.readouterr()
    assert "against the data's own y: MAE " in said.out
    assert said.err == ""
    table, stored = pd.read_parquet("sixty-predictions.parquet"), made.predictions
    assert list(table.columns) == [
        *("material_id", "formula", "prediction", "std", "lower_90", "upper_90"),
        *("epistemic", "aleatoric", "in_domain", "in_training"),
    ]
    assert table["material_id"].tolist() == stored["material_id"].tolist()
    np.testing.assert_allclose(table["prediction"], stored["mean"], atol=1e-6)
    np.testing.assert_allclose(table["epistemic"], stored["epistemic"], atol=1e-6)
    assert (table["aleatoric"] == 0).all()
    scaling = load_ensemble(made.path).recalibration
    assert scaling is not None
    assert scaling.factor != pytest.approx(1.0, rel=0.01)
    np.testing.assert_allclose(table["std"], scaling.factor * stored["std"], rtol=1e-3)
    np.testing.assert_allclose(table["std"], stored["std_recalibrated"], rtol=1e-3)
    for end in ("lower_90", "upper_90"):
        np.testing.assert_allclose(table[end], stored[end], rtol=1e-3)
    assert table["in_domain"].dtype == "boolean"
    assert table.loc[made.rows("train"), "in_domain"].all()
    assert table["in_training"].dtype == "boolean"
    met = np.concatenate([made.rows("train"), made.rows("validation")])
    assert table.loc[met, "in_training"].all()
    # The sixty crystals are four at 15 volumes each, so that test rows are twins of training rows.
    assert f"rows (the model learned from {int(table['in_training'].sum())} of them)" in said.out


def test_members_of_an_ensemble_are_models_too(made: Made) -> None:
    member = str(made.path / "members" / "0003")
    assert main.run(["predict", "--model", member, "sixty.parquet", "-o", "p.csv"]) == 0
    table = pd.read_csv("p.csv")
    assert list(table.columns) == ["material_id", "formula", "prediction"]
    expected = np.stack(made.predictions["members"])[:, 2]
    np.testing.assert_allclose(table["prediction"], expected, atol=1e-6)


def test_classes_of_an_ensemble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_sixty(tmp_path / "sixty.parquet")
    made = make_ensemble(tmp_path / "ensemble", data, classes="median")
    assert predict_with(made, "sixty.parquet") == 0
    assert f"y P(above {made.inputs.threshold:.4g}): mean " in capsys.readouterr().out
    table = pd.read_parquet("sixty-predictions.parquet")
    assert table["prediction"].between(0.0, 1.0).all()
    np.testing.assert_allclose(table["prediction"], made.predictions["mean"], atol=1e-6)
    np.testing.assert_allclose(table["std"], made.predictions["std"], atol=1e-6)  # none is fitted


def test_elements_that_no_member_met(
    files: dict[str, Path], made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """`made` has met all of them; an ensemble that did not says so."""
    assert predict_with(made, str(files["crystals"])) == 0
    assert capsys.readouterr().err == ""
    path = made.path / "ensemble.json"
    content = json.loads(path.read_text("utf-8"))
    content["elements"].remove(8)
    path.write_text(json.dumps(content), encoding="utf-8")
    assert predict_with(made, str(files["crystals"]), "-o", "p.csv") == 0
    said = capsys.readouterr().err
    assert said.startswith("warning: elements that the model never met in training")
    assert "O (1);" in said


def test_incomplete_ensemble_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_sixty(tmp_path / "sixty.parquet")
    part = make_ensemble(tmp_path / "part", data, finish=False)
    assert predict_with(part, "sixty.parquet") == 2
    said = capsys.readouterr()
    assert f"it has 4 members so far; continue it with `raymat resume {part.path}`" in said.err
    assert said.err.count("\n") == 1
    assert not Path("sixty-predictions.parquet").exists()


def test_predictions_that_are_no_numbers_are_refused(
    files: dict[str, Path], model: TrainedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every weight is finite, and yet the products overflow."""
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.fill_(1e38)
    save_model(model, files["run"] / "best")
    options = ["--model", str(files["run"]), "-o", "p.csv", "--max-rejected", "1"]
    assert main.run(["predict", str(files["crystals"]), *options]) == 2
    assert "predictions are not finite numbers (the first: " in capsys.readouterr().err
    assert not Path("p.csv").exists()
