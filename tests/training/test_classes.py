"""Numbers learned as classes: above the median of the training rows, or above a value."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fitting import make_fit, table_of

from raymat.data.splits import PARTS, SplitConfig
from raymat.data.writers import write_crystals
from raymat.errors import ConfigError, DataError
from raymat.tracking.run_directory import RunDirectory
from raymat.training.fit import fit
from raymat.training.inputs import leave_out, load_inputs
from raymat.training.model_files import DESCRIPTION, load_model, save_model
from raymat.training.results import conclude, prediction_table, score_part, to_trained_model

# Four rows in each part but training, so that both classes are met in all of them.
SPLIT = SplitConfig(seed=2, train=0.4, validation=0.3, test=0.3)


@pytest.fixture
def targets():
    """Sixteen different numbers, none of them the median of any half."""
    return np.random.default_rng(1).permutation(np.arange(16) ** 2 / 10.0)


@pytest.fixture
def crystals(twelve_crystals, targets):
    rows = np.concatenate([np.arange(12), np.arange(4)])
    sixteen = twelve_crystals.take(rows)
    names = np.array([f"{name}/{k}" for k, name in enumerate(sixteen.material_ids)], dtype=object)
    is_high = (targets > 5.0).astype(float)
    properties = pd.DataFrame({"y": targets, "is_metal": is_high})
    return replace(sixteen, material_ids=names, properties=properties)


@pytest.fixture
def source(crystals, tmp_path):
    write_crystals(crystals, tmp_path / "sixteen.parquet")
    return tmp_path / "sixteen.parquet"


@pytest.fixture
def run(tmp_path):
    with RunDirectory.create(tmp_path / "run", {"command": "train"}) as run:
        run.emit("trial_started", trial=0)
        yield run


def load(run, source, classes, target="y"):
    return load_inputs(
        run,
        source=str(source),
        target=target,
        split_config=SPLIT,
        max_rejected=0.05,
        classes=classes,
    )


def test_median_is_that_of_the_training_rows(run, source, targets):
    inputs = load(run, source, "median")
    train = inputs.split.rows("train")
    assert 6 <= len(train) < 16
    assert inputs.threshold == np.median(targets[train])
    assert inputs.threshold != np.median(targets)
    assert inputs.targets.tolist() == [float(y > inputs.threshold) for y in targets]
    assert inputs.targets[train].mean() == 0.5


def test_other_rows_do_not_move_the_median(run, source, crystals, targets, tmp_path):
    expected = load(run, source, "median")
    poisoned = targets.copy()
    others = np.setdiff1d(np.arange(16), expected.split.rows("train"))
    poisoned[others] += np.where(expected.targets[others] == 1.0, 1e6, -1e3)
    assert np.median(poisoned) != np.median(targets)
    write_crystals(
        replace(crystals, properties=pd.DataFrame({"y": poisoned})), tmp_path / "other.parquet"
    )
    with RunDirectory.create(tmp_path / "second", {"command": "train"}) as second:
        inputs = load(second, tmp_path / "other.parquet", "median")
    assert inputs.split.sha256 == expected.split.sha256
    assert inputs.threshold == expected.threshold


def test_a_value_is_taken_as_it_is(run, source, targets):
    inputs = load(run, source, 4.9)  # one of the targets: class 1 lies above it
    assert inputs.threshold == 4.9
    assert 4.9 in targets
    assert inputs.targets.tolist() == [float(y > 4.9) for y in targets]


def test_without_a_rule_the_number_is_learned(run, source, targets):
    inputs = load(run, source, None)
    assert inputs.threshold is None
    assert inputs.prop.task == "regression"
    assert inputs.targets.tolist() == targets.tolist()


def test_a_class_has_no_unit_and_the_run_says_the_threshold(run, crystals, tmp_path):
    modulus = crystals.properties.rename(columns={"y": "K_VRH"})
    write_crystals(replace(crystals, properties=modulus), tmp_path / "k.parquet")
    inputs = load(run, tmp_path / "k.parquet", "median", target="K_VRH")
    assert (inputs.prop.task, inputs.prop.unit) == ("classification", "")
    assert inputs.prop.name == "K_VRH"
    header = run.header
    assert (header["task"], header["unit"]) == ("classification", "")
    assert header["threshold"] == inputs.threshold


def test_training_is_given_classes_and_no_test_target(run, source):
    inputs = load(run, source, "median")
    data = inputs.fit_data(table_of(inputs.crystals))
    assert data.task == "classification"
    known = np.concatenate([data.train, data.validation])
    assert data.targets[known].tolist() == inputs.targets[known].tolist()
    assert np.isnan(data.targets[inputs.split.rows("test")]).all()
    assert list(data.features.crystals.properties.columns) == []


def test_what_is_a_class_already(run, source):
    for rule in ("median", 0.5):
        with pytest.raises(ConfigError, match="'is_metal' is a class already; leave --classes out"):
            load(run, source, rule, target="is_metal")
    inputs = load(run, source, None, target="is_metal")
    assert (inputs.prop.task, inputs.threshold) == ("classification", None)


@pytest.mark.parametrize("value", [-1.0, 22.5, 1e9])
def test_one_class_only(run, source, value):
    """A value below or above all numbers leaves nothing to tell apart."""
    with pytest.raises(
        DataError, match="the train rows hold one class of 'y' only, so there is no"
    ):
        load(run, source, value)


def test_one_class_in_a_part(run, source, targets):
    split = load(run, source, None).split
    above = {v: [(targets[split.rows(p)] > v).mean() for p in PARTS] for v in targets.tolist()}
    value = next(v for v, (train, *others) in above.items() if 0 < train < 1 and {0, 1} & {*others})
    with pytest.raises(DataError, match=r"the (validation|test) rows hold one class of 'y' only"):
        load(run, source, value)


def test_a_second_look_finds_the_same_threshold(run, source):
    """A run that was interrupted goes on with the classes it began with."""
    first = load(run, source, "median")
    assert load(run, source, "median").threshold == first.threshold


def test_rows_left_out_do_not_count_and_a_resumed_run_agrees(run, source, targets):
    """The median is that of the rows that train, before and after an interruption."""
    inputs = load(run, source, "median")
    largest = max(inputs.split.rows("train").tolist(), key=targets.__getitem__)
    unusable = {largest: "holds Xe"}
    left = leave_out(inputs, unusable, run, max_rejected=0.2)
    train = left.split.rows("train")
    assert set(train.tolist()) == set(inputs.split.rows("train").tolist()) - set(unusable)
    assert left.threshold == np.median(targets[train])
    assert left.threshold != inputs.threshold
    assert run.header["threshold"] == left.threshold
    again = leave_out(load(run, source, "median"), unusable, run, max_rejected=0.2)
    assert again.threshold == left.threshold
    assert again.targets.tolist() == left.targets.tolist()


@pytest.fixture
def classifier(run, source):
    inputs = load(run, source, "median")
    fitting = make_fit(inputs.fit_data(table_of(inputs.crystals)), epochs=2)
    fit(fitting, lambda *_: None)
    return inputs, conclude(fitting)


def test_predictions_of_a_classifier(classifier):
    inputs, result = classifier
    assert ((result.predictions > 0) & (result.predictions < 1)).all()
    scores = score_part(inputs, "test", result.predictions)
    assert {"auc", "auc_ci95", "accuracy", "accuracy_0", "accuracy_1"} <= set(scores)
    table = prediction_table(inputs, result.predictions)
    assert set(table["target"]) == {0.0, 1.0}


def test_the_model_file_keeps_the_threshold(classifier, tmp_path):
    inputs, result = classifier
    model = to_trained_model("cgcnn", result.network.config, result, inputs, {})
    save_model(model, tmp_path / "best")
    content = json.loads((tmp_path / "best" / DESCRIPTION).read_text(encoding="utf-8"))
    assert content["threshold"] == inputs.threshold
    again = load_model(tmp_path / "best")
    assert (again.threshold, again.task, again.unit) == (inputs.threshold, "classification", "")
    predicted = again.predict(table_of(inputs.crystals))
    assert predicted == pytest.approx(result.predictions, abs=1e-6)  # batches of another size


def test_a_model_file_from_before_there_were_thresholds(classifier, tmp_path):
    inputs, result = classifier
    save_model(to_trained_model("cgcnn", result.network.config, result, inputs, {}), tmp_path)
    content = json.loads((tmp_path / DESCRIPTION).read_text(encoding="utf-8"))
    del content["threshold"]
    (tmp_path / DESCRIPTION).write_text(json.dumps(content), encoding="utf-8")
    assert load_model(tmp_path).threshold is None


@pytest.fixture
def by_values(crystals, tmp_path):
    """A source with columns of 0 and 1 and of two words."""
    is_high = crystals.properties["is_metal"].to_numpy() > 0
    columns = pd.DataFrame(
        {"stable": is_high.astype(float), "phase": np.where(is_high, "metal", "insulator")}
    )
    write_crystals(replace(crystals, properties=columns), tmp_path / "classes.parquet")
    return tmp_path / "classes.parquet"


@pytest.mark.parametrize(
    ("target", "names"), [("stable", ("0", "1")), ("phase", ("insulator", "metal"))]
)
def test_a_column_of_two_values_is_learned_as_classes(run, by_values, crystals, target, names):
    inputs = load(run, by_values, None, target=target)
    assert (inputs.prop.task, inputs.prop.names) == ("classification", names)
    assert inputs.targets.tolist() == crystals.properties["is_metal"].tolist()
    assert run.header["class_names"] == list(names)
    assert (
        inputs.prop.say_classes()
        == {
            "stable": "target 'stable' holds 0 and 1 only: learned as classes (class 1: 1);"
            " --classes none learns it as a number",
            "phase": "target 'phase' holds the words insulator and metal: learned as classes"
            " (class 1: metal)",
        }[target]
    )


def test_the_way_back_to_numbers(run, by_values):
    inputs = load(run, by_values, "none", target="stable")
    assert (inputs.prop.task, inputs.threshold) == ("regression", None)
    assert run.header["class_names"] is None
    again = load(run, by_values, None, target="stable")  # a run that began so goes on so
    assert again.prop.task == "regression"


def test_a_value_still_cuts_a_column_of_0_and_1(run, by_values):
    inputs = load(run, by_values, 0.5, target="stable")
    assert (inputs.prop.task, inputs.threshold, inputs.prop.names) == ("classification", 0.5, None)


@pytest.mark.parametrize(
    ("rule", "words"), [("none", "holds words"), ("median", "a class already")]
)
def test_words_are_no_numbers(run, by_values, rule, words):
    with pytest.raises(ConfigError, match=f"'phase' .*{words}.*; leave --classes out"):
        load(run, by_values, rule, target="phase")


def test_numbers_are_cut_where_a_command_needs_classes(run, by_values, source):
    """As an explanation does: a number by its median, a class as it is."""
    options = {"split_config": SPLIT, "max_rejected": 0.05, "numbers_as": "median"}
    number = load_inputs(run, source=str(source), target="y", **options)
    assert number.threshold is not None
    run.update_header(data={})
    kept = load_inputs(run, source=str(by_values), target="stable", **options)
    assert (kept.threshold, kept.prop.names) == (None, ("0", "1"))
