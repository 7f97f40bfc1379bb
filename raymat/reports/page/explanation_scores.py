"""Tables of the classifiers that are explained: how right they are, and whether they agree."""

from typing import Any

import pandas as pd

from raymat.explain.explanations import class_word
from raymat.explain.finish import CLASSES
from raymat.explain.record import CLASSIFIER_ENDED
from raymat.explain.scores import FULL
from raymat.reports.page.run_files import RunFiles


def classifier_table(
    run: RunFiles, metrics: dict[str, Any], threshold: float | None
) -> pd.DataFrame:
    """Give test scores, or before there are any the validation scores of those that are trained."""
    trained = {e["name"]: e["row"] for e in run.events if e["event"] == CLASSIFIER_ENDED}
    scored = metrics.get("classifiers") or {}
    rows = [
        {
            "classifier": name,
            **_scores(scored.get(name), threshold),
            "validation AUC": trained.get(name, {}).get("val_auc"),
            "best epoch": trained.get(name, {}).get("best_epoch"),
            "epochs": trained.get(name, {}).get("epochs"),
            "parameters": trained.get(name, {}).get("n_parameters"),
        }
        for name in dict.fromkeys([*scored, *trained])
    ]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _scores(own: dict[str, Any] | None, threshold: float | None) -> dict[str, Any]:
    if not own:
        return {}
    low, high = own.get("auc_ci95") or (None, None)
    return {
        "AUC": own.get("auc"),
        "AUC from": low,
        "AUC to": high,
        "accuracy": own.get("accuracy"),
        **{f"accuracy, {class_word(c, threshold)}": own.get(f"accuracy_{c}") for c in CLASSES},
        f"agrees with {FULL}": own.get("agreement"),
        "test rows": own.get("n"),
    }


def agreement_table(metrics: dict[str, Any], threshold: float | None) -> pd.DataFrame:
    """Give a row for each two classifiers of a labelling and class; empty without several."""
    rows = [
        {
            "labels": own["labels"],
            "class": class_word(own["target_class"], threshold),
            "classifiers": " and ".join(str(member) for member in own["members"]),
            "rank correlation of labels": own["nodes"],
            "rank correlation of edges": own["edges"],
        }
        for own in metrics.get("agreement_of_members") or ()
    ]
    return pd.DataFrame(rows)
