"""Commands that messages suggest can be copied to a shell, whatever a run is called."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from raymat.cli.runs import _farewell
from raymat.cli.submit import _say_detached
from raymat.data.readers import rejection_letter
from raymat.ensembles.stored import load_ensemble
from raymat.errors import RaymatError
from raymat.screening.shard_files import _advice
from raymat.tracking.run_directory import RunDirectory


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RaymatError, match="raymat") as found:
        call()
    return str(found.value)


@pytest.mark.parametrize("name", ["with space", "it's", "$HOME;x", "plain"])
def test_paths_are_quoted(tmp_path: Path, name: str) -> None:
    run = tmp_path / name
    run.mkdir()
    (run / "run.json").write_text('{"command": "ensemble", "status": "interrupted"}', "utf-8")
    quoted = shlex.quote(str(run))
    said = [
        _farewell(run),
        _say_detached(run, "http://head:8265", "job"),
        _advice(run),
        refused(lambda: load_ensemble(run)),
        refused(lambda: RunDirectory.create(run, {})),
    ]
    for text in said:
        assert f"raymat resume {quoted}" in text
    assert f"raymat data check {quoted}`" in rejection_letter(str(run), {"x": 1}, 2, 0.1)
