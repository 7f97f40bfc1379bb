"""The exceptions a caller may want to catch.

Each is also the built-in it resembles. A message says what was wrong, where, what stood there,
what was expected and what to do next, in one line.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RaymatError(Exception):
    """Root of every error that raymat raises on purpose.

    All of them travel between processes with their attributes: pickling needs no arguments of
    `__init__` but those that `Exception` keeps.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args), self.__dict__


class ConfigError(RaymatError, ValueError):
    """A key or value of a YAML file or an option that cannot be used."""


class DataError(RaymatError, ValueError):
    """A data source that cannot be used."""


class UnwritableError(DataError):
    """A file of data that cannot be written."""


class UnknownElementError(DataError):
    """A crystal holds an element that the features or the model do not know."""

    def __init__(self, message: str, *, atomic_numbers: tuple[int, ...]) -> None:
        super().__init__(message)
        self.atomic_numbers = atomic_numbers


class DivergedError(RaymatError, ArithmeticError):
    """Training met a loss or a prediction that is not finite."""

    def __init__(self, message: str, *, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


class ModelFileError(RaymatError, ValueError):
    """A stored model that cannot be loaded."""


class RunError(RaymatError, RuntimeError):
    """A run directory that cannot be used, or a run that failed."""


class ClusterError(RaymatError, RuntimeError):
    """Ray could not be reached or cannot place the work."""


def _rebuild(kind: type[RaymatError], args: tuple[object, ...]) -> RaymatError:
    return kind.__new__(kind, *args)  # which sets `args`; pickle sets the attributes then


def one_line(error: BaseException) -> str:
    """Give the message of an error without line breaks, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


_SHOWN = 20  # known words in a message


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word closest to `word`, or the known words.

    Case is no difference: the same word in another case is the closest.
    """
    words = sorted(known)
    folded = {known_word.casefold(): known_word for known_word in reversed(words)}
    close = get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{folded[close[0]]}'?"
    shown = ", ".join(words[:_SHOWN]) + (", ..." if len(words) > _SHOWN else "")
    return f"; known: {shown}" if words else ""
