"""What a search space will take on the machine or the cluster that is there."""

from collections.abc import Iterator

from raymat.cluster.findings import Finding
from raymat.data.crystals import CrystalSet
from raymat.data.readers import load_crystals
from raymat.data.splits import SplitConfig, make_split
from raymat.errors import ConfigError, DataError
from raymat.features.memory import available_memory
from raymat.properties import Property, find_property
from raymat.training.config import FitConfig
from raymat.tuning.forecast import check_memory
from raymat.tuning.measured_forecast import forecast_epoch, forecast_features
from raymat.tuning.search_space import SearchSpace
from raymat.tuning.space_features import configurations_of

_ADVICE = "raise --max-rejected, or mend the data: `raymat data check`"
CHECK = "forecast"


def forecast(space: SearchSpace, source: str, target: str, *, n_places: int) -> Iterator[Finding]:
    """Give what a search will take: memory, features, the time of an epoch and of everything.

    Args:
        space: to search.
        source: data, as `--data` takes it.
        target: column to learn.
        n_places: trials at a time.

    Raises:
        DataError: the data cannot be used.
    """
    loaded = load_crystals(source, target=target, max_rejected=1.0)
    crystals, prop = loaded.crystals, loaded.prop or find_property(target)
    text = f"{source}: {len(crystals):,} crystals, {len(loaded.rejected):,} rows rejected"
    yield Finding(CHECK, "warning" if len(loaded.rejected) else "ok", text, _ADVICE)
    space = space.decided_by(crystals)
    yield _memory(space, crystals, prop, n_places)
    for table in forecast_features(space, crystals):
        yield Finding(
            CHECK,
            "ok",
            f"{table.kind}: about {_say_time(table.seconds)} of one core,"
            f" {table.n_bytes / 1e6:,.0f} MB, once for all trials",
        )
    yield _epoch(space, crystals, prop, n_places)


def _memory(space: SearchSpace, crystals: CrystalSet, prop: Property, n_places: int) -> Finding:
    try:
        check_memory(configurations_of(space), crystals, prop.task, n_workers=n_places)
    except ConfigError as error:
        return Finding(CHECK, "problem", f"memory: {error}", "see the message")
    free = available_memory()
    return Finding(CHECK, "ok", f"memory: all corners of the space fit into {free / 1e9:,.1f} GB")


def _epoch(space: SearchSpace, crystals: CrystalSet, prop: Property, n_places: int) -> Finding:
    default = space.configure({})
    if not isinstance(default.training, FitConfig):
        return Finding(CHECK, "ok", f"{default.model} has no epochs: a trial is one solution")
    try:
        epoch = forecast_epoch(space, crystals, prop, make_split(crystals, SplitConfig()))
    except DataError as error:
        return Finding(CHECK, "problem", f"an epoch: {error}", "look at `raymat data describe`")
    most = epoch.seconds * space.budget.epochs * space.budget.trials / n_places
    return Finding(
        CHECK,
        "ok",
        f"an epoch of the default: about {_say_time(epoch.seconds)} on one core here"
        f" ({epoch.n_rows:,} training rows); {space.budget.trials} trials of"
        f" {space.budget.epochs} epochs, {n_places} at a time: at most {_say_time(most)} if all"
        " were like it and none stopped early",
    )


def _say_time(seconds: float) -> str:
    for size, unit in ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
