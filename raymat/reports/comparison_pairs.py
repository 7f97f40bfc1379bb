"""Models and settings of a comparison set against each other on the same test rows."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raymat.data.crystals import Crystal, CrystalSet
from raymat.errors import RunError
from raymat.models import load_spec
from raymat.reports.comparison_statistics import LEVEL, largest_size, summarise, with_size
from raymat.training.metrics import FEWEST_ROWS, N_BOOTSTRAP
from raymat.training.verdict import verdict_lines
from raymat.tuning.comparison_cells import ComparisonPlan

Kind = Literal["graph", "descriptor"]
Floats = NDArray[np.float64]
BASELINE = "baseline"  # the setting of what a model must beat
BASELINES = ("mean", "composition")
FEWEST_REPETITIONS = 3  # for pairs to be told apart: two that agree say nothing of a third
_BLOCK = 500  # bootstrap samples at a time, to bound memory


def paired_differences(
    rows: pd.DataFrame, errors: pd.DataFrame, *, kinds: Mapping[str, Kind]
) -> pd.DataFrame:
    """Compare models and settings on the same repetitions and the same test rows.

    Pairs: tuned against default of each model; every model against the best one of its setting;
    every graph model against every descriptor model; every model against the baselines, the
    training mean and the composition forest, where their errors are given. A difference is the
    first's MAE minus the second's, so a negative one speaks for the first; with classes it is
    accuracy minus accuracy, so a positive one does. Two kinds of 95 % interval:

    * `t_low`, `t_high`: Student's t over the differences of the repetitions (nan below two). It
      covers what changes from one repetition to the next: split, seeds, what the search found. It
      takes repetitions for independent although their training sets overlap, so it is too
      narrow; `corrected_low`, `corrected_high` widen its variance by n_test / n_train
      (Nadeau & Bengio, Mach. Learn. 2003, 52, 239).
    * `bootstrap_low`, `bootstrap_high`: percentiles over resamples of the test crystals, the rows
      of a crystal that is tested in several repetitions kept together (cluster bootstrap). It
      covers which crystals happened to be tested, for the trained models as they are; not another
      training set, seed or search, even where several repetitions are pooled.

    Neither covers that the best model was chosen on these same test rows, nor that many pairs
    are looked at: of twenty pairs without a difference one interval will miss zero.

    Args:
        rows: as for `summarise`.
        errors: `property, repetition, model, setting, n_train, material_id, absolute_error` of
            the test rows; with classes the error of the probability of class 1.
        kinds: what each model reads, as `kinds_of` gives it.

    Returns:
        One row per pair that has common rows: `property, unit, training_size, n_train,
        comparison, model, setting, other_model, other_setting, metric, difference,
        n_repetitions`, the intervals,
        `n_crystals, n_rows`, and `told_apart`: neither the corrected interval nor that of the
        bootstrap holds zero; None below three repetitions, or where an interval is missing: there
        is none of fewer than five crystals.

    Raises:
        RunError: a cell or an error stands there twice.
    """
    summary, errors = summarise(rows), with_size(errors)
    found: list[dict[str, Any]] = []
    for (name, size), part in summary.groupby(["property", "training_size"], sort=False):
        of_cell = errors[(errors["property"] == name) & (errors["training_size"] == size)]
        facts = {"property": name, "training_size": size}
        found += _compare(part, of_cell, facts, kinds)
    return pd.DataFrame(found, columns=_COLUMNS)


def kinds_of(plan: ComparisonPlan) -> dict[str, Kind]:
    """Give what each model of a plan reads, with the defaults of its space."""
    from raymat.features.descriptor_table import DescriptorTable

    # What a model reads may wait for the elements of the data; which kind it is does not.
    atom = Crystal("H", np.eye(3), np.array([1], dtype=np.uint8), np.zeros((1, 3)))
    crystals = CrystalSet.from_crystals([atom])
    kinds: dict[str, Kind] = {}
    for model in plan.models:
        space = model.search_space().decided_by(crystals)
        architecture = space.configure(space.default()).architecture
        read = load_spec(model.name).reads(architecture).table_config.table_class()
        kinds[model.name] = "descriptor" if issubclass(read, DescriptorTable) else "graph"
    return kinds


def say_told_apart(value: Any) -> str:
    """Return yes, no, or that it is not estimated."""
    if value is None or pd.isna(value):
        return "not estimated"
    return "yes" if value in (True, "True") else "no"


def say_verdicts(differences: pd.DataFrame) -> dict[str, list[str]]:
    """Return, for each property, whether its models beat the baselines and their own default.

    Of the most training rows; a difference counts by the wider of its intervals over test crystals
    and, from three repetitions on, over repetitions.
    """
    found: dict[str, list[str]] = {}
    for name, own in differences.groupby("property", sort=False):
        own = own[own["training_size"].astype(str) == str(largest_size(own))]
        lines = found.setdefault(str(name), [])
        for (model, setting), pairs in own.groupby(["model", "setting"], sort=False):
            verdict = _verdict(pairs)
            lines += verdict_lines(verdict, model=f"{model}, {setting},") if verdict else []
    return {name: lines for name, lines in found.items() if lines}


def _verdict(pairs: pd.DataFrame) -> dict[str, Any]:
    """Give the pairs of a model with baselines and default in the form of `judge`."""
    compared, n = {}, 0
    for row in pairs.to_dict("records"):
        is_baseline = row["other_setting"] == BASELINE
        if not is_baseline and row["comparison"] != "tuned against default":
            continue
        is_repeated = row["n_repetitions"] >= FEWEST_REPETITIONS
        kinds = ["bootstrap", "corrected"] if is_repeated else ["bootstrap"]
        ends = np.array([[row[f"{kind}_low"], row[f"{kind}_high"]] for kind in kinds], dtype=float)
        is_known = bool(np.isfinite(ends).all())
        n = max(n, int(row["n_crystals"]))
        compared[row["other_model"] if is_baseline else "default"] = {
            "difference": row["difference"],
            "lo": float(ends[:, 0].min()) if is_known else None,
            "hi": float(ends[:, 1].max()) if is_known else None,
        }
    if not compared.keys() & set(BASELINES):
        return {}
    return {"metric": pairs.iloc[0]["metric"], "n": n, **compared}


_COLUMNS = [
    *("property", "unit", "training_size", "n_train", "comparison", "model", "setting"),
    *("other_model", "other_setting", "metric", "difference", "n_repetitions", "t_low", "t_high"),
    *("corrected_low", "corrected_high", "bootstrap_low", "bootstrap_high", "n_crystals"),
    *("n_rows", "told_apart"),
]


@dataclass(frozen=True)
class _Pair:
    comparison: str
    model: str
    setting: str
    other_model: str
    other_setting: str


def _pairs(part: pd.DataFrame, metric: str, kinds: Mapping[str, Kind]) -> Iterator[_Pair]:
    """Give the pairs of one property and training size, from its part of the summary."""
    for model in part["model"].unique():
        if {"default", "tuned"} <= set(part.loc[part["model"] == model, "setting"]):
            yield _Pair("tuned against default", model, "tuned", model, "default")
    for setting in part["setting"].unique():
        own = part[part["setting"] == setting]
        scores = own.set_index("model")[f"{metric}_mean"].dropna()
        models = [str(model) for model in scores.index]
        if models:
            best = str(scores.idxmin() if metric == "mae" else scores.idxmax())
            others = (m for m in models if m != best)
            yield from (_Pair("against the best", m, setting, best, setting) for m in others)
        graphs = [m for m in models if kinds[m] == "graph"]
        descriptors = [m for m in models if kinds[m] == "descriptor"]
        for graph in graphs:
            for other in descriptors:
                yield _Pair("graph against descriptor", graph, setting, other, setting)
        for model in models:
            for baseline in BASELINES:
                yield _Pair("against a baseline", model, setting, baseline, BASELINE)


def _compare(
    part: pd.DataFrame, errors: pd.DataFrame, facts: dict[str, Any], kinds: Mapping[str, Kind]
) -> list[dict[str, Any]]:
    first = part.iloc[0]
    metric = "mae" if first["task"] == "regression" else "accuracy"
    table = _error_table(errors)
    if metric == "accuracy":  # an error of the probability above 0.5 is the wrong class
        table = (-(table > 0.5).astype(np.float64)).where(table.notna())
    pairs = [pair for pair in _pairs(part, metric, kinds) if _has_common_rows(table, pair)]
    if not pairs:
        return []
    gains = np.column_stack(
        [table[(p.model, p.setting)] - table[(p.other_model, p.other_setting)] for p in pairs]
    ).astype(np.float64)
    repetitions = table.index.get_level_values("repetition").to_numpy()
    crystals = pd.factorize(table.index.get_level_values("material_id"))[0]
    intervals = _cluster_bootstrap(gains, crystals)
    ratio = float(part["n_test"].mean() / part["n_train"].mean())
    facts |= {"unit": first["unit"], "n_train": first["n_train"], "metric": metric}
    return [
        {
            **facts,
            **asdict(pair),
            **_of_pair(gains[:, k], repetitions, crystals, ratio=ratio, bootstrap=intervals[k]),
        }
        for k, pair in enumerate(pairs)
    ]


def _error_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Give one row per repetition and crystal, one column per model and setting."""
    row, column = ["repetition", "material_id"], ["model", "setting"]
    repeated = errors[errors.duplicated(row + column)]
    if len(repeated):
        one = repeated.iloc[0]
        raise RunError(
            f"{one['material_id']}, repetition {one['repetition']}, {one['model']},"
            f" {one['setting']}: two errors of one test row; remove one"
        )
    return errors.pivot_table(index=row, columns=column, values="absolute_error")


