"""Search spaces: what they draw, and what is refused before anything starts."""

import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import raymat
from raymat.errors import ConfigError
from raymat.tuning.distributions import Choice, Int, LogUniform, Uniform
from raymat.tuning.space import SearchSpace, parse_space, read_space, shipped_spaces
from raymat.tuning.trial_config import TrialConfig, flat_config

N_DRAWS = 2000
TENTH_OF_DRAWS_TOLERANCE = 0.03  # four standard errors of a tenth in 2000 draws


def space_with(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "model": "cgcnn",
        "space": {"model.n_conv": {"int": [1, 5]}},
        "budget": {"trials": 8, "epochs": 20},
    }
    return {key: value for key, value in (content | changes).items() if value is not ...}


def searching(space: dict[str, Any], **changes: Any) -> SearchSpace:
    return parse_space(space_with(space=space, **changes), path="s.yaml")


# --- distributions -------------------------------------------------------------------------------

DISTRIBUTIONS = [
    Choice(values=("a", 2, 0.5, None, True)),
    Int(low=1, high=5),
    Int(low=32, high=256, step=32),
    Int(low=1, high=100, log=True),
    Uniform(low=0.0, high=0.2),
    Uniform(low=5.0, high=8.0, step=0.2),
    LogUniform(low=math.exp(-14), high=1.0),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_every_draw_lies_in_its_distribution(distribution):
    rng = np.random.default_rng(0)
    assert all(distribution.contains(distribution.sample(rng)) for _ in range(N_DRAWS))
    assert all(distribution.contains(value) for value in distribution.extremes())


@pytest.mark.parametrize("distribution", DISTRIBUTIONS[:4] + DISTRIBUTIONS[5:6], ids=repr)
def test_a_countable_distribution_draws_all_its_grid(distribution):
    rng = np.random.default_rng(0)
    drawn = {distribution.sample(rng) for _ in range(N_DRAWS)}
    grid = distribution.grid_values()
    assert drawn <= set(grid)
    assert {grid[0], grid[-1]} <= drawn, "both ends are included"


def test_the_same_generator_draws_the_same_value():
    for distribution in DISTRIBUTIONS:
        first, second = (distribution.sample(np.random.default_rng(7)) for _ in range(2))
        assert first == second


def test_log_distributions_draw_each_factor_equally_often():
    rng = np.random.default_rng(0)
    small = np.mean([LogUniform(low=1e-10, high=1.0).sample(rng) < 1e-9 for _ in range(N_DRAWS)])
    assert small == pytest.approx(0.1, abs=TENTH_OF_DRAWS_TOLERANCE)
    tens = np.mean([Int(low=1, high=10**5, log=True).sample(rng) > 10**4.5 for _ in range(N_DRAWS)])
    assert tens == pytest.approx(0.1, abs=TENTH_OF_DRAWS_TOLERANCE)


def test_what_a_distribution_does_not_contain():
    assert not Choice(values=(1, 2)).contains(True)
    assert not Int(low=32, high=256, step=32).contains(33)
    assert not Int(low=0, high=1).contains(True)
    assert not Int(low=1, high=5).contains(2.0)
    assert not Uniform(low=5.0, high=8.0, step=0.5).contains(5.25)
    assert not LogUniform(low=1e-3, high=1.0).contains(0.0)
    assert not LogUniform(low=1e-3, high=1.0).contains("0.1")


def test_steps_give_the_grid():
    assert Int(low=32, high=128, step=32).grid_values() == (32, 64, 96, 128)
    assert Uniform(low=0.0, high=0.2, step=0.05).grid_values() == pytest.approx(
        (0, 0.05, 0.1, 0.15, 0.2)
    )


# --- drawing and configuring ---------------------------------------------------------------------

OPTIMIZER_DECIDES = {
    "training.lr": [
        {"log_uniform": [1e-4, 1e-3], "when": {"training.optimizer": ["adam", "adamw"]}},
        {"log_uniform": [5e-3, 5e-2], "when": {"training.optimizer": "sgd"}},
    ],
    "training.momentum": {"uniform": [0.5, 0.95], "when": {"training.optimizer": "sgd"}},
    "training.optimizer": {"choice": ["adam", "adamw", "sgd"]},
}


def test_a_condition_decides_which_alternative_is_drawn():
    space = searching(OPTIMIZER_DECIDES)
    draws = [space.sample(np.random.default_rng(seed)) for seed in range(50)]
    assert {d["training.optimizer"] for d in draws} == {"adam", "adamw", "sgd"}
    for drawn in draws:
        is_sgd = drawn["training.optimizer"] == "sgd"
        assert (drawn["training.lr"] >= 5e-3) == is_sgd
        assert ("training.momentum" in drawn) == is_sgd
        assert set(space.active(drawn)) == set(drawn)


def test_a_key_whose_condition_fails_keeps_its_default():
    space = searching(OPTIMIZER_DECIDES)
    adam = next(
        d
        for seed in range(50)
        if (d := space.sample(np.random.default_rng(seed)))["training.optimizer"] == "adam"
    )
    assert space.configure(adam).training.momentum == 0.9


def test_parents_are_settled_first_whatever_the_order_in_the_file():
    space = searching(
        {
            "model.hidden_dim": {"int": [32, 64], "when": {"model.n_hidden": [2, 3]}},
            "model.n_hidden": {"int": [1, 3], "when": {"model.readout": "mean"}},
            "model.readout": {"choice": ["mean", "linear"]},
        }
    )
    assert [p.key for p in space.parameters] == [
        "model.readout",
        "model.n_hidden",
        "model.hidden_dim",
    ]
    for seed in range(50):
        drawn = space.sample(np.random.default_rng(seed))
        assert ("model.n_hidden" in drawn) == (drawn["model.readout"] == "mean")
        assert ("model.hidden_dim" in drawn) == (drawn.get("model.n_hidden", 1) > 1)


def test_names_of_alternatives_are_unique():
    space = searching(OPTIMIZER_DECIDES)
    names = [a.name for p in space.parameters for a in p.alternatives]
    assert len(set(names)) == len(names) == 4
    assert "training.lr[training.optimizer=adam|adamw]" in names
    assert "training.momentum" in names


def test_draw_hands_every_alternative_in_play_to_the_chooser():
    space = searching(OPTIMIZER_DECIDES)
    asked: list[str] = []

    def last(alternative):
        asked.append(alternative.name)
        return alternative.distribution.extremes()[-1]

    assert space.draw(last)["training.lr"] == 5e-2
    assert sorted(asked) == [
        "training.lr[training.optimizer=sgd]",
        "training.momentum",
        "training.optimizer",
    ]


def test_trial_zero_is_the_default_of_the_config_classes():
    space = searching({"model.n_conv": {"int": [4, 5]}, "model.dropout": {"uniform": [0, 0.2]}})
    assert space.default() == {"model.n_conv": 3, "model.dropout": None}
    default = space.configure(space.default())
    assert default.architecture == type(default.architecture)()


def test_configure_uses_fixed_values_and_the_budget():
    space = searching({"model.n_conv": {"int": [1, 5]}}, fixed={"training.batch_size": 64})
    config = space.configure({"model.n_conv": 5})
    flat = config.flat()
    assert flat["model.n_conv"] == 5
    assert flat["training.batch_size"] == 64
    assert flat["training.epochs"] == 20


def test_configure_refuses_a_key_that_is_not_one():
    with pytest.raises(ConfigError, match=r"'model.n_convs' .* did you mean 'model.n_conv'"):
        searching({"model.n_conv": {"int": [1, 5]}}).configure({"model.n_convs": 5})


def test_a_grid_has_every_combination_once_and_heeds_conditions():
    space = searching(
        {
            "model.convolution": {"choice": ["eq4", "eq5"]},
            "model.readout": {"choice": ["mean", "layers"], "when": {"model.convolution": "eq4"}},
            "model.n_conv": {"int": [1, 3]},
        },
        search={"name": "grid"},
    )
    grid = [tuple(sorted(values.items())) for values in space.grid()]
    assert len(grid) == len(set(grid)) == (2 + 1) * 3


def test_another_budget_shrinks_the_grace_period_with_it():
    space = parse_space(
        space_with(scheduler={"name": "asha", "grace_period": 5, "reduction_factor": 3}),
        path="s.yaml",
    )
    short = space.with_budget(trials=2, epochs=3)
    assert (short.budget.trials, short.budget.epochs, short.scheduler.grace_period) == (2, 3, 3)
    assert space.with_budget(trials=2).budget.epochs == 20
    assert parse_space(short.content, path="s.yaml") == short
    with pytest.raises(ConfigError, match=r"budget: 'trials' must be at least 1"):
        space.with_budget(trials=0)


def test_a_space_travels_between_processes():
    space = searching(OPTIMIZER_DECIDES)
    assert pickle.loads(pickle.dumps(space)) == space


# --- one configuration in a file -----------------------------------------------------------------


def test_a_configuration_survives_yaml():
    space = searching(OPTIMIZER_DECIDES, fixed={"training.milestones": [10, 15]})
    config = space.configure(space.sample(np.random.default_rng(3)))
    text = yaml.safe_dump(config.to_yaml_dict())
    assert TrialConfig.from_dict(yaml.safe_load(text), where="best.yaml") == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": "cgcn"}, "best.yaml: unknown model 'cgcn'; did you mean 'cgcnn'"),
        ({"config": {}}, "best.yaml: no model is named"),
        ({"model": "cgcnn", "config": [1]}, "best.yaml: config: takes keys and values"),
        (
            {"model": "cgcnn", "config": {"training.lrr": 1}},
            "best.yaml: config: 'training.lrr' is not a field of FitConfig; "
            "did you mean 'training.lr'",
        ),
        (
            {"model": "cgcnn", "config": {"training.lr": -1}},
            r"best.yaml: config: 'training.lr' must be above 0 \(found -1\)",
        ),
    ],
)
def test_a_configuration_that_cannot_be_used(content, message):
    with pytest.raises(ConfigError, match=message):
        TrialConfig.from_dict(content, where="best.yaml")


