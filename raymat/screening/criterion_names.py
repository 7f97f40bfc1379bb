"""The names of a criterion file: which can be given, and which columns of the table they become."""

import keyword
from collections.abc import Iterator

from raymat.errors import ConfigError, did_you_mean
from raymat.screening.criterion_file import CriterionFile
from raymat.screening.operations import CONSTANTS, FUNCTIONS
from raymat.text import quoted

N_MEMBERS = "n_members"
IN_DOMAIN = "in_domain"
IN_TRAINING = "in_training"  # whether any ensemble learned from the candidate, or selected by it
# Columns that every table has, whatever the criterion.
RESERVED = ("rank", "material_id", "formula", "source", IN_DOMAIN, IN_TRAINING, N_MEMBERS)
# What expressions may read of a candidate's structure.
FEATURES = ("n_sites", "n_lithium", "molar_volume_ratio")

_SUFFIXES = {"values": ("", "_std"), "passes": ("", "_lo", "_hi"), "counts": ("",)}
_LONGEST_NAME = 60  # characters of what becomes a column
_NAMED = ("predictions", "columns", *_SUFFIXES)


def check_definitions(form: CriterionFile, path: str) -> None:
    """Check every name that a criterion defines.

    Raises:
        ConfigError: one is no plain name, is taken, or would give a column twice.
    """
    taken = dict.fromkeys(RESERVED, "the table has such a column anyway")
    taken |= dict.fromkeys(FEATURES, "it is a feature of the candidate's structure")
    taken |= dict.fromkeys((*FUNCTIONS, *CONSTANTS), "it is a function or constant of expressions")
    for section in _NAMED:
        for name in getattr(form, section):
            where = f"{path}: {section}: {quoted(name)}"
            _check_spelling(name, where)
            for made in _made(section, name):
                if made in taken:
                    shown = "" if made == name else f" gives a column '{made}', which"
                    raise ConfigError(f"{where}{shown} is taken: {taken[made]}; rename it")
                taken[made] = f"'{name}' stands under '{section}'"
    _check_known(form, path)


def table_columns(form: CriterionFile) -> dict[str, tuple[str, ...]]:
    """Give what may be listed under 'table' -> its columns, in the order without a list."""
    entries = {
        name: _made(section, name) for section in _SUFFIXES for name in getattr(form, section)
    }
    return {**entries, N_MEMBERS: (N_MEMBERS,)}


def table_order(form: CriterionFile, path: str) -> tuple[str, ...]:
    """Give the columns that a criterion makes, in the order of the table.

    Raises:
        ConfigError: a listed name is unknown, or listed twice.
    """
    made = table_columns(form)
    known = {**made, **{feature: (feature,) for feature in FEATURES}}
    for position, name in enumerate(form.table):
        if name not in known:
            raise ConfigError(f"{path}: table: unknown name '{name}'{did_you_mean(name, known)}")
        if name in form.table[:position]:
            raise ConfigError(f"{path}: table: '{name}' stands there twice; remove one")
    rest = [name for name in made if name not in form.table]
    return tuple(column for name in (*form.table, *rest) for column in known[name])


def _made(section: str, name: str) -> tuple[str, ...]:
    return tuple(f"{name}{suffix}" for suffix in _SUFFIXES.get(section, ("",)))


def _check_spelling(name: str, where: str) -> None:
    if not (name.isascii() and name.isidentifier()) or name.startswith("_"):
        problem = "is not a plain name: letters, digits and _, a letter first"
    elif len(name) > _LONGEST_NAME:
        problem = f"has more than {_LONGEST_NAME} characters"
    elif keyword.iskeyword(name):
        problem = "is a word of the expressions' grammar"
    else:
        return
    raise ConfigError(f"{where} {problem}; rename it")


def _check_known(form: CriterionFile, path: str) -> None:
    for name in form.known:
        if name not in form.predictions:
            hint = did_you_mean(name, form.predictions)
            raise ConfigError(f"{path}: known: '{name}' is not a prediction{hint}")
    missing = [name for name in form.predictions if name not in form.known]
    if form.known and missing:
        raise ConfigError(
            f"{path}: known: '{missing[0]}' is missing; known values replace the members only "
            "together, so give one for every prediction"
        )


def sections_of(form: CriterionFile) -> Iterator[tuple[str, str]]:
    """Give every name that a criterion defines, with the section it stands in."""
    for section in _NAMED:
        for name in getattr(form, section):
            yield name, section
