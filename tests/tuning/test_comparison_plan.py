"""Plans of comparisons: what a YAML file means, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from plans import CONTENT, OTHER_SPACE, planned, refused

from raymat.errors import ConfigError
from raymat.models import load_spec
from raymat.tuning import comparison_plan
from raymat.tuning.comparison_cells import ComparisonPlan
from raymat.tuning.comparison_plan import (
    check_properties,
    check_training_sizes,
    read_plan,
)

# --- what a plan means ---------------------------------------------------------------------------


def test_defaults() -> None:
    plan = planned()
    assert plan.settings == ("default", "tuned")
    assert plan.training_sizes == (None,)
    assert [(p.name, p.data, p.rows) for p in plan.properties] == [
        ("log10_K_VRH", "elastic.parquet", None),
        ("log10_G_VRH", "elastic.parquet", None),
    ]
    space = plan.models[0].search_space()
    assert (space.budget.trials, space.budget.epochs) == (3, 7)
    assert (plan.models[0].trials, plan.models[0].epochs) == (3, 7)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(CONTENT), encoding="utf-8")
    plan = read_plan(path)
    assert plan.path == str(path)
    assert len(plan.cells()) == 2 * 2 * 2
    with pytest.raises(ConfigError, match=r"none\.yaml: neither a file nor a shipped comp"):
        read_plan(tmp_path / "none.yaml")


def test_a_shipped_plan_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("quick", "quick.yaml"):
        plan = read_plan(name)
        assert [model.name for model in plan.models] == ["cgcnn", "soap_svr", "soap_mlp"]
    with pytest.raises(ConfigError, match=r"quik: .* comparison plan; did you mean 'quick'\?"):
        read_plan("quik")


def test_a_plan_survives_json() -> None:
    """It is kept in run.json to resume from."""
    plan = planned(
        properties={"band_gap": {"rows": 5, "where": {"band_gap": {"above": 0}}}},
        training_sizes=[500, "all"],
        scheduler={"name": "none"},
    )
    again = ComparisonPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.cells() == plan.cells()
    assert again.models[0].search_space() == plan.models[0].search_space()


def test_a_property_may_have_its_own_data_and_rows() -> None:
    gap = {"data": "mp.parquet", "rows": 4, "rows_seed": 3, "where": {"band_gap": {"above": 0}}}
    plan = planned(properties={"log10_K_VRH": None, "band_gap": gap, "is_high": {"classes": 0.5}})
    k, g, high = plan.properties
    assert (k.data, g.data) == ("elastic.parquet", "mp.parquet")
    assert g.describe_rows() == "a random subset of 4 usable rows with band_gap above 0 (seed 3)"
    assert k.describe_rows() == "all usable rows"
    assert high.classes == 0.5
    assert plan.property_plan("band_gap") is g


def test_a_model_may_have_its_own_space_budget_and_resources(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(OTHER_SPACE, encoding="utf-8")
    own = {"space": str(path), "budget": {"trials": 5}, "resources": {"cpu": 2}}
    plan = planned(models={"cgcnn": own}, search={"name": "random"})
    space = plan.models[0].search_space()
    assert [p.key for p in space.parameters] == ["training.lr"]
    assert (space.budget.trials, space.budget.epochs) == (5, 7)
    assert space.resources is not None
    assert space.resources.cpu == 2
    assert space.search.name == "random"


def test_the_grace_period_of_a_space_shrinks_with_the_epochs() -> None:
    assert planned(budget={"trials": 2, "epochs": 2}).models[0].search_space().budget.epochs == 2


def test_the_plan_sets_the_scheduler() -> None:
    asha = {"name": "asha", "grace_period": 2, "reduction_factor": 2}
    scheduler = planned(scheduler=asha).models[0].search_space().scheduler
    assert (scheduler.grace_period, scheduler.reduction_factor) == (2, 2)


def test_the_plan_may_ask_for_wandb() -> None:
    assert planned().wandb is None
    assert planned(wandb="offline").wandb == "offline"
    assert planned(wandb=False).wandb == "off"  # YAML's `off`
    refused("wandb: takes off, offline or online, found 'live'", wandb="live")


def test_the_plan_sets_when_tpe_begins() -> None:
    for search in ({"name": "tpe", "startup_trials": 4}, {"startup_trials": 4}):
        plan = planned(search=search, models=["cgcnn", "soap_svr"])
        found = [model.search_space().search for model in plan.models]
        assert [(s.name, s.startup_trials) for s in found] == [("tpe", 4)] * 2


def test_a_closed_form_model_has_no_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(load_spec("cgcnn"), fit="closed_form")
    monkeypatch.setattr(comparison_plan, "load_spec", lambda _: spec)
    model = planned(budget={"trials": 3}, scheduler={"name": "asha", "grace_period": 99}).models[0]
    assert model.epochs is None
    assert model.trials == 3
    assert model.search_space().scheduler.grace_period != 99


# --- what is refused -----------------------------------------------------------------------------


def test_unknown_keys() -> None:
    refused("'modles' is not a key of a comparison plan; did you mean 'models'", modles=["cgcnn"])
    refused(
        "properties: K: 'row' is not a key of a property; did you mean 'rows'",
        properties={"K": {"row": 3}},
    )
    refused(
        "models: cgcnn: 'spase' is not a key of a model of a plan; did you mean 'space'",
        models={"cgcnn": {"spase": "cgcnn"}},
    )
    refused(
        "budget: 'trails' is not a field of PlanBudget; did you mean 'trials'",
        budget={"trails": 3},
    )
    refused("split: 'knd' is not a field of SplitConfig; did you mean 'kind'", split={"knd": 1})
    refused(
        "scheduler: 'grace_periods' is not a field of Scheduler; did you mean 'grace_period'",
        scheduler={"grace_periods": 3},
    )
    refused(
        "where: band_gap: 'over' is not a field of Range",
        properties={"K": {"where": {"band_gap": {"over": 0}}}},
    )


def test_what_is_missing() -> None:
    refused("properties is missing; add 'properties:", properties=None)
    refused("models is missing; add 'models: .*cgcnn", models=None)
    refused("repetitions is missing", repetitions=None)
    refused(r"properties: log10_K_VRH: has no data; add 'data: SOURCE'", data=None)
    refused(r"models: cgcnn: budget\.trials is missing", budget=None)
    refused(r"models: cgcnn: budget\.epochs is missing", budget={"trials": 3})


def test_unknown_model() -> None:
    refused("models: there is no model 'cgcn'; did you mean 'cgcnn'", models=["cgcn"])


def test_a_space_of_another_model_or_none(tmp_path: Path) -> None:
    refused(
        "models: cgcnn: space: none.yaml: neither a file", models={"cgcnn": {"space": "none.yaml"}}
    )
    refused("models: cgcnn: space: takes a name or a file, found 3", models={"cgcnn": {"space": 3}})
    path = tmp_path / "other.yaml"
    path.write_text(OTHER_SPACE.replace("cgcnn", "megnet"), encoding="utf-8")
    refused(
        r"models: cgcnn: space: .*other\.yaml searches the model 'megnet'; name a space of 'cgcnn'",
        models={"cgcnn": {"space": str(path)}},
    )


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("repetitions", 0, r"'repetitions' must be at least 1 \(found 0\)"),
        ("repetitions", "two", r"'repetitions' must be a whole number \(found 'two'\)"),
        ("first_seed", -1, r"'first_seed' must be at least 0"),
        ("settings", ["tune"], "settings: 'tune' is not a setting; did you mean 'tuned'"),
        ("settings", "tuned", r"settings: takes a list such as \[default, tuned\], found 'tuned'"),
        ("settings", ["tuned", "tuned"], "settings: 'tuned' stands there twice"),
        ("training_sizes", [500, 0], "training_sizes: 0 is not a number of training rows"),
        ("training_sizes", [True], "training_sizes: True is not a number"),
        ("training_sizes", [1], "training_sizes: 1 is not a number of training rows; .* least 2"),
        ("training_sizes", ["al"], "training_sizes: 'al' is not a number of training rows"),
        ("training_sizes", [500, 500], "training_sizes: '500' stands there twice"),
        ("training_sizes", 500, "training_sizes: takes a list"),
        ("properties", ["K", "K"], "properties: 'K' stands there twice"),
        ("properties", [{"K": {}}], "properties: takes single values, found {'K': {}}"),
        ("properties", {"K": 3}, "properties: K: takes keys and values .* found 3"),
        ("properties", {"K": {"rows": 0}}, r"properties: K: 'rows' must be at least 1"),
        ("properties", {"K": {"where": {"K": {}}}}, "where: K: names no bound"),
        ("properties", {"K": {"where": ["K"]}}, "properties: K: where: takes keys and values"),
        ("budget", {"trials": 0}, r"budget: 'trials' must be at least 1"),
        ("budget", 3, "budget: takes keys and values"),
        ("models", {"cgcnn": {"budget": {"epochs": -1}}}, r"models: cgcnn: budget: 'epochs'"),
        ("models", {"cgcnn": {"resources": {"cpu": 0}}}, r"models: cgcnn: resources: 'cpu'"),
        ("split", {"seed": 3}, "split: 'seed' cannot be set here.*set 'first_seed'"),
        ("split", {"kind": "kfold", "fold": 1}, "split: 'fold' cannot be set here: repetition r"),
        ("split", {"train": 0.9, "test": 0.3}, r"split: train \+ validation \+ test is"),
        ("scheduler", {"name": "asha", "grace_period": 9}, "grace_period 9, longer than a trial"),
        ("search", {"name": "repeat"}, "search: 'repeat' is what the setting 'default' does"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(key: str, value: Any, match: str) -> None:
    refused(match, **{key: value})


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("repetitions", True, "'repetitions'"),
        ("first_seed", False, "'first_seed'"),
        ("budget", {"trials": True, "epochs": 3}, "budget: 'trials'"),
        ("budget", {"trials": 3, "epochs": True}, "budget: 'epochs'"),
        ("models", {"cgcnn": {"budget": {"trials": True}}}, "models: cgcnn: budget: 'trials'"),
        ("models", {"cgcnn": {"resources": {"cpu": True}}}, "models: cgcnn: resources: 'cpu'"),
        ("properties", {"K": {"rows": True}}, "properties: K: 'rows'"),
        ("properties", {"K": {"classes": True}}, "properties: K: 'classes'"),
        ("properties", {"K": {"where": {"gap": {"above": False}}}}, "where: gap: 'above'"),
        ("split", {"train": True}, "split: 'train'"),
        ("scheduler", {"name": "asha", "grace_period": True}, "scheduler: 'grace_period'"),
        ("search", {"startup_trials": True}, "search: 'startup_trials'"),
    ],
)
def test_true_and_false_are_no_numbers(key: str, value: Any, where: str) -> None:
    refused(rf"{where} does not take true or false \(found (True|False)\)", **{key: value})


def test_unknown_property() -> None:
    columns = {"elastic.parquet": ["log10_K_VRH", "log10_G_VRH", "n_sites"]}
    check_properties(planned(), columns)
    plan = planned(properties=["log10_K_VHR"])
    match = "properties: 'log10_K_VHR' is not a column of elastic.parquet; did you mean 'log10_K_V"
    with pytest.raises(ConfigError, match=match):
        check_properties(plan, columns)
    plan = planned(properties={"log10_K_VRH": {"where": {"n_site": {"below": 3}}}})
    match = (
        "log10_K_VRH: where: 'n_site' is not a column of elastic.parquet; did you mean 'n_sites'"
    )
    with pytest.raises(ConfigError, match=match):
        check_properties(plan, columns)


def test_training_sizes_must_be_there() -> None:
    plan = planned(training_sizes=[100, 5000, "all"])
    check_training_sizes(plan, {"log10_K_VRH": 5000})
    with pytest.raises(ConfigError, match=r"training_sizes: 5,000 is more than the 800 training"):
        check_training_sizes(plan, {"log10_K_VRH": 5000, "log10_G_VRH": 800})
