"""How much each searched value mattered, as Optuna judges it."""

from typing import Any

import numpy as np
import pandas as pd

from raymat.tuning.study import Study, TrialRecord

FEWEST_TRIALS = 10  # below which an importance would be noise


def importances(study: Study) -> pd.DataFrame:
    """Give parameter and importance (they add up to 1), the most important first.

    Only values that all trials have and that differ count; empty with fewer than
    `FEWEST_TRIALS` trials that finished an epoch.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    empty = pd.DataFrame(columns=["parameter", "importance"])
    usable = [t for t in study.trials.values() if t.status != "failed" and t.epochs]
    distributions = _distributions(usable)
    if len(usable) < FEWEST_TRIALS or not distributions:
        return empty
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    told = optuna.create_study(
        direction="maximize" if study.task == "classification" else "minimize"
    )
    for trial in usable:
        best = trial.best(study.task)
        assert best is not None
        params = {key: _plain(trial.config[key]) for key in distributions}
        told.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=best.val_score
            )
        )
    found = get_param_importances(told, evaluator=PedAnovaImportanceEvaluator())
    if not found or not np.isfinite(list(found.values())).all():
        return empty
    return pd.DataFrame(found.items(), columns=["parameter", "importance"])


def _distributions(trials: list[TrialRecord]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, Any] = {}
    for key in sorted({key for trial in trials for key in trial.values}):
        if not all(key in trial.config for trial in trials):
            continue  # exists only beside another value
        values = [_plain(trial.config[key]) for trial in trials]
        if len(set(values)) < 2:
            continue
        if any(isinstance(v, str | bool) or v is None for v in values):
            found[key] = CategoricalDistribution(sorted(set(values), key=str))
        else:
            low, high = float(min(values)), float(max(values))
            found[key] = FloatDistribution(low, high, log=low > 0 and high / low > 50)
    return found


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | tuple) else value