NESTED = {"model": {"n_conv": 2}, "training": {"epochs": 7, "optimizer": "adam"}}
DOTTED = {"model.n_conv": 2, "training.epochs": 7, "training.optimizer": "adam"}


@pytest.mark.parametrize(
    "config",
    [NESTED, {"model.n_conv": 2, "training": NESTED["training"]}, {**DOTTED, "training": {}}],
)
def test_a_configuration_may_nest(config):
    expected = TrialConfig.from_dict({"model": "cgcnn", "config": DOTTED}, where="c.yaml")
    assert TrialConfig.from_dict({"model": "cgcnn", "config": config}, where="c.yaml") == expected
    assert flat_config({"model": "cgcnn", "config": config}, where="c.yaml") == DOTTED


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"training": {"epochs": 2}, "training.epochs": 3},
            "c.yaml: config: 'training.epochs' is given twice, nested and dotted; remove one",
        ),
        ({"training": {"epoch": 2}}, "'training.epoch' is not a field of FitConfig; did you mean"),
        ({"training": 2}, "c.yaml: config: 'training' does not begin with 'model.' or"),
        ({"training": {"epochs": {"x": 1}}}, "'training.epochs' must be a whole number"),
        ({"train": {"epochs": 2}}, "c.yaml: config: 'train' does not begin with"),
    ],
)
def test_nested_keys_that_cannot_be_used(config, message):
    with pytest.raises(ConfigError, match=message):
        TrialConfig.from_dict({"model": "cgcnn", "config": config}, where="c.yaml")


