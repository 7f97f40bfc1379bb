"""`raymat screen` as it is typed: what is asked for, what is refused, what it says at the end."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from made_screening import (
    BULK,
    EXCLUDED,
    KNOWN,
    N_MEMBERS,
    SHEAR,
    Study,
    all_candidates,
    rock_salt,
    write_candidates,
    write_ensemble,
    write_study,
)

from raymat.cli import main, screen_results
from raymat.cli.screen import collect_ensembles
from raymat.cli.screen_results import candidate_table, say_counts, show_screening
from raymat.cluster import screen as screen_module
from raymat.cluster.connect import ray_session
from raymat.cluster.screen import ScreenRequest
from raymat.data.crystals import CrystalSet
from raymat.ensembles import SHARED_ERRORS
from raymat.errors import ConfigError
from raymat.screening.criterion import read_criterion
from raymat.tracking.events import read_events

STIFF: dict[str, Any] = {
    "name": "stiff",
    "predictions": {"log10_bulk": BULK},
    "columns": {"band_gap": "eV"},
    "passes": {"p_stiff": "log10_bulk > 0.9"},
    "exclude": {"no insulator": "band_gap <= 0"},
    "rank": {"by": "p_stiff", "order": "descending"},
    "list_if": "p_stiff > 0.5",
}


class Asked(Exception):
    """Stands for the screening that would be done."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("typed")
    (folder / "stiff.yaml").write_text(yaml.safe_dump(STIFF, sort_keys=False), encoding="utf-8")
    return write_study(folder)


