"""YAML and typed values: what is refused, and the words for it."""

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from raymat.config import Config, build_config, read_yaml
from raymat.errors import ConfigError
from raymat.tuning.space import read_space


class Inner(Config):
    share: float = Field(0.5, gt=0.0, lt=1.0)


class Outer(Config):
    n: int = Field(1, ge=1, le=100_000)
    x: float = 1.0
    is_on: bool = True
    kind: Literal["a", "b", "c"] = "a"
    name: str = ""
    steps: tuple[int, ...] = ()
    facts: dict[str, int] | None = None
    inner: Inner = Inner()
    n_or_none: int | None = None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"n": 0}, "'m.n' must be at least 1 (found 0)"),
        ({"n": 100_001}, "'m.n' must be at most 100000 (found 100001)"),
        ({"n": 1.5}, "'m.n' must be a whole number (found 1.5)"),
        ({"n": "many"}, "'m.n' must be a whole number (found 'many')"),
        ({"n": None}, "'m.n' must be a whole number (found None)"),
        ({"n_or_none": "x"}, "'m.n_or_none' must be a whole number (found 'x')"),
        ({"x": "fast"}, "'m.x' must be a number (found 'fast')"),
        ({"x": float("inf")}, "'m.x' must be a finite number (found inf)"),
        ({"is_on": "perhaps"}, "'m.is_on' must be true or false (found 'perhaps')"),
        ({"kind": "d"}, "'m.kind' must be one of 'a', 'b', 'c' (found 'd')"),
        ({"name": 3}, "'m.name' must be text (found 3)"),
        ({"steps": 3}, "'m.steps' must be a list (found 3)"),
        ({"steps": [1, "b"]}, "'m.steps' must be a whole number (found 'b')"),
        ({"facts": 3}, "'m.facts' must hold keys and values (found 3)"),
        ({"inner": 3}, "'m.inner' must hold keys and values (found 3)"),
        ({"inner": {"share": 0}}, "'m.inner.share' must be above 0 (found 0)"),
        ({"inner": {"share": 1.5}}, "'m.inner.share' must be below 1 (found 1.5)"),
        ({"nn": 1}, "'m.nn' is not a field of Outer; did you mean 'm.n'?"),
    ],
)
def test_wording(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=r"^f\.yaml: ") as caught:
        build_config(Outer, values, where="f.yaml", prefix="m.")
    assert str(caught.value) == f"f.yaml: {text}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' stands in line 1 already; remove one"),
        ("a:\n  x: {int: [1, 2]}\n  x: {int: [1, 3]}\n", "line 3: 'x' stands in line 2 already"),
        ("a: [{x: 1, x: 2}]\n", "line 1: 'x' stands in line 1 already"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: line ")


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("base: &b {x: 1, y: 1e-3}\na: {<<: *b, x: 2}\nc: {x: 3}\n")
    content = read_yaml(path)
    assert content["a"] == {"x": 2, "y": 0.001}
    assert content["c"] == {"x": 3}


def test_a_space_that_names_a_key_twice(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "model: cgcnn\nspace:\n  model.n_conv: {int: [1, 3]}\n  model.n_conv: {int: [1, 5]}\n"
        "budget: {trials: 4, epochs: 5}\n"
    )
    with pytest.raises(ConfigError, match=r"line 4: 'model\.n_conv' stands in line 3 already"):
        read_space(str(path))