def _has_common_rows(table: pd.DataFrame, pair: _Pair) -> bool:
    own, other = (pair.model, pair.setting), (pair.other_model, pair.other_setting)
    if own not in table or other not in table:
        return False
    return bool((table[own].notna() & table[other].notna()).any())


def _of_pair(
    gains: Floats,
    repetitions: NDArray[Any],
    crystals: NDArray[np.intp],
    *,
    ratio: float,
    bootstrap: Floats,
) -> dict[str, Any]:
    common = np.isfinite(gains)
    by_repetition = pd.Series(gains[common]).groupby(repetitions[common])
    means: Floats = np.asarray(by_repetition.mean(), dtype=np.float64)
    plain = _t_interval(means, variance_factor=1.0 / len(means))
    corrected = _t_interval(means, variance_factor=1.0 / len(means) + ratio)
    if len(np.unique(crystals[common])) < FEWEST_ROWS:
        bootstrap = np.full(2, np.nan)
    ends = np.array([corrected, bootstrap])
    is_estimated = len(means) >= FEWEST_REPETITIONS and bool(np.isfinite(ends).all())
    is_apart = bool(((ends > 0).all(axis=1) | (ends < 0).all(axis=1)).all())
    return {
        "difference": float(means.mean()),
        "n_repetitions": len(means),
        "t_low": plain[0],
        "t_high": plain[1],
        "corrected_low": corrected[0],
        "corrected_high": corrected[1],
        "bootstrap_low": float(bootstrap[0]),
        "bootstrap_high": float(bootstrap[1]),
        "n_crystals": len(np.unique(crystals[common])),
        "n_rows": int(common.sum()),
        "told_apart": is_apart if is_estimated else None,
    }