@pytest.fixture
def folder(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, beside the study."""
    monkeypatch.chdir(tmp_path)
    for name in ("K", "G", "candidates.parquet", "stiff.yaml"):
        (tmp_path / name).symlink_to(study.folder / name)
    return tmp_path


@pytest.fixture
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than anything else, and one test looks at them."""
    monkeypatch.setattr(screen_results, "draw_screening", lambda _run: None)


@pytest.fixture(scope="module")
def one_ray(study: Study) -> Iterator[None]:
    """One Ray for all runs of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(study.folder / "cache"))
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # another cluster is none of its business
        with ray_session(None):
            patch.setattr(screen_module, "ray_session", lambda _address: nullcontext())
            yield


BOTH = ("--bulk", "K", "--shear", "G")
THESE = ("--candidates", "candidates.parquet")


def asked(monkeypatch: pytest.MonkeyPatch, *options: str) -> ScreenRequest:
    """Give what the command line asks for, without doing it."""
    requests = list[ScreenRequest]()

    def remember(request: ScreenRequest, *_: Any, **__: Any) -> None:
        requests.append(request)
        raise Asked

    monkeypatch.setattr(screen_module, "screen", remember)
    assert main.run(["screen", "--out", "run", *options]) == 1
    (request,) = requests
    return request


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Ask for what must be refused in one line and leave nothing; give that line."""
    assert main.run(["screen", "--out", "run", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    assert not Path("run").exists()  # the corrected command may use it
    return lines[0]


# --- what is asked for ---------------------------------------------------------------------------


def test_short_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(monkeypatch, *BOTH, *THESE)
    assert request.ensembles == {"bulk": str(folder / "K"), "shear": str(folder / "G")}
    assert request.candidates == str(folder / "candidates.parquet")
    assert request.criterion == dict(read_criterion("lithium_metal").content)
    assert request.shard_size == 1000
    assert (request.gpus, request.address, request.concurrency) == (None, None, None)


def test_all_options(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(
        monkeypatch,
        *("--criterion", "stiff.yaml", "--ensemble", "log10_bulk=K", *THESE),
        *("--shard-size", "7", "--concurrency", "2", "--gpus", "0.5", "--address", "here:1"),
    )
    assert request.ensembles == {"log10_bulk": str(folder / "K")}
    assert request.criterion["name"] == "stiff"
    assert request.criterion_path == "stiff.yaml"
    assert (request.shard_size, request.concurrency) == (7, 2)
    assert (request.gpus, request.address) == (0.5, "here:1")


@pytest.mark.usefixtures("folder")
def test_known_values_are_left_out_of_the_criterion(monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(monkeypatch, *BOTH, *THESE, "--ignore-known")
    content = dict(read_criterion("lithium_metal").content)
    assert content.pop("known")
    assert request.criterion == content
    assert not request.checked_criterion().known


def test_ensembles_come_from_three_options() -> None:
    found = collect_ensembles(["gap=a=b"], bulk=Path("/k"), shear=Path("/g"))
    assert found == {"bulk": "/k", "shear": "/g", "gap": str(Path("a=b").absolute())}
    with pytest.raises(ConfigError, match="the ensemble for 'bulk' is given twice"):
        collect_ensembles(["bulk=here"], bulk=Path("/k"), shear=None)


# --- what is refused, before a Ray is started ----------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_swapped_ensembles(capsys: pytest.CaptureFixture[str]) -> None:
    path = read_criterion("lithium_metal").path
    assert refused(capsys, "--bulk", "G", "--shear", "K", *THESE) == (
        f"error: criterion lithium_metal ({path}): the ensembles for 'bulk' and 'shear' are"
        f" swapped: 'bulk' was given one that learned {SHEAR}, 'shear' one that learned {BULK};"
        " exchange them"
    )


def test_same_ensemble_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "--bulk", "K", "--shear", "K", *THESE)
    assert f"'shear' needs an ensemble that learned {SHEAR}, the one given learned {BULK}" in line
    assert folder.exists()


def test_incomplete_ensemble(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ensemble(folder / "three", BULK, numbers=(0, 1, 2), planned=100, finished=False)
    line = refused(capsys, "--bulk", "three", "--shear", "G", *THESE)
    assert line.endswith(
        "/three: the ensemble is not complete, it has 3 members so far; continue it with"
        f" `raymat resume {folder / 'three'}`"
    )


def test_ensemble_that_lost_most_members(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ensemble(folder / "lost", BULK, numbers=(0, 1, 2), planned=100)
    line = refused(capsys, "--bulk", "lost", "--shear", "G", *THESE)
    assert "only 3 of 100 members could be trained" in line


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--bulk K --shear G", "missing option '--candidates'"),
        ("--bulk K CANDIDATES", f"--shear is needed: an ensemble that learned {SHEAR}"),
        ("--bulk K --shear G CANDIDATES --ensemble gap=K", "has no prediction 'gap'"),
        ("--bulk K --shear G CANDIDATES --ensemble sheer=K", "'sheer'; did you mean 'shear'?"),
        ("--bulk K --shear G CANDIDATES --ensemble K", "--ensemble K: expected NAME=DIR"),
        ("--bulk K --shear G CANDIDATES --ensemble bulk=K", "for 'bulk' is given twice"),
        ("--criterion stiff.yaml CANDIDATES", "--ensemble log10_bulk= is needed: an ensemble that"),
        ("--bulk K --shear G CANDIDATES --criterion lithium_metall", "did you mean 'lithium_metal"),
        ("--bulk nowhere --shear G CANDIDATES", "nowhere: no such folder; expected the run direc"),
        ("--bulk . --shear G CANDIDATES", "not an ensemble; expected the run directory of `raymat"),
        ("--bulk K --shear G --candidates nowhere.parquet", "nowhere.parquet"),
        ("--bulk K --shear G CANDIDATES --shard-size 0", "'--shard-size': must be at least 1"),
        ("--bulk K --shear G CANDIDATES --gpus -1", "'--gpus': must be at least 0"),
        ("--bulk K --shear G CANDIDATES --known", "no such option: --known"),
    ],
)
def test_nonsense(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    typed = options.replace("CANDIDATES", " ".join(THESE)).split()
    assert message.lower() in refused(capsys, *typed).lower()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"passes": {"p_stiff": "log10_bulc > 0.9"}},
            "bad.yaml: passes: p_stiff: unknown name 'log10_bulc' at character 1; did you mean",
        ),
        ({"exclude": {"odd": "colour > 1"}}, "bad.yaml: exclude: odd: unknown name 'colour'"),
        ({"rank": {"by": "p_stif"}}, "'p_stif' is not a column of the table; did you mean 'p_stif"),
        ({"passes": {"p_stiff": "open('x')"}}, "bad.yaml: passes: p_stiff: "),
        ({"passes": {"p_stiff": "log10_bulk.real > 1"}}, "bad.yaml: passes: p_stiff: "),
        ({"pases": {}}, "did you mean 'passes'?"),
    ],
)
def test_criterion_that_cannot_be_used(
    changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.yaml").write_text(yaml.safe_dump({**STIFF, **changes}), encoding="utf-8")
    line = refused(capsys, "--criterion", "bad.yaml", "--ensemble", "log10_bulk=K", *THESE)
    assert message in line


@pytest.mark.usefixtures("folder")
def test_folder_of_another_run_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/precious.txt").touch()
    assert main.run(["screen", *BOTH, *THESE, "--out", "run"]) == 2
    assert "error: run: the folder exists and is not empty" in capsys.readouterr().err
    assert Path("run/precious.txt").exists()


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["screen", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Example: raymat screen --bulk runs/K --shear runs/G --candidates li.parquet" in text
    for option in ("--criterion", "--ensemble", "--ignore-known", "--shard-size", "--address"):
        assert option in text
    assert SHARED_ERRORS in text


# --- from the command line to the files ----------------------------------------------------------


@pytest.mark.long
@pytest.mark.usefixtures("folder", "one_ray")
def test_lithium_metal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["screen", *BOTH, *THESE, "--out", "run", "--shard-size", "12"]) == 0
    said = capsys.readouterr()
    out = " ".join(said.out.split())
    table = pd.read_csv("run/screening.csv")
    listed = int((table["p_s_high"] > 0.05).sum())
    assert f"lithium_metal: {listed} listed of {len(table)} ranked candidates, 8 members" in out
    assert f"6 of {len(all_candidates())} candidates excluded:" in out
    assert SHARED_ERRORS in out
    for reason in EXCLUDED.values():
        assert f" 1 {reason.split(':')[0]}" in out
    assert "2 ranked by known values, 2 outside the domain of the training crystals" in out
    assert f"and {listed - 15} more rows in screening.csv" in out
    assert (
        "files: run/ (screening.parquet, screening.csv, excluded.csv, rejected.csv, metrics.json)"
        in out
    )
    assert "46 candidates in 4 shards" in said.err
    assert "warning" not in said.err  # figures could be drawn
    assert sorted(p.name for p in Path("run").glob("*.png")) == [
        *("histograms.png", "probability_curve.png", "stability_diagram.png", "top.png"),
    ]
    assert main.run(["resume", "run"]) == 0
    assert "the run is complete, nothing is left to do" in capsys.readouterr().out


@pytest.mark.usefixtures("folder", "one_ray", "_no_pictures")
def test_known_values_ignored() -> None:
    assert main.run(["screen", *BOTH, *THESE, "--ignore-known", "--out", "run", "--quiet"]) == 0
    table = pd.read_csv("run/screening.csv").set_index("material_id")
    assert set(table["source"]) == {"ensemble"}
    assert (table.loc[list(KNOWN), "n_members"] == N_MEMBERS).all()
    assert table.loc[list(KNOWN), "p_s_high_lo"].notna().all()
    assert json.loads(Path("run/metrics.json").read_text("utf-8"))["known"] == 0


@pytest.mark.usefixtures("folder", "one_ray")
def test_one_ensemble_and_a_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--criterion", "stiff.yaml", "--ensemble", "log10_bulk=K", *THESE)
    assert main.run(["screen", *options, "--out", "run"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    table = pd.read_parquet("run/screening.parquet")
    assert list(table)[:8] == [
        *("rank", "material_id", "formula", "p_stiff", "p_stiff_lo", "p_stiff_hi"),
        *("n_members", "source"),
    ]
    members = pd.read_parquet("run/shards/000000-members.parquet").set_index("material_id")
    for row in table.to_dict("records"):
        log10_bulk = np.asarray(members.loc[row["material_id"], "log10_bulk"])
        assert row["p_stiff"] == (log10_bulk > 0.9).mean()
        assert row["p_stiff_lo"] < row["p_stiff"] < row["p_stiff_hi"] or row["p_stiff"] in (0, 1)
    assert table["p_stiff"].is_monotonic_decreasing
    assert pd.read_csv("run/excluded.csv")["material_id"].tolist() == ["metal", "open", "nowhere"]
    listed = int((table["p_stiff"] > 0.5).sum())
    assert f"stiff: {listed} listed of 43 ranked candidates" in out
    assert "no-lithium" in set(table["material_id"])
    assert sorted(p.name for p in Path("run").glob("*.png")) == [
        *("passes.png", "probability_curve.png", "top.png"),
    ]


@pytest.mark.usefixtures("one_ray")
def test_candidates_without_lithium(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    salts = [rock_salt(f"salt-{n}", 11, 17, 5.6 + 0.01 * n) for n in range(25)]
    write_candidates(folder / "salt.parquet", CrystalSet.from_crystals(salts))
    options = ("--candidates", "salt.parquet", "--shard-size", "10", "--quiet")
    assert main.run(["screen", *BOTH, *options, "--out", "run"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        "error: none of 25 candidates is left to rank: 25 contains no lithium (run: run)\n",
    )
    assert len(pd.read_csv("run/excluded.csv")) == 25


@pytest.mark.usefixtures("folder", "one_ray", "_no_pictures")
def test_interrupted_and_resumed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_one, n_left = screen_module._take_one, 2

    def interrupt(*asked: Any) -> None:
        nonlocal n_left
        take_one(*asked)
        n_left -= 1
        if n_left == 0:
            raise KeyboardInterrupt

    options = (*BOTH, *THESE, "--shard-size", "12", "--concurrency", "1", "--out", "run")
    with monkeypatch.context() as patch:
        patch.setattr(screen_module, "_take_one", interrupt)
        assert main.run(["screen", *options]) == 130
    assert "interrupted; continue with: raymat resume run" in capsys.readouterr().err
    assert main.run(["resume", "run", "--finish"]) == 2
    assert "--finish ends a search early; this is a screen run" in capsys.readouterr().err
    assert main.run(["resume", "run"]) == 0
    said = capsys.readouterr()
    assert "46 candidates in 4 shards, 2 of them done before" in said.err
    assert "4 of 4 shards, 40 candidates judged, 6 excluded" in said.err
    assert "lithium_metal: " in said.out
    ended = [
        e["shard"] for e in read_events(Path("run/events.jsonl")) if e["event"] == "shard_ended"
    ]
    assert ended == [0, 1, 2, 3]


@pytest.mark.usefixtures("folder", "one_ray", "_no_pictures")
def test_too_many_rejected_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """One of 46; the screening is not lost."""
    assert main.run(["screen", *BOTH, *THESE, "--max-rejected", "0.01", "--out", "run"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert "1 of 46 candidates cannot be used, more than --max-rejected 0.01: 1 not finite" in line
    assert "run --max-rejected 0.03`" in line
    assert main.run(["resume", "run", "--quiet"]) == 1  # the limit stays
    assert main.run(["resume", "run", "--max-rejected", "0.03"]) == 0
    said = capsys.readouterr()
    assert "1 shards, 1 of them done before" in said.err
    assert "1 of them are no usable crystals (rejected.csv)" in said.out
    assert pd.read_csv("run/rejected.csv")["material_id"].tolist() == ["nowhere"]


@pytest.mark.usefixtures("folder")
def test_limit_of_rejected_rows_is_for_screenings(capsys: pytest.CaptureFixture[str]) -> None:
    write_ensemble(Path("other"), BULK, numbers=(0, 1), finished=False)
    header = json.loads(Path("other/run.json").read_text("utf-8"))
    Path("other/run.json").write_text(json.dumps({**header, "status": "failed"}), "utf-8")
    assert main.run(["resume", "other", "--max-rejected", "0.5"]) == 2
    assert "--max-rejected is for a screening; this is a ensemble" in capsys.readouterr().err


# --- what it says --------------------------------------------------------------------------------


def test_few_reasons_are_listed() -> None:
    metrics = {
        "candidates": 12_345,
        "excluded": 2_000,
        "rejected": 31,
        "known": 7,
        "outside_domain": 1_234,
        "reasons": {f"reason {n}": 400 - n for n in range(8)},
    }
    lines = say_counts(metrics)
    assert lines[0] == "2,000 of 12,345 candidates excluded:"
    assert lines[1] == "  400  reason 0"
    assert lines[7] == "  and 2 other reasons in excluded.csv"
    assert lines[8] == "31 of them are no usable crystals (rejected.csv)"
    assert lines[9].startswith("7 ranked by known values, 1,234 outside the domain")
    assert (
        say_counts({**metrics, "excluded": 0, "rejected": 0, "reasons": {}})[0]
        == "no candidate was excluded"
    )


@pytest.mark.parametrize(
    ("list_if", "n_listed", "expected"),
    [
        ("p_stiff > 0.5", 0, "No candidate is listed (list_if: p_stiff > 0.5); all ranked are in"),
        (None, 25, "stiff: 25 listed of 25 ranked candidates, 8 members"),
    ],
)
def test_a_ranking_in_which_nothing_passes_is_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], list_if: str, n_listed: int, expected: str
) -> None:
    asked = {"criterion": {**STIFF, "list_if": list_if}, "criterion_path": "stiff.yaml"}
    header = {"command": "screen", "arguments": asked}
    (tmp_path / "run.json").write_text(json.dumps(header), encoding="utf-8")
    ids = [f"mp-{k}" for k in range(25)]
    rows = pd.DataFrame({"rank": 1, "material_id": ids, "formula": "X", "p_stiff": 0.0})
    rows.assign(source="ensemble").to_parquet(tmp_path / "screening.parquet")
    metrics = {
        "criterion": "stiff",
        "n_members": 8,
        "candidates": 25,
        "ranked": 25,
        "listed": n_listed,
        "known": 0,
        "outside_domain": 0,
        "excluded": 0,
        "rejected": 0,
        "reasons": {},
        "passing": {"p_stiff": 0},
        "ranking": {"by": "p_stiff", "first": 25, "distinct": 1, "unknown": 0},
    }
    show_screening(metrics, tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert expected in said
    assert "No candidate passes: p_stiff is 0 for all 25 ranked." in said
    assert "All 25 share rank 1 (equal p_stiff): they are listed by id, not ranked." in said
    assert "mp-0" not in said


def test_cells_of_the_table() -> None:
    listed = pd.DataFrame(
        {
            "rank": [1, 2],
            "material_id": ["mp-1", "mp-2"],
            "formula": ["LiX", "LiY"],
            "lambda_crit_nm": [np.inf, 12.345],
            "lambda_crit_nm_std": [np.nan, 3.21],
            "p_s_high": [1.0, 0.8333],
            "p_s_high_lo": [np.nan, 0.74],
            "p_s_high_hi": [np.nan, 0.891],
            "source": ["dft", "ensemble"],
        }
    )
    shown = candidate_table(listed, "title", n_listed=20)
    cells = [list(column.cells) for column in shown.columns]
    assert [str(column.header) for column in shown.columns][3:5] == ["λ crit (nm)", "P_s, high k"]
    assert cells[3:5] == [["∞", "12.3 ± 3.2"], ["1", "0.83 (0.74 to 0.89)"]]
    assert cells[-1] == ["dft", "ensemble"]
    assert shown.caption == "and 5 more rows in screening.csv"
