"""``raymat contributions`` as a user calls it: tables and figures in a run directory."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_ensembles import make_ensemble, write_sixty

from raymat.cli import main
from raymat.data.crystals import CrystalSet
from raymat.data.scaling import TargetScaling
from raymat.data.writers import write_crystals
from raymat.models import load_spec
from raymat.reports import site_figures
from raymat.training.model_files import TrainedModel, save_model

FIGURES = ("elements", "histograms", "site_map", "element_map")
TABLES = ("contributions.parquet", "elements.csv", "pairs.csv", "rejected.csv")
RUN = {"run.json", "events.jsonl", "metrics.json", ".lock"}
ELEMENTS = (8, 11, 14, 17, 38, 55)  # without Ti
PREDICTION = 1e-6  # relative, of single precision


def save(folder: str, *, name: str = "cgcnn", task: Any = "regression", **config: Any) -> None:
    spec = load_spec(name)
    built = spec.config(**config)
    torch.manual_seed(0)
    model = TrainedModel(
        name=name,
        config=built,
        network=spec.build(built, task).eval(),
        target="y",
        unit="eV/atom",
        task=task,
        scaling=TargetScaling(mean=-1.0, std=2.0),
        threshold=None,
        elements=ELEMENTS,
        training={},
    )
    save_model(model, Path(folder))


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_crystals: CrystalSet) -> None:
    """A run with a model, and crystals without any property, in a folder of the test's own."""
    monkeypatch.setenv("RAYMAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save("run/best", readout="linear", atom_dim=8, n_conv=1)
    write_crystals(tiny_crystals, Path("tiny.parquet"))


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds; the tests of the figures and one here do it."""
    monkeypatch.setattr(site_figures, "save_site_figures", lambda *_: [])


def contributions(*options: str, model: str = "run", crystals: str = "tiny.parquet") -> int:
    return main.run(["contributions", "--model", model, crystals, *options])


def test_tables_and_figures_become_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert contributions() == 0
    (folder,) = Path("runs").glob("contributions-tiny-*")
    figures = {f"{name}.{end}" for name in FIGURES for end in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == {*TABLES, *figures, *RUN}
    said = capsys.readouterr()
    assert said.err.startswith("warning: elements that the model never met in training")
    assert "Ti (1); predictions with them are guesses" in said.err
    assert said.err.count("\n") == 1
    assert "contributions to y (eV/atom)" in said.out
    assert "23 sites of 4 crystals: from " in said.out
    assert f"files: {folder}/ (contributions.parquet, elements.csv" in said.out
    assert pd.read_csv(folder / "rejected.csv").empty


@pytest.mark.usefixtures("_no_figures")
def test_run_tells_what_was_asked_of_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert contributions("-o", "out") == 0
    header = json.loads(Path("out/run.json").read_text())
    assert (header["command"], header["status"]) == ("contributions", "complete")
    assert header["arguments"]["model"] == str(Path("run/best").absolute())
    assert header["arguments"]["crystals"] == str(Path("tiny.parquet").absolute())
    assert (header["data"]["n_used"], header["data"]["n_rejected"]) == (4, 0)
    assert len(header["data"]["sha256"]) == 64
    assert header["versions"]["torch"] == torch.__version__
    capsys.readouterr()
    assert main.run(["status", "out"]) == 0
    assert main.run(["runs", "."]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "out: contributions, complete\n  target y (eV/atom), model cgcnn, data tiny, started "
    )
    assert said.count("23 sites from ") == 2
    assert said.count("-5.343 eV/atom") == 2


@pytest.mark.usefixtures("_no_figures")
def test_model_that_the_mean_beats_is_doubted_first(capsys: pytest.CaptureFixture[str]) -> None:
    worse = {"metric": "mae", "n": 40, "mean": {"difference": 0.2, "lo": 0.1, "hi": 0.3}}
    Path("run/metrics.json").write_text(json.dumps({"verdict": worse}))
    assert contributions("-o", "out") == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("warning: ")
    assert "run/best: the model is not shown to beat the mean of its training rows" in first


@pytest.mark.long
@pytest.mark.usefixtures("_no_figures")
def test_killed_run_is_not_complete_and_is_continued(capsys: pytest.CaptureFixture[str]) -> None:
    """Killed while it draws, when all of its tables are there."""
    words = ["contributions", "--model", "run", "tiny.parquet", "-o", "out"]
    start = "from raymat.cli.main import main; main()"
    process = subprocess.Popen([sys.executable, "-c", start, *words], stderr=subprocess.DEVNULL)
    while not Path("out/pairs.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not Path("out/metrics.json").exists()
    assert main.run(["status", "out"]) == 0
    assert "out: contributions, dead (its process has ended)" in capsys.readouterr().out
    assert main.run(["resume", "out", "--quiet"]) == 0
    assert json.loads(Path("out/run.json").read_text())["status"] == "complete"
    capsys.readouterr()
    assert main.run(["resume", "out"]) == 0
    said = capsys.readouterr().out
    assert "contributions to y (eV/atom)" in said
    assert said.endswith("out: the run is complete, nothing is left to do\n")


@pytest.mark.usefixtures("_no_figures")
def test_quiet_prints_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()  # an empty folder is taken
    assert contributions("--quiet", "-o", "there") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert {path.name for path in Path("there").iterdir()} == {*TABLES, *RUN}


@pytest.mark.usefixtures("_no_figures")
def test_mean_over_a_crystal_is_what_predict_says() -> None:
    assert contributions("-o", "out") == 0
    assert main.run(["predict", "--model", "run", "tiny.parquet", "-o", "p.parquet"]) == 0
    sites, predicted = pd.read_parquet("out/contributions.parquet"), pd.read_parquet("p.parquet")
    means = sites.groupby("material_id", sort=False)["contribution"].mean()
    assert means.index.tolist() == predicted["material_id"].tolist()
    np.testing.assert_allclose(means, predicted["prediction"], rtol=PREDICTION)


@pytest.mark.usefixtures("_no_figures")
def test_many_elements_are_shown_by_their_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("raymat.cli.contributions_results._SHOWN_ENDS", 2)
    assert contributions("-o", "out") == 0
    said = capsys.readouterr().out
    assert "(3 more)" in said
    means = pd.read_csv("out/elements.csv").set_index("element")["mean"].sort_values()
    rows = [line.split()[0] for line in said.splitlines()[3:10] if line.split()]
    shown = [word for word in rows if word in means.index]
    assert shown == [*means.index[:2], *means.index[-2:]]


@pytest.mark.usefixtures("_no_figures")
def test_unusable_rows_are_listed() -> None:
    table = pd.read_parquet("tiny.parquet")
    table.loc[1, "material_id"] = "NaCl"
    table.to_parquet("twice.parquet", index=False)
    assert contributions("-o", "out", "--max-rejected", "0.9", crystals="twice.parquet") == 0
    rejected = pd.read_csv("out/rejected.csv")
    assert set(rejected["material_id"]) == {"NaCl"}
    left = set(pd.read_parquet("out/contributions.parquet")["material_id"])
    assert left.isdisjoint({"Si"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "mean"}, "mean: readout 'mean' has no site contributions, its value is no mean"),
        ({"model": "classes"}, "classes: a classifier has no site contributions"),
        ({"model": "megnet"}, "megnet: a megnet model has no site contributions; train a cgcnn"),
        ({"model": "nowhere"}, "nowhere: no such folder; expected a model folder"),
        ({"model": "broken"}, "broken/model.json: cannot be read"),
        ({"crystals": "none.parquet"}, "none.parquet: the source is empty (no rows)"),
        ({"crystals": "absent.parquet"}, "absent.parquet"),
    ],
)
def test_unusable_input(
    options: dict[str, str],
    words: str,
    tiny_crystals: CrystalSet,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save("mean")
    save("classes", task="classification", readout="linear")
    save("megnet", name="megnet")
    save("broken")
    Path("broken/model.json").write_text("{", encoding="utf-8")
    write_crystals(tiny_crystals.take(np.array([], dtype=np.int64)), Path("none.parquet"))
    assert contributions("-o", "out", **options) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not Path("out").exists()


def test_nothing_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    for out, words in (
        ("run", "-o run: exists already and is not empty; choose another -o, or remove it"),
        ("tiny.parquet", "-o tiny.parquet: exists already and is a file"),
        ("cifs/new", "-o cifs/new: lies inside the source cifs; choose another -o"),
    ):
        Path("cifs").mkdir(exist_ok=True)
        source = "cifs" if out.startswith("cifs") else "tiny.parquet"
        assert contributions("-o", out, crystals=source) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_an_ensemble_has_members_to_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_sixty(tmp_path / "sixty.parquet")
    made = make_ensemble(tmp_path / "ensemble", data)
    assert contributions("-o", "out", model=str(made.path)) == 2
    said = capsys.readouterr().err
    assert "an ensemble; name one member, such as members/0000 in it" in said
    assert said.count("\n") == 1