# --- finding the file ----------------------------------------------------------------------------


def test_a_shipped_space_is_found_by_its_name(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name, by_file_name = read_space("cgcnn"), read_space("cgcnn.yaml")
    assert by_name == by_file_name
    assert by_name.model == "cgcnn"


def test_a_file_that_exists_comes_before_a_shipped_space(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spaces").mkdir()
    for path in (Path("cgcnn.yaml"), Path("spaces/mine.yaml")):
        path.write_text(yaml.safe_dump(space_with()), encoding="utf-8")
        assert read_space(str(path)).budget.trials == 8
        assert read_space(str(path)).path == str(path)


def test_an_installed_package_brings_its_spaces(tmp_path: Path, monkeypatch):
    folder = tmp_path / "raymat" / "search_spaces"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(yaml.safe_dump(space_with()), encoding="utf-8")
    monkeypatch.setattr(raymat, "__file__", str(tmp_path / "raymat" / "__init__.py"))
    assert set(shipped_spaces()) == {"mine"}
    assert read_space("mine.yaml").budget.trials == 8


@pytest.mark.parametrize("name", ["cgcn", "cgcn.yaml", "nowhere/cgcnn.yaml"])
def test_a_space_that_is_nowhere(name, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"{name}: neither a file nor .*did you mean 'cgcnn'"):
        read_space(name)


# --- everything that is refused ------------------------------------------------------------------


def one(key: str, form: Any) -> dict[str, Any]:
    return {"space": {key: form}}


LR_GIVEN_MODEL = {"training.lr": {"uniform": [0.1, 0.2], "when": {"model.n_conv": 1}}}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown top-level key": (
        {"budgets": {}},
        "s.yaml: 'budgets' is not a key of a search space; did you mean 'budget'",
    ),
    "unknown model": ({"model": "cgccn"}, "s.yaml: unknown model 'cgccn'; did you mean 'cgcnn'"),
    "no model": ({"model": ...}, "s.yaml: no model is named; add a line 'model: NAME'"),
    "empty space": ({"space": {}}, "s.yaml: space: nothing is searched"),
    "no space": ({"space": ...}, "s.yaml: space: nothing is searched"),
    "space is a list": ({"space": ["a"]}, "s.yaml: space: takes keys and values, found"),
    "data is a number": ({"data": 3}, "s.yaml: data: takes a name, found 3"),
    "key of another time": ({"notify": True}, "s.yaml: 'notify' is not a key of a search space"),
    "typo in a key": (
        one("model.n_convs", {"int": [1, 5]}),
        "s.yaml: space: 'model.n_convs' is not a field of CGCNNConfig; did you mean 'model.n_conv'",
    ),
    "typo in a fixed key": (
        {"fixed": {"training.batchsize": 64}},
        "s.yaml: fixed: 'training.batchsize' is not a field of FitConfig; "
        "did you mean 'training.batch_size'",
    ),
    "unknown section": (
        one("modl.n_conv", {"int": [1, 5]}),
        "s.yaml: space: 'modl.n_conv' does not begin with 'model.' or 'training.'; "
        "did you mean 'model.n_conv'",
    ),
    "key without section": (one("lr", {"uniform": [1, 2]}), "'lr' .* did you mean 'training.lr'"),
    "key in the wrong section": (
        one("optim.batch_size", {"choice": [64]}),
        "'optim.batch_size' .* did you mean 'training.batch_size'",
    ),
    "key that is a number": (one(3, {"int": [1, 5]}), "s.yaml: space: '3' does not begin with"),
    "searched and fixed": (
        {"fixed": {"model.n_conv": 2}},
        "s.yaml: 'model.n_conv' stands both in space and in fixed; remove one",
    ),
    "epochs searched": (
        one("training.epochs", {"int": [10, 100]}),
        "s.yaml: space: 'training.epochs' cannot be set here: epochs are the time axis",
    ),
    "epochs fixed": (
        {"fixed": {"training.epochs": 10}},
        "s.yaml: fixed: 'training.epochs' cannot be set here.*set 'budget: {epochs: ...}'",
    ),
    "unknown distribution": (
        one("training.lr", {"loguniform": [1e-4, 1e-2]}),
        "s.yaml: space: training.lr: unknown distribution 'loguniform'; did you mean 'log_uniform'",
    ),
    "two distributions": (
        one("training.lr", {"uniform": [0, 1], "choice": [1]}),
        "training.lr: needs one of choice, int, .*; found uniform, choice",
    ),
    "no distribution": (one("training.lr", {}), "training.lr: needs one of .*; found none"),
    "bare value": (one("training.lr", 0.01), "training.lr: takes a distribution .*found 0.01"),
    "empty alternatives": (
        one("training.lr", []),
        "training.lr: the list of alternatives is empty",
    ),
    "unknown option": (
        one("model.n_conv", {"int": [1, 5], "steps": 2}),
        "model.n_conv: 'steps' is not an option of int; did you mean 'step'",
    ),
    "one bound": (one("model.n_conv", {"int": [5]}), r"int: takes \[low, high\], found \[5\]"),
    "bound is a word": (
        one("model.n_conv", {"int": ["one", 5]}),
        r"model.n_conv: int: 'low' must be a whole number \(found 'one'\)",
    ),
    "choice is no list": (
        one("model.n_conv", {"choice": 3}),
        "model.n_conv: choice: takes a list of values, found 3",
    ),
    "empty choice": (one("model.n_conv", {"choice": []}), "choice: 'values': the list is empty"),
    "double choice": (one("model.n_conv", {"choice": [1, 1]}), "1 stands in the list twice"),
    "choice of lists": (
        one("training.milestones", {"choice": [[1], [2]]}),
        r"choices are words, numbers, true, false or null, not \[1\]",
    ),
    "low above high": (
        one("model.n_conv", {"int": [5, 1]}),
        r"s.yaml: space: model.n_conv: int: low must be below high, found \[5, 1\]",
    ),
    "low equals high": (one("training.lr", {"uniform": [1, 1]}), "uniform: low must be below high"),
    "logarithm of zero": (
        one("training.weight_decay", {"log_uniform": [0, 1]}),
        r"log_uniform: a logarithm needs low above 0, found \[0, 1\]",
    ),
    "integer logarithm of zero": (
        one("model.n_conv", {"log_int": [0, 4]}),
        "log_int: a logarithm needs low above 0",
    ),
    "step that misses": (
        one("model.hidden_dim", {"int": [32, 100], "step": 32}),
        "hidden_dim: int: step 32 does not lead from 32 to 100",
    ),
    "uniform step that misses": (
        one("model.cutoff", {"uniform": [5, 8], "step": 0.7}),
        "cutoff: uniform: step 0.7 does not lead from 5 to 8",
    ),
    "negative step": (
        one("model.cutoff", {"uniform": [5, 8], "step": -1}),
        "uniform: step must be above 0, found -1",
    ),
    "step of a logarithm": (
        one("model.n_conv", {"log_int": [1, 5], "step": 2}),
        "log_int: a logarithmic distribution takes no step",
    ),
    "upper end outside the bounds": (
        one("model.n_conv", {"int": [1, 50]}),
        r"s.yaml: space: model.n_conv: 'model.n_conv' must be at most 12 \(found 50\)",
    ),
    "lower end outside the bounds": (
        one("training.lr", {"uniform": [-0.1, 0.1]}),
        r"s.yaml: space: training.lr: 'training.lr' must be above 0 \(found -0.1\)",
    ),
    "choice outside the bounds": (
        one("model.convolution", {"choice": ["eq4", "eq6", "eq5"]}),
        r"'model.convolution' must be one of 'eq4', 'eq5' \(found 'eq6'\)",
    ),
    "alternative outside the bounds": (
        {
            "space": {
                "training.optimizer": {"choice": ["adam", "sgd"]},
                "training.lr": [
                    {"uniform": [0.1, 0.2], "when": {"training.optimizer": "adam"}},
                    {"uniform": [0.1, 99]},
                ],
            }
        },
        r"space: training.lr\[otherwise\]: 'training.lr' must be at most 10 \(found 99.0\)",
    ),
    "fixed outside the bounds": (
        {"fixed": {"training.batch_size": 0}},
        r"s.yaml: fixed: 'training.batch_size' must be at least 2 \(found 0\)",
    ),
    "values that exclude each other": (
        {
            "space": {
                "model.readout": {"choice": ["mean", "linear"]},
                "model.dropout": {"uniform": [0.0, 0.2]},
            }
        },
        "s.yaml: space: some combinations cannot be built; exclude them with 'when': .*dropout",
    ),
    "condition on an unknown key": (
        one("training.lr", {"uniform": [0.1, 0.2], "when": {"training.optimiser": "adam"}}),
        "training.lr: when: 'training.optimiser' is not a key of this space",
    ),
    "condition on a mistyped key": (
        {
            "space": {
                "training.lr": {"uniform": [0.1, 0.2], "when": {"training.optimiser": "adam"}},
                "training.optimizer": {"choice": ["adam", "sgd"]},
            }
        },
        "when: 'training.optimiser' is not a key .*; did you mean 'training.optimizer'",
    ),
    "condition on a fixed key": (
        {"space": LR_GIVEN_MODEL, "fixed": {"model.n_conv": 1}},
        "training.lr: when: 'model.n_conv' is fixed to 1",
    ),
    "condition that is never met": (
        {"space": LR_GIVEN_MODEL | {"model.n_conv": {"int": [2, 5]}}},
        "training.lr: when: 'model.n_conv' never takes 1 in this space",
    ),
    "condition that is no mapping": (
        one("training.lr", {"uniform": [0.1, 0.2], "when": "adam"}),
        "training.lr: when: takes {key: value}, found 'adam'",
    ),
    "circular conditions": (
        {
            "space": LR_GIVEN_MODEL
            | {"model.n_conv": {"choice": [1, 2], "when": {"training.lr": 0.15}}}
        },
        "s.yaml: space: conditions run in a circle: .*model.n_conv.*training.lr",
    ),
    "condition on itself": (
        one("model.n_conv", {"choice": [1, 2], "when": {"model.n_conv": 1}}),
        "conditions run in a circle: model.n_conv -> model.n_conv",
    ),
    "alternative that is never reached": (
        one("training.lr", [{"uniform": [0.1, 0.2]}, {"uniform": [0.2, 0.3]}]),
        "training.lr: an alternative without 'when' always holds",
    ),
    "same condition twice": (
        {
            "space": {
                "training.optimizer": {"choice": ["adam", "sgd"]},
                "training.lr": [
                    {"uniform": [low, 0.5], "when": {"training.optimizer": "adam"}}
                    for low in (0.1, 0.2)
                ],
            }
        },
        "training.lr: two alternatives have the same condition; merge them",
    ),
    "no budget": ({"budget": ...}, "s.yaml: budget is missing; add 'budget:"),
    "no trials": (
        {"budget": {"trials": 0, "epochs": 1}},
        "s.yaml: budget: 'trials' must be at least 1 .*found 0",
    ),
    "budget without epochs": ({"budget": {"trials": 8}}, "s.yaml: budget: 'epochs' is missing$"),
    "unknown budget key": (
        {"budget": {"trial": 8, "epochs": 1}},
        "s.yaml: budget: 'trial' is not a field of Budget; did you mean 'trials'",
    ),
    "unknown scheduler": (
        {"scheduler": {"name": "hyperband"}},
        "s.yaml: scheduler: 'name' must be one of 'asha', 'none' .*found 'hyperband'",
    ),
    "grace period outlasts a trial": (
        {"scheduler": {"name": "asha", "grace_period": 21}},
        "s.yaml: scheduler: grace_period 21 is longer than a trial, .* budget.epochs 20",
    ),
    "reduction factor of one": (
        {"scheduler": {"name": "asha", "reduction_factor": 1}},
        "scheduler: 'reduction_factor' must be at least 2 .*found 1",
    ),
    "unknown search": (
        {"search": {"name": "bayes"}},
        "search: 'name' must be one of 'tpe', 'random', 'grid', 'repeat' .*found 'bayes'",
    ),
    "grid of a continuous range": (
        one("training.lr", {"log_uniform": [0.01, 0.1]}) | {"search": {"name": "grid"}},
        "s.yaml: search: training.lr: log_uniform has no grid; list the values with choice",
    ),
    "grid of a uniform range": (
        one("training.lr", {"uniform": [0.01, 0.1]}) | {"search": {"name": "grid"}},
        "s.yaml: search: training.lr: uniform has no grid; add a step",
    ),
    "negative gpu": (
        {"resources": {"gpu": -1}},
        "s.yaml: resources: 'gpu' must be at least 0 .*found -1",
    ),
    "gpu and a half": ({"resources": {"gpu": 1.5}}, "resources: gpu above 1 must be a whole"),
    "unknown split key": ({"split": {"knid": "random"}}, "s.yaml: split: 'knid' is not a field"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(case):
    changes, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        parse_space(space_with(**changes), path="s.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("s.yaml: ")


def test_the_plain_space_of_these_tests_is_accepted():
    space = parse_space(space_with(), path="s.yaml")
    assert (space.scheduler.name, space.search.name, space.resources) == ("none", "tpe", None)


@pytest.mark.parametrize(
    ("found", "mode"),
    [(..., None), ("offline", "offline"), ("off", "off"), (False, "off"), (True, "online")],
)
def test_wandb_is_read(found, mode):
    """YAML reads the words on and off as true and false."""
    assert parse_space(space_with(wandb=found), path="s.yaml").wandb == mode


@pytest.mark.parametrize("found", ["yes please", 1, ["online"]])
def test_wandb_takes_three_words(found):
    with pytest.raises(ConfigError, match=r"s.yaml: wandb: takes off, offline or online, found"):
        parse_space(space_with(wandb=found), path="s.yaml")


def test_resources_and_split_are_read():
    space = parse_space(
        space_with(resources={"gpu": 0.25}, split={"kind": "formula"}), path="s.yaml"
    )
    assert space.resources is not None
    assert (space.resources.cpu, space.resources.gpu) == (1, 0.25)
    assert space.split is not None
    assert space.split.kind == "formula"


# --- configurations to try first -----------------------------------------------------------------


def test_what_is_tried_first_is_completed_with_defaults():
    space = searching(
        {"model.n_conv": {"int": [1, 5]}, "training.lr": {"log_uniform": [1e-4, 1e-1]}},
        try_first=[{"model.n_conv": 4}],
    )
    assert space.try_first == ({"model.n_conv": 4, "training.lr": 0.01},)


@pytest.mark.parametrize(
    ("try_first", "message"),
    [
        ([{"model.n_convs": 4}], "try_first: 'model.n_convs' is not a key of this space; did you"),
        ([{"model.n_conv": 99}], "try_first: entry 1: 'model.n_conv' must be at most 12"),
        ({"model.n_conv": 4}, "try_first: takes a list"),
        ([4], "try_first: takes a list"),
    ],
)
def test_what_cannot_be_tried_first_is_refused(try_first, message):
    with pytest.raises(ConfigError, match=message):
        searching({"model.n_conv": {"int": [1, 5]}}, try_first=try_first)


TRIED = {
    "model.n_conv": {"int": [1, 5]},
    "model.dropout": {"uniform": [0.0, 0.2], "when": {"model.n_conv": [4, 5]}},
    "training.optimizer": {"choice": ["adam", "adamw"]},
    "training.lr": {"log_uniform": [1e-4, 1e-3]},
    "model.atom_dim": {"int": [32, 128], "step": 32},
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model.n_conv": 6},
            "entry 2: 'model.n_conv' is 6, outside the space: expected a whole number, 1 to 5, or "
            "the default 3",
        ),
        ({"model.atom_dim": 48}, "'model.atom_dim' is 48.* 32 to 128 in steps of 32, or the"),
        ({"training.lr": 0.5}, "'training.lr' is 0.5.* a number, 0.0001 to 0.001, or the default"),
        ({"model.n_conv": 4, "model.dropout": 0.5}, "'model.dropout' is 0.5.* 0 to 0.2, or the"),
        (
            {"training.optimizer": "adamw", "model.dropout": 0.5, "training.lr": 1},
            "'training.lr' is 1, outside the space",
        ),
    ],
)
def test_what_is_tried_first_lies_in_the_space(values, message):
    with pytest.raises(ConfigError, match=message):
        searching(TRIED, try_first=[{"model.n_conv": 4}, values])


def test_the_default_may_be_tried_first_wherever_it_lies():
    defaults = {"training.optimizer": "sgd", "training.lr": 0.01, "model.dropout": None}
    entry = defaults | {"model.n_conv": 5}
    assert searching(TRIED, try_first=[entry]).try_first[0]["training.optimizer"] == "sgd"


# --- speed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_spaces())
def test_reading_a_space_loads_nothing_slow_but_torch(name):
    """A typo is told at once."""
    code = f"import sys; from raymat.tuning.space import read_space; read_space({name!r}); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    slow = {"pandas", "pyarrow", "scipy", "sklearn", "pymatgen", "matplotlib", "ase", "ray"}
    assert slow & set(done.stdout.split()) == set()


# --- what trials are compared by -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "fixed"),
    [
        ({"training.select": {"choice": ["mae", "nll"]}}, {"training.loss": "gaussian_nll"}),
        ({"training.loss": {"choice": ["mse", "gaussian_nll"]}}, {"training.select": "nll"}),
        ({"training.loss": {"choice": ["gaussian_nll"]}}, {"training.select": "nll"}),
        ({"model.n_conv": {"int": [1, 5]}}, {"training.select": "nll"}),
    ],
)
def test_trials_of_different_scores_are_refused(
    space: dict[str, Any], fixed: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"training\.select"):
        searching(space, fixed=fixed)


def test_space_of_variances_may_be_searched_by_likelihood() -> None:
    fixed = {"training.loss": "gaussian_nll", "training.select": "nll"}
    space = searching({"model.n_conv": {"int": [1, 5]}}, fixed=fixed)
    assert space.configure(space.default()).flat()["training.select"] == "nll"
