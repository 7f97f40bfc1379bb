"""Plans of comparisons as tests make them up."""

from typing import Any

import pytest

from raymat.errors import ConfigError
from raymat.tuning.comparison_cells import ComparisonPlan
from raymat.tuning.comparison_plan import parse_plan

CONTENT: dict[str, Any] = {
    "data": "elastic.parquet",
    "properties": ["log10_K_VRH", "log10_G_VRH"],
    "models": ["cgcnn"],
    "repetitions": 2,
    "budget": {"trials": 3, "epochs": 7},
}
OTHER_SPACE = """
model: cgcnn
space:
  training.lr: {log_uniform: [1.0e-3, 1.0e-2]}
budget: {trials: 64, epochs: 60}
"""


def planned(**changes: Any) -> ComparisonPlan:
    content = {key: value for key, value in {**CONTENT, **changes}.items() if value is not None}
    return parse_plan(content, path="plan.yaml")


def refused(match: str, **changes: Any) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        planned(**changes)
    message = str(caught.value)
    assert message.startswith("plan.yaml: ")
    assert "\n" not in message
