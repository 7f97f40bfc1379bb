"""Whether what a screening is given fits its criterion: ensembles by target, columns by name."""

from collections.abc import Collection, Mapping

from raymat.errors import ConfigError, did_you_mean
from raymat.screening.criterion import Criterion
from raymat.screening.criterion_names import FEATURES


def check_ensembles(
    criterion: Criterion, targets: Mapping[str, str], thresholds: Mapping[str, float] | None = None
) -> None:
    """Check that every prediction comes from an ensemble that learned it.

    Args:
        criterion: what is screened by.
        targets: prediction name -> target that the ensemble given for it learned.
        thresholds: prediction name -> where the target was cut into two classes; ensembles of
            numbers, and of what is a class by itself, are not listed.

    Raises:
        ConfigError: an ensemble is missing, superfluous, swapped with another, of another target,
            or of classes of a number.
    """
    where = f"criterion {criterion.name} ({criterion.path})"
    for name, target in criterion.predictions.items():
        if name not in targets:
            raise ConfigError(f"{where}: no ensemble was given for '{name}' (target {target})")
    for name in targets:
        if name not in criterion.predictions:
            hint = did_you_mean(name, criterion.predictions)
            raise ConfigError(f"{where}: it has no prediction '{name}'{hint}")
    for name, needed in criterion.predictions.items():
        if targets[name] != needed:
            raise ConfigError(f"{where}: {_mismatch(name, criterion.predictions, targets)}")
        if thresholds and name in thresholds:
            raise ConfigError(
                f"{where}: '{name}' needs an ensemble that learned the number {needed}, the one"
                f" given learned its classes (above {thresholds[name]:g} or not) and predicts"
                " probabilities; train one without --classes"
            )


def check_columns(criterion: Criterion, given: Collection[str]) -> tuple[str, ...]:
    """Check the columns of the candidates.

    Args:
        criterion: what is screened by.
        given: names of the columns of the candidates.

    Returns:
        Columns that filters or known values read and that no candidate has: those filters are not
        applied, and known values not used.

    Raises:
        ConfigError: a column is absent without which no candidate can be judged.
    """
    absent = [name for name in criterion.columns if name not in given]
    needed = criterion.names_in("values", "require", "passes", "counts") | {criterion.rank.by}
    needed |= criterion.list_if.names if criterion.list_if is not None else frozenset()
    for name in absent:
        if name in needed:
            hint = did_you_mean(name, [column for column in given if column not in FEATURES])
            raise ConfigError(
                f"criterion {criterion.name} ({criterion.path}): it reads the column '{name}', "
                f"which the candidates do not have{hint}"
            )
    return tuple(absent)


def _mismatch(name: str, needed: Mapping[str, str], targets: Mapping[str, str]) -> str:
    found = targets[name]
    swapped = [
        other for other in needed if needed[other] == found and targets[other] == needed[name]
    ]
    if swapped:
        other = swapped[0]
        return (
            f"the ensembles for '{name}' and '{other}' are swapped: '{name}' was given one that "
            f"learned {found}, '{other}' one that learned {targets[other]}; exchange them"
        )
    fits = [other for other in needed if needed[other] == found]
    hint = f" (that is what '{fits[0]}' needs)" if fits else ""
    return (
        f"'{name}' needs an ensemble that learned {needed[name]}, the one given learned "
        f"{found}{hint}"
    )
