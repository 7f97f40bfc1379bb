"""What a run starts from, and what training is handed of it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fitting import table_of

from raymat.data.crystals import CrystalSet
from raymat.data.scaling import TargetScaling
from raymat.data.splits import SplitConfig, read_split
from raymat.data.writers import write_crystals
from raymat.errors import DataError, RunError
from raymat.tracking.run_directory import RunDirectory
from raymat.training.fit import EpochMetrics
from raymat.training.inputs import join_rejected, leave_out, load_inputs
from raymat.training.results import (
    FitResult,
    predict_baselines,
    prediction_table,
    say_if_flat,
    score_against_baselines,
    score_part,
)


@pytest.fixture
def source(twelve_crystals, tmp_path):
    write_crystals(twelve_crystals, tmp_path / "twelve.parquet")
    return tmp_path / "twelve.parquet"


@pytest.fixture
def run(tmp_path):
    with RunDirectory.create(tmp_path / "run", {"command": "train"}) as run:
        run.emit("trial_started", trial=0)
        yield run


def load(run, source, target="y", seed=0):
    config = SplitConfig(seed=seed)
    return load_inputs(
        run, source=str(source), target=target, split_config=config, max_rejected=0.05
    )


def test_parts_and_facts(run, source, twelve_crystals):
    inputs = load(run, source)
    assert np.array_equal(inputs.targets, twelve_crystals.target("y"))
    rows = {part: inputs.split.rows(part) for part in ("train", "validation", "test")}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(12))
    header = run.header
    assert header["target"] == "y"
    assert header["data"]["sha256"] == inputs.source.sha256
    assert header["split"]["rows"] == {part: len(r) for part, r in rows.items()}
    assert (run.path / "rejected.csv").read_text(encoding="utf-8") == "material_id,reason\n"
    seen = set(twelve_crystals.take(rows["train"]).atomic_numbers.tolist())
    assert inputs.elements() == tuple(sorted(seen))


def test_training_is_not_handed_the_test_rows(run, source):
    inputs = load(run, source)
    data = inputs.fit_data(table_of(inputs.crystals))
    test = set(inputs.split.rows("test").tolist())
    assert test
    assert not test & set(data.train.tolist())
    assert not test & set(data.validation.tolist())
    assert not set(data.train.tolist()) & set(data.validation.tolist())


def test_a_second_look_finds_the_same_split(run, source):
    first = load(run, source, seed=0)
    again = load(run, source, seed=5)  # the run has its split; a later seed does not change it
    assert first.split.sha256 == again.split.sha256


def test_data_that_changed_since_the_run_began(run, source, twelve_crystals):
    load(run, source)
    write_crystals(twelve_crystals.take(np.arange(11)), source)
    with pytest.raises(RunError, match="the data have changed since the run began"):
        load(run, source)


def test_a_class_target_needs_both_classes(run, twelve_crystals, tmp_path):
    crystals = CrystalSet(
        **{**vars(twelve_crystals), "properties": pd.DataFrame({"is_metal": [1] * 12})}
    )
    write_crystals(crystals, tmp_path / "classes.parquet")
    with pytest.raises(
        DataError, match=r"'is_metal' is a class and must hold 0 and 1; it holds \[1\.0\]"
    ):
        load(run, tmp_path / "classes.parquet", target="is_metal")


def test_unknown_target(run, source):
    with pytest.raises(DataError, match=r"twelve.parquet: .*'yy'.*did you mean 'y'"):
        load(run, source, target="yy")


def test_scores_and_predictions(run, source):
    inputs = load(run, source)
    predictions = inputs.targets + np.where(inputs.split.parts == "test", 0.5, 0.1)
    assert score_part(inputs, "test", predictions)["mae"] == pytest.approx(0.5)
    assert score_part(inputs, "train", predictions)["mae"] == pytest.approx(0.1)
    table = prediction_table(inputs, predictions)
    assert list(table.columns) == ["material_id", "part", "target", "prediction"]
    assert list(table["material_id"]) == list(inputs.crystals.material_ids)
    assert set(table["part"]) == {"train", "validation", "test"}


def test_baselines_learn_from_training_rows_only(run, source):
    inputs = load(run, source)
    found = score_against_baselines(inputs, inputs.targets, predict_baselines(inputs))
    scores, verdict = found["baselines"], found["verdict"]
    rows = {part: inputs.split.rows(part) for part in ("train", "test")}
    mean = inputs.targets[rows["train"]].mean()
    expected = np.abs(inputs.targets[rows["test"]] - mean).mean()
    assert scores["mean"]["mae"] == pytest.approx(expected)
    assert scores["composition"]["n"] == len(rows["test"])
    assert verdict["mean"]["difference"] == pytest.approx(-expected)  # the targets themselves


def test_result_of_a_fit(run, source, monkeypatch):
    from fitting import make_fit

    from raymat.training.results import conclude, to_trained_model

    inputs = load(run, source)
    fitting = make_fit(inputs.fit_data(table_of(inputs.crystals)))
    with pytest.raises(RunError, match="no epoch was finished, so there is no model"):
        conclude(fitting)
    fitting.run_epoch()
    monkeypatch.setattr("raymat.training.fit.validation_score", lambda *_: 1e9)
    fitting.run_epoch()
    fitting.run_epoch()
    result = conclude(fitting)
    assert result.best.epoch == 1
    assert isinstance(result, FitResult)
    assert isinstance(result.best, EpochMetrics)
    assert result.epochs == 3
    own = score_part(inputs, "validation", result.predictions)["mae"]
    assert own == pytest.approx(result.best.val_score, rel=1e-6)
    model = to_trained_model("cgcnn", fitting.model.config, result, inputs, {"seed": 0})
    train = inputs.targets[inputs.split.rows("train")]
    assert model.scaling == TargetScaling.fit(train)
    assert model.elements == inputs.elements()
    assert model.predict(fitting.table) == pytest.approx(result.predictions, rel=1e-6)


def test_a_constant_target_is_refused_before_anything_is_trained(run, tmp_path, twelve_crystals):
    flat = replace(twelve_crystals, properties=twelve_crystals.properties.assign(y=1.0))
    write_crystals(flat, tmp_path / "flat.parquet")
    with pytest.raises(DataError, match="training targets are all equal"):
        load(run, tmp_path / "flat.parquet")


def test_training_is_given_no_test_target(run, source):
    inputs = load(run, source)
    data = inputs.fit_data(table_of(inputs.crystals))
    assert np.isnan(data.targets[inputs.split.rows("test")]).all()
    assert np.isfinite(data.targets[inputs.split.rows("validation")]).all()


XENON = "holds Xe, which the model's table of elements lacks"


def one_of_each_part(inputs):
    """Give an unusable training and validation row, so that something is left of each part."""
    rows = {part: int(inputs.split.rows(part)[0]) for part in ("train", "validation")}
    return {rows["train"]: "no atom has a neighbor within 4 Å", rows["validation"]: XENON}


@pytest.fixture
def thirds(run, source):
    """Inputs with four rows in every part."""
    split = SplitConfig(seed=2, train=1 / 3, validation=1 / 3, test=1 / 3)
    return load_inputs(run, source=str(source), target="y", split_config=split, max_rejected=0.05)


def test_rows_that_the_model_cannot_take_leave_all_parts(run, thirds):
    unusable = one_of_each_part(thirds)
    left = leave_out(thirds, unusable, run, max_rejected=0.2)
    assert {part: len(left.split.rows(part)) for part in ("train", "validation", "test")} == {
        "train": 3,
        "validation": 3,
        "test": 4,
    }
    kept = np.concatenate([left.split.rows(part) for part in ("train", "validation", "test")])
    assert not set(kept.tolist()) & set(unusable)
    assert np.array_equal(left.split.rows("test"), thirds.split.rows("test"))
    assert len(left.crystals) == 12  # row numbers stay what they were
    data = left.fit_data(table_of(left.crystals))
    assert np.isnan(data.targets[list(unusable)]).all()
    table = prediction_table(left, left.targets)
    assert not set(table["material_id"]) & set(left.crystals.material_ids[list(unusable)])
    assert len(table) == 10


def test_what_was_left_out_is_listed_and_said(run, thirds):
    unusable = one_of_each_part(thirds)
    left = leave_out(thirds, unusable, run, max_rejected=0.2)
    listed = pd.read_csv(run.path / "rejected.csv")
    expected = [(thirds.crystals.material_ids[row], unusable[row]) for row in sorted(unusable)]
    assert list(listed.itertuples(index=False, name=None)) == expected
    assert list(left.rejected.itertuples(index=False, name=None)) == expected
    assert run.header["split"]["rows"] == {"train": 3, "validation": 3, "test": 4}
    assert run.header["split"]["sha256"] == left.split.sha256
    assert read_split(run.path / "split.parquet").sha256 == left.split.sha256
    (event,) = [event for event in run.events() if event["event"] == "left_out"]
    assert (event["count"], event["first"]) == (2, " ".join(expected[0]))


def test_rows_rejected_before_stay_listed(run, thirds):
    rejected = pd.DataFrame([("mp-1", "twice the same id")], columns=["material_id", "reason"])
    left = leave_out(replace(thirds, rejected=rejected), {11: XENON}, run, max_rejected=0.2)
    assert left.rejected["material_id"].tolist() == ["mp-1", thirds.crystals.material_ids[11]]
    (event,) = [event for event in run.events() if event["event"] == "left_out"]
    assert event["first"] == f"{thirds.crystals.material_ids[11]} {XENON}"


def test_nothing_to_leave_out_changes_nothing(run, thirds):
    before = (run.path / "split.parquet").read_bytes(), len(run.events())
    assert leave_out(thirds, {}, run, max_rejected=0.0) is thirds
    assert ((run.path / "split.parquet").read_bytes(), len(run.events())) == before


def test_leaving_out_again_after_an_interruption_is_the_same(run, source, thirds):
    """A resumed run reads the split back, in which the rows stand in no part already."""
    unusable = one_of_each_part(thirds)
    left = leave_out(thirds, unusable, run, max_rejected=0.2)
    files = {name: (run.path / name).read_bytes() for name in ("rejected.csv", "split.parquet")}
    resumed = load(run, source)
    assert resumed.split.sha256 == left.split.sha256
    again = leave_out(resumed, unusable, run, max_rejected=0.2)
    assert again.split.sha256 == left.split.sha256
    assert again.facts() == left.facts()
    assert {name: (run.path / name).read_bytes() for name in files} == files


def test_more_than_the_tolerated_share(run, thirds):
    first = sorted(one_of_each_part(thirds).items())[0]
    name = thirds.crystals.material_ids[first[0]]
    message = rf"^2 of 12 crystals cannot be used by this model \(the first: {name} {first[1]}\);"
    before = (run.path / "split.parquet").read_bytes()
    with pytest.raises(DataError, match=message + ".*--max-rejected 0.1$") as caught:
        leave_out(thirds, one_of_each_part(thirds), run, max_rejected=0.1)
    assert "\n" not in str(caught.value)
    assert (run.path / "split.parquet").read_bytes() == before
    assert len(pd.read_csv(run.path / "rejected.csv")) == 0


def test_what_is_left_must_be_learnable(run, thirds):
    train = thirds.split.rows("train").tolist()
    with pytest.raises(DataError, match="the 1 training targets are all equal"):
        leave_out(thirds, dict.fromkeys(train[1:], XENON), run, max_rejected=1.0)


def test_rejected_rows_of_a_prediction(twelve_crystals):
    none = pd.DataFrame(columns=["material_id", "reason"])
    assert join_rejected(none, twelve_crystals, {}, max_rejected=0.0) is none
    joined = join_rejected(none, twelve_crystals, {5: XENON, 2: "no"}, max_rejected=0.5)
    assert joined["material_id"].tolist() == ["CsCl-0", "Si-1"]
    with pytest.raises(DataError, match=r"1 of 12 crystals .*the first: CsCl-0 no\)"):
        join_rejected(none, twelve_crystals, {2: "no"}, max_rejected=0.05)


@pytest.mark.parametrize(
    ("scale", "is_odd"), [(1e-11, True), (1e-7, True), (1.0, False), (1e5, False), (1e7, True)]
)
def test_targets_of_an_unusual_size_are_said(run, twelve_crystals, tmp_path, scale, is_odd):
    properties = pd.DataFrame({"compressibility": twelve_crystals.target("y") * scale})
    write_crystals(replace(twelve_crystals, properties=properties), tmp_path / "t.parquet")
    load(run, tmp_path / "t.parquet", target="compressibility")
    texts = [event["text"] for event in run.events() if event["event"] == "warning"]
    assert len(texts) == is_odd
    if is_odd:
        assert "targets of 'compressibility' are mostly near" in texts[0]
        assert "outside 1e-06 to 1e+06; check their unit" in texts[0]


@pytest.mark.parametrize(("spread", "is_flat"), [(0.0, True), (1e-4, True), (1e-2, False)])
def test_predictions_that_are_one_number_are_said(run, source, spread, is_flat):
    inputs = load(run, source)
    predictions = 3.0 + spread * inputs.targets
    train = inputs.split.rows("train")
    predictions[train] = np.arange(len(train))  # what counts is the other rows
    text = say_if_flat(inputs, predictions)
    assert (text is not None) == is_flat
    if text is not None:
        assert text.startswith("the model predicts about 3")
