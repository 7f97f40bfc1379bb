"""What a command becomes when it is submitted to a cluster, and what cannot be."""

from pathlib import Path

import pytest

from raymat.cli import main, submit
from raymat.cluster.submit import job_name

URL = "http://localhost:8265"
RUN = "/shared/runs/first"


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["tune", "--space", "cgcnn", "--address", URL], URL),
        (["resume", RUN, f"--address={URL}"], URL),
        (["tune", "--address", "auto"], None),
        (["tune", "--address", "10.0.0.1:6379"], None),
        (["tune", "--address"], None),
        (["tune", "--address", URL, "--help"], None),
        (["predict", "--address", URL], None),
        ([], None),
    ],
)
def test_only_a_url_makes_a_job(arguments: list[str], address: str | None) -> None:
    assert submit.asks_for_a_job(arguments) == address


def test_small_files_travel_and_data_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "job"
    folder.mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "space.yaml").write_text("model: cgcnn", encoding="utf-8")
    asked = ["tune", "--space", "mine/space.yaml", "--address", URL, "--data=/shared/x.parquet"]
    given = submit._on_the_cluster([*asked, "--out", RUN], folder)
    data = ["--data", "/shared/x.parquet"]
    tail = ["--out", RUN, "--address", "auto"]
    assert given == ["tune", "--space", "space.yaml", *data, *tail]
    assert (folder / "space.yaml").read_text(encoding="utf-8") == "model: cgcnn"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["tune", "--space", "cgcnn", "--data", "delta"], None),  # shipped, built in
        (["status", RUN, "--address", URL], ["status", RUN]),
        (["resume", RUN, "--address", URL], ["resume", RUN, "--address", "auto"]),
    ],
)
def test_other_words_stay(asked: list[str], expected: list[str] | None, tmp_path: Path) -> None:
    assert submit._on_the_cluster(asked, tmp_path) == (expected or [*asked, "--address", "auto"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "--space", "cgcnn"), "--out must be an absolute path on the storage"),
        (("tune", "--space", "cgcnn", "--out", "runs/first"), "(found runs/first)"),
        (("resume", "runs/first"), "the run must be an absolute path"),
        (("tune", "--out", RUN, "--data", "x.parquet"), "--data x.parquet: lies on this machine"),
    ],
)
def test_nonsense_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.parquet").touch()
    assert main.run([*arguments, "--address", URL]) == 2
    said = capfd.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1


def test_nothing_answers(capfd: pytest.CaptureFixture[str]) -> None:
    """Either Ray's job submission is not installed, or nothing listens at the port."""
    assert main.run(["status", RUN, "--address", "http://localhost:1"]) == 2
    said = capfd.readouterr().err.strip()
    assert said.startswith("error: --address http://localhost:1: ")
    assert len(said.splitlines()) == 1


def test_jobs_of_a_run_have_a_name_of_their_own() -> None:
    assert job_name(Path(RUN)) == job_name(Path(RUN))
    assert job_name(Path(RUN)) != job_name(Path("/shared/runs/second"))
