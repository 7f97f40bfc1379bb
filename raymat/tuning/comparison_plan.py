"""Reading the plan of a comparison: a YAML file becomes a `ComparisonPlan`, or an error.

Every key and value is checked, and every search space read, so no cell starts that cannot run.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from raymat.config import Config, ConfigT, Epochs, Trials, build_config, read_yaml
from raymat.data.splits import SplitConfig
from raymat.errors import ConfigError, did_you_mean
from raymat.models import available, load_spec
from raymat.shipped import find_yaml, shown_path
from raymat.text import quoted
from raymat.tuning.comparison_cells import (
    FEWEST_TRAINING_ROWS,
    SETTINGS,
    ComparisonPlan,
    ModelPlan,
    PropertyPlan,
    Range,
)
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.settings import Resources, Scheduler, Search
from raymat.tuning.space import parse_space, read_space, read_wandb

FOLDER = "comparisons"  # of the plans that travel with raymat
_KEYS = (
    *("data", "properties", "models", "settings", "repetitions", "first_seed", "training_sizes"),
    *("budget", "scheduler", "search", "split", "wandb"),
)
_PROPERTY_KEYS = ("data", "rows", "rows_seed", "where", "classes")
_MODEL_KEYS = ("space", "budget", "resources")
_ALL = "all"
# Keys of a split that the repetition decides.
_DECIDED = {
    "seed": "repetition r splits with seed first_seed + r; set 'first_seed'",
    "fold": "repetition r tests fold r; leave it out",
}
_BUDGET = "{trials: 8, epochs: 30}"


class PlanBudget(Config):
    """What one cell may spend.

    Attributes:
        trials: configurations of the tuned setting, and seeds of the default one.
        epochs: of a trial that nothing stops; a model in closed form has none.
    """

    trials: Trials
    epochs: Epochs | None = None


def read_plan(
    path: str | Path,
    *,
    trials: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
) -> ComparisonPlan:
    """Read a plan from a file, or a shipped one by its name (``quick``).

    Args:
        path: the file, or the name.
        trials: of every model, in place of the file's.
        epochs: of every model, in place of the file's.
        seed: of the first repetition, in place of the file's.

    Raises:
        ConfigError: there is no such file or shipped plan, or something in it cannot be used; the
            message names the file and the key.
    """
    file = find_yaml(str(path), FOLDER, what="comparison plan")
    content = read_yaml(file)
    budget = {k: v for k, v in (("trials", trials), ("epochs", epochs)) if v is not None}
    if seed is not None:
        content["first_seed"] = seed
    return parse_plan(_with_budget(content, budget), path=shown_path(file))


def _with_budget(content: dict[str, Any], budget: Mapping[str, int]) -> dict[str, Any]:
    """Put a budget in place of the plan's, and of every model's own."""
    if not budget:
        return content
    changed = {**content, "budget": {**(content.get("budget") or {}), **budget}}
    models = content.get("models")
    if isinstance(models, dict):
        changed["models"] = {
            name: {**form, "budget": {**form["budget"], **budget}}
            if isinstance(form, dict) and isinstance(form.get("budget"), dict)
            else form
            for name, form in models.items()
        }
    return changed


def parse_plan(content: Mapping[str, Any], *, path: str) -> ComparisonPlan:
    """Check a plan in its YAML form.

    Args:
        content: the keys and values of the file.
        path: what messages call the file.

    Raises:
        ConfigError: a key or value cannot be used.
    """
    _check_keys(content, _KEYS, where=path, what="a comparison plan")
    _refuse_booleans({k: v for k, v in content.items() if k != "wandb"}, path)
    values = {
        "path": path,
        "properties": _read_properties(content, path),
        "models": _read_models(content, path),
        "split": _read_split(content, path),
        "wandb": read_wandb(content, path),
    }
    if content.get("repetitions") is None:
        raise ConfigError(f"{path}: repetitions is missing; add 'repetitions: 3'")
    for key in ("repetitions", "first_seed"):
        if content.get(key) is not None:
            values[key] = content[key]
    if content.get("settings") is not None:
        values["settings"] = _read_settings(content["settings"], path)
    if content.get("training_sizes") is not None:
        values["training_sizes"] = _read_sizes(content["training_sizes"], path)
    return build_config(ComparisonPlan, values, where=path)


def check_properties(plan: ComparisonPlan, columns_by_source: Mapping[str, Iterable[str]]) -> None:
    """Check every column that the plan names against the data.

    Args:
        plan: the plan.
        columns_by_source: property columns by data source, as the plan names the source.

    Raises:
        ConfigError: a source has no such column.
    """
    for prop in plan.properties:
        columns = tuple(columns_by_source[prop.data])
        for name, key in [(prop.name, ""), *((column, ": where") for column in prop.where)]:
            if name not in columns:
                where = f"{plan.path}: properties{f': {prop.name}' if key else ''}{key}"
                hint = did_you_mean(name, columns)
                raise ConfigError(f"{where}: '{name}' is not a column of {prop.data}{hint}")


def check_training_sizes(plan: ComparisonPlan, n_train: Mapping[str, int]) -> None:
    """Check the training sizes against the training rows that there are.

    Args:
        plan: the plan.
        n_train: training rows by property, the fewest of any repetition.

    Raises:
        ConfigError: a property has fewer rows than a size asks for.
    """
    largest = max((size for size in plan.training_sizes if size is not None), default=0)
    for name, n in n_train.items():
        if largest > n:
            raise ConfigError(
                f"{plan.path}: training_sizes: {largest:,} is more than the {n:,} training rows of"
                f" {name}; lower it, or say 'all'"
            )


def _read_properties(content: Mapping[str, Any], path: str) -> list[PropertyPlan]:
    example = "add 'properties: [log10_K_VRH]'"
    found = _named(content, "properties", path, example)
    return [_read_property(name, form, content.get("data"), path) for name, form in found.items()]


def _read_property(name: str, form: Mapping[str, Any], data: object, path: str) -> PropertyPlan:
    where = f"{path}: properties: {name}"
    _check_keys(form, _PROPERTY_KEYS, where=where, what="a property")
    if form.get("data", data) is None:
        raise ConfigError(f"{where}: has no data; add 'data: SOURCE' to it or to the plan")
    ranges = _mapping(form.get("where"), f"{where}: where", example="{band_gap: {above: 0}}")
    kept = {
        str(column): _settings(Range, bounds, f"{where}: where: {column}", example="{above: 0}")
        for column, bounds in ranges.items()
    }
    values = {"data": data, **form, "where": kept, "name": name}
    return build_config(PropertyPlan, values, where=where)


def _read_models(content: Mapping[str, Any], path: str) -> list[ModelPlan]:
    found = _named(content, "models", path, f"add 'models: [{', '.join(available())}]'")
    for name in found:
        if name not in available():
            hint = did_you_mean(name, available())
            raise ConfigError(f"{path}: models: there is no model {quoted(name)}{hint}")
    budget = _mapping(content.get("budget"), f"{path}: budget", example=_BUDGET)
    build_config(PlanBudget, {"trials": 1, **budget}, where=f"{path}: budget")
    changes = {
        key: _settings(cls, content[key], f"{path}: {key}")
        for key, cls in (("scheduler", Scheduler), ("search", Search))
        if content.get(key) is not None
    }
    if isinstance(search := changes.get("search"), Search) and search.name == "repeat":
        raise ConfigError(
            f"{path}: search: 'repeat' is what the setting 'default' does; name tpe, random or grid"
        )
    return [_read_model(name, form, budget, changes, path) for name, form in found.items()]


def _read_model(
    name: str,
    form: Mapping[str, Any],
    budget: Mapping[str, Any],
    changes: Mapping[str, Config],
    path: str,
) -> ModelPlan:
    where = f"{path}: models: {name}"
    _check_keys(form, _MODEL_KEYS, where=where, what="a model of a plan")
    space = _read_space(form.get("space", name), name, where)
    spent = _read_budget(form.get("budget"), budget, name, where)
    space = space.with_budget(trials=spent.trials, epochs=spent.epochs)
    if load_spec(name).fit == "closed_form":  # no epochs, so nothing that stops a trial early
        changes = {key: part for key, part in changes.items() if key != "scheduler"}
    changed = {key: part.model_dump() for key, part in changes.items()}
    if form.get("resources") is not None:
        resources = _settings(Resources, form["resources"], f"{where}: resources")
        changed["resources"] = resources.model_dump()
    _check_grace_period(changes.get("scheduler"), spent, where)
    space = parse_space({**space.content, **changed}, path=space.path)
    return ModelPlan(
        name=name,
        space_path=space.path,
        space=dict(space.content),
        trials=spent.trials,
        epochs=spent.epochs,
    )


def _read_space(source: object, model: str, where: str) -> SearchSpace:
    if not isinstance(source, str):
        raise ConfigError(f"{where}: space: takes a name or a file, found {quoted(source)}")
    try:
        space = read_space(source)
    except ConfigError as cause:
        raise ConfigError(f"{where}: space: {cause}") from cause
    if space.model != model:
        raise ConfigError(
            f"{where}: space: {space.path} searches the model '{space.model}'; name a space of"
            f" '{model}'"
        )
    return space


def _read_budget(own: object, common: Mapping[str, Any], model: str, where: str) -> PlanBudget:
    merged = {**common, **_mapping(own, f"{where}: budget", example=_BUDGET)}
    is_closed = load_spec(model).fit == "closed_form"
    needed = ("trials",) if is_closed else ("trials", "epochs")
    for key in needed:
        if merged.get(key) is None:
            raise ConfigError(
                f"{where}: budget.{key} is missing; add 'budget: {_BUDGET}' to the"
                " plan or to the model"
            )
    spent = build_config(PlanBudget, merged, where=f"{where}: budget")
    return spent.model_copy(update={"epochs": None}) if is_closed else spent


def _check_grace_period(scheduler: Config | None, spent: PlanBudget, where: str) -> None:
    if not isinstance(scheduler, Scheduler) or scheduler.name != "asha" or spent.epochs is None:
        return
    if scheduler.grace_period > spent.epochs:
        raise ConfigError(
            f"{where}: the plan's scheduler has grace_period {scheduler.grace_period}, longer than"
            f" a trial of {spent.epochs} epochs; lower it or raise budget.epochs"
        )


def _read_split(content: Mapping[str, Any], path: str) -> SplitConfig:
    form = _mapping(content.get("split"), f"{path}: split", example="{kind: random}")
    for key, advice in _DECIDED.items():
        if key in form:
            raise ConfigError(f"{path}: split: '{key}' cannot be set here: {advice}")
    return _settings(SplitConfig, form, f"{path}: split")


def _read_settings(found: object, path: str) -> list[str]:
    settings = _list(found, f"{path}: settings", example="[default, tuned]")
    for setting in settings:
        if setting not in SETTINGS:
            hint = did_you_mean(str(setting), SETTINGS)
            raise ConfigError(f"{path}: settings: {quoted(setting)} is not a setting{hint}")
    return settings


def _read_sizes(found: object, path: str) -> list[int | None]:
    sizes = _list(found, f"{path}: training_sizes", example="[500, 1000, all]")
    for size in sizes:
        is_number = isinstance(size, int) and not isinstance(size, bool)
        if size != _ALL and not (is_number and size >= FEWEST_TRAINING_ROWS):
            raise ConfigError(
                f"{path}: training_sizes: {quoted(size)} is not a number of training rows;"
                f" expected a whole number of at least {FEWEST_TRAINING_ROWS}, or 'all'"
            )
    return [None if size == _ALL else size for size in sizes]


def _named(
    content: Mapping[str, Any], key: str, path: str, advice: str
) -> dict[str, dict[str, Any]]:
    """Read a list of names, or a mapping from name to details, as the latter."""
    found = content.get(key)
    if not found:
        raise ConfigError(f"{path}: {key} is missing; {advice}")
    if isinstance(found, dict):
        return {
            str(name): _mapping(form, f"{path}: {key}: {name}", example="{...}")
            for name, form in found.items()
        }
    return {str(name): {} for name in _list(found, f"{path}: {key}", example="[NAME]")}


def _list(found: object, where: str, *, example: str) -> list[Any]:
    """Check that `found` is a list of single values, none of them twice."""
    if not isinstance(found, list) or not found:
        raise ConfigError(f"{where}: takes a list such as {example}, found {quoted(found)}")
    for number, item in enumerate(found):
        if not isinstance(item, (str, int, float)):
            raise ConfigError(f"{where}: takes single values, found {quoted(item)}")
        if item in found[:number]:
            raise ConfigError(f"{where}: {quoted(str(item))} stands there twice; remove one")
    return found


def _settings(cls: type[ConfigT], found: object, where: str, *, example: str = "{...}") -> ConfigT:
    return build_config(cls, _mapping(found, where, example=example), where=where)


def _mapping(found: object, where: str, *, example: str) -> dict[str, Any]:
    """Check that `found` holds keys and values; nothing at all counts as none."""
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(
            f"{where}: takes keys and values such as {example}, found {quoted(found)}"
        )
    _refuse_booleans(found, where)
    return found


def _refuse_booleans(found: Mapping[str, Any], where: str) -> None:
    """Refuse what would count as 0 or 1: no key of a plan takes true or false."""
    for key, value in found.items():
        if isinstance(value, bool):
            raise ConfigError(
                f"{where}: '{key}' does not take true or false (found {value}); give a number, or"
                " put a word that YAML takes for one of them in quotes"
            )


def _check_keys(found: Mapping[str, Any], known: tuple[str, ...], *, where: str, what: str) -> None:
    for key in found:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise ConfigError(f"{where}: {quoted(str(key))} is not a key of {what}{hint}")