def _t_interval(means: Floats, *, variance_factor: float) -> tuple[float, float]:
    """Student's t interval of a mean whose variance is the sample variance times a factor."""
    from scipy.stats import t

    n = len(means)
    if n < 2:
        return float("nan"), float("nan")
    half = t.ppf((1 + LEVEL) / 2, n - 1) * np.sqrt(variance_factor * means.var(ddof=1))
    return float(means.mean() - half), float(means.mean() + half)


def _cluster_bootstrap(gains: Floats, crystals: NDArray[np.intp], *, seed: int = 0) -> Floats:
    """Percentile intervals of the mean of every column over resamples of the crystals.

    Args:
        gains: (n_rows, n_pairs); nan where a pair lacks the row.
        crystals: (n_rows,) the crystal of each row, from 0 without gaps.
        seed: of the resamples, which all pairs share.

    Returns:
        (n_pairs, 2) lower and upper ends.
    """
    n = int(crystals.max()) + 1
    sums, counts = np.zeros((n, gains.shape[1])), np.zeros((n, gains.shape[1]))
    np.add.at(sums, crystals, np.nan_to_num(gains))
    np.add.at(counts, crystals, np.isfinite(gains))
    rng = np.random.default_rng(seed)
    starts = (np.arange(_BLOCK) * n)[:, None]
    means = []
    for _ in range(N_BOOTSTRAP // _BLOCK):
        draws = rng.integers(n, size=(_BLOCK, n)) + starts
        weights = np.bincount(draws.ravel(), minlength=_BLOCK * n).reshape(_BLOCK, n)
        with np.errstate(invalid="ignore"):  # a resample may miss all rows of a pair
            means.append((weights @ sums) / (weights @ counts))
    tail = (1 - LEVEL) / 2
    ends: Floats = np.nanquantile(np.concatenate(means), [tail, 1 - tail], axis=0).T
    return ends
