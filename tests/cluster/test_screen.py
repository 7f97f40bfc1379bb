"""Screenings on one real local Ray: everybody once, the same numbers whatever happens meanwhile."""

import json
import platform
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_screening import (
    BULK,
    EXCLUDED,
    KNOWN,
    N_MEMBERS,
    SHEAR,
    Study,
    all_candidates,
    assert_same_ranking,
    plain_crystals,
    rank,
    write_candidates,
    write_ensemble,
    write_study,
)
from pymatgen.core import Structure

from raymat.cluster import screen as screen_module
from raymat.cluster.connect import ray_session
from raymat.cluster.screen import ScreenRequest, resume_screen, screen, screen_task
from raymat.data.crystals import CrystalSet
from raymat.data.shards import Shard, iter_shards
from raymat.errors import ClusterError, ConfigError, DataError, ModelFileError, RunError
from raymat.screening.criterion import read_criterion
from raymat.screening.paired_ensembles import find_fingerprint, load_ensembles
from raymat.screening.shard import screen_shard
from raymat.screening.shard_files import MEMBERS, SHARDS, TABLE, StoredShards, shard_path
from raymat.tracking.events import Event, read_events

N_CANDIDATES = len(all_candidates())  # 46
SHARD_SIZE = 10  # of the study's request: 5 shards


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """Ensembles and candidates, with one Ray for all runs of this file."""
    folder = tmp_path_factory.mktemp("screen")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMAT_CACHE", str(folder / "cache"))
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # another cluster is none of its business
        made = write_study(folder)
        with ray_session(None):
            patch.setattr(screen_module, "ray_session", lambda _address: nullcontext())
            yield made


@dataclass
class Run:
    """A run and what was heard of it."""

    path: Path
    metrics: dict[str, Any]
    heard: list[Event]

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.path / "screening.parquet")

    @property
    def excluded(self) -> dict[str, str]:
        return dict(pd.read_csv(self.path / "excluded.csv").set_index("material_id")["reason"])


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def member_table(path: Path) -> pd.DataFrame:
    shards = StoredShards.of(path, read_events(path / "events.jsonl"))
    return pd.concat(shards.read(MEMBERS), ignore_index=True)


def ended_shards(path: Path) -> list[int]:
    return [event["shard"] for event in of_kind(read_events(path / "events.jsonl"), "shard_ended")]


def run_screen(study: Study, name: str, **changes: Any) -> Run:
    heard: list[Event] = []
    path = study.folder / name
    metrics = screen(study.request(**changes), path, listeners=(heard.append,))
    return Run(path, metrics, heard)


@pytest.fixture(scope="module")
def run(study: Study) -> Run:
    """The screening that others are compared with: five shards, two at a time."""
    return run_screen(study, "run", concurrency=2)


# --- one whole run -------------------------------------------------------------------------------


def test_run_directory_holds_the_contract_and_nothing_else(run: Run) -> None:
    assert sorted(p.name for p in run.path.iterdir()) == [
        *(".lock", "events.jsonl", "excluded.csv", "metrics.json", "probability_curve.csv"),
        *("rejected.csv", "run.json", "screening.csv", "screening.parquet", "shards"),
    ]
    assert sorted(p.name for p in (run.path / SHARDS).iterdir()) == [
        f"{number:06d}-{kind}.parquet"
        for number in range(5)
        for kind in ("excluded", "members", "table")
    ]
    header = json.loads((run.path / "run.json").read_text("utf-8"))
    assert (header["command"], header["status"]) == ("screen", "complete")
    assert (header["n_members"], header["data"]["n_rows"]) == (N_MEMBERS, N_CANDIDATES)
    assert ScreenRequest.model_validate(header["arguments"]).shard_size == SHARD_SIZE
    assert json.loads((run.path / "metrics.json").read_text("utf-8")) == run.metrics


def test_everybody_is_ranked_or_excluded_once(run: Run) -> None:
    ranked = run.table["material_id"]
    assert sorted([*ranked, *run.excluded]) == sorted(all_candidates().material_ids)
    assert run.excluded == EXCLUDED
    assert len(pd.read_csv(run.path / "excluded.csv")) == len(EXCLUDED)
    assert run.metrics["candidates"] == N_CANDIDATES
    assert run.metrics["reasons"] == {told.split(":")[0]: 1 for told in EXCLUDED.values()}


def test_ranking_is_that_of_all_candidates_at_once_without_ray(study: Study, run: Run) -> None:
    (shard,) = iter_shards(str(study.candidates), size=1000)
    criterion = read_criterion("lithium_metal")
    cache = study.folder / "cache"
    whole = screen_shard(shard.crystals, criterion, study.ensembles, cache=cache)
    assert_same_ranking(run.table, rank(whole.table, criterion))
    found = member_table(run.path)
    assert found["material_id"].tolist() == whole.members["material_id"].tolist()


def test_shards_are_counted_once(run: Run) -> None:
    ended = of_kind(run.heard, "shard_ended")
    assert sorted(event["shard"] for event in ended) == list(range(5))
    assert sum(event["judged"] for event in ended) == run.metrics["ranked"] == len(run.table)
    assert sum(event["excluded"] for event in ended) == run.metrics["excluded"]
    (started,) = of_kind(run.heard, "screening_started")
    assert (started["shards"], started["done"], started["candidates"]) == (5, 0, N_CANDIDATES)
    assert not of_kind(run.heard, "warning")


def test_deviation_of_the_probabilities_falls_with_the_members(run: Run) -> None:
    curve = pd.read_csv(run.path / "probability_curve.csv")
    assert curve["n_members"].tolist() == [2, 3, 5, 7]
    for name in ("p_s_low_deviation", "p_s_high_deviation"):
        assert curve[name].is_monotonic_decreasing
        assert curve[name].iloc[-1] > 0


# --- the same ranking, whatever else happens -----------------------------------------------------


@pytest.mark.parametrize("size", [3, 1000])
def test_size_of_the_shards_changes_no_number(study: Study, run: Run, size: int) -> None:
    other = run_screen(study, f"size-{size}", shard_size=size)
    assert len(ended_shards(other.path)) == -(-N_CANDIDATES // size)
    assert_same_ranking(other.table, run.table)
    assert other.excluded == run.excluded
    assert other.metrics == run.metrics
    curves = [pd.read_csv(r.path / "probability_curve.csv") for r in (other, run)]
    pd.testing.assert_frame_equal(*curves)


class InterruptAfter:
    """A listener that presses Ctrl-C when some shards have ended."""

    def __init__(self, n_shards: int) -> None:
        self.left = n_shards

    def __call__(self, event: Event) -> None:
        self.left -= event["event"] == "shard_ended"
        if self.left == 0:
            raise KeyboardInterrupt


def test_interrupted_screening_ends_like_an_uninterrupted_one(study: Study, run: Run) -> None:
    path = study.folder / "interrupted"
    request = study.request(concurrency=1)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        screen(request, path, listeners=(InterruptAfter(2),))
    assert ended_shards(path) == [0, 1]
    files = [path / SHARDS / f"{number:06d}-table.parquet" for number in (0, 1)]
    before = [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]
    heard: list[Event] = []
    again = Run(path, resume_screen(path, listeners=(heard.append,)), heard)
    (start,) = of_kind(heard, "screening_started")
    assert (start["shards"], start["done"]) == (5, 2)
    assert ended_shards(path) == [0, 1, 2, 3, 4]
    assert [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files] == before
    pd.testing.assert_frame_equal(again.table, run.table, check_exact=True)
    for name in ("screening.csv", "excluded.csv", "metrics.json", "probability_curve.csv"):
        assert (path / name).read_bytes() == (run.path / name).read_bytes(), name


def test_screened_run_has_only_to_be_ranked(study: Study, run: Run) -> None:
    """Killed after its last shard; nothing is screened again."""
    path = study.folder / "ranked"
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        screen(study.request(), path, listeners=(InterruptAfter(5),))
    assert resume_screen(path) == run.metrics
    assert sorted(ended_shards(path)) == [0, 1, 2, 3, 4]
    pd.testing.assert_frame_equal(
        pd.read_parquet(path / "screening.parquet"), run.table, check_exact=True
    )


def test_candidates_that_changed_meanwhile(study: Study) -> None:
    path, file = study.folder / "changed", study.folder / "changed.parquet"
    write_candidates(file)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        screen(study.request(candidates=str(file)), path, listeners=(InterruptAfter(1),))
    write_candidates(file, CrystalSet.from_crystals(plain_crystals()))
    with pytest.raises(RunError, match=r"the candidates have changed since the run began \(SHA"):
        resume_screen(path)


def interrupted(study: Study, name: str, **changes: Any) -> Path:
    """Give a run of five shards of which one is done."""
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        screen(
            study.request(concurrency=1, **changes),
            study.folder / name,
            listeners=(InterruptAfter(1),),
        )
    return study.folder / name


def test_ensemble_that_changed_meanwhile(study: Study, tmp_path: Path) -> None:
    """Shards of two ensembles are not ranked together."""
    folder = write_ensemble(tmp_path / "mine", BULK)
    path = interrupted(study, "mixed", ensembles={**study.folders, "bulk": str(folder)})
    before = find_fingerprint(folder)
    write_ensemble(tmp_path / "other", BULK, numbers=(10, 11))
    for name in ("model.safetensors", "model.json"):
        other = tmp_path / "other/members/0010" / name
        (folder / "members/0003" / name).write_bytes(other.read_bytes())
    assert find_fingerprint(folder) != before
    match = r"mine \('bulk'\): the ensemble has changed since the run began \(SHA-256 .*new run$"
    with pytest.raises(RunError, match=match):
        resume_screen(path)


def test_fingerprint_is_of_what_predicts(tmp_path: Path) -> None:
    folder = write_ensemble(tmp_path / "one", BULK, numbers=(0, 1))
    (folder / "learned.parquet").touch()
    before = find_fingerprint(folder)
    (folder / "members/0000/outputs.npz").touch()
    (folder / "note.txt").touch()
    (folder / "run.json").write_text("{}", encoding="utf-8")
    assert find_fingerprint(folder) == before
    for name in ("ensemble.json", "domain.npz", "learned.parquet", "members/0001/model.json"):
        file = folder / name
        kept = file.read_bytes()
        file.write_bytes(kept + b" ")
        assert find_fingerprint(folder) != before, name
        file.write_bytes(kept)


def test_host_that_sees_another_folder(study: Study, tmp_path: Path) -> None:
    (shard,) = iter_shards(str(study.candidates), size=1000)
    known = {name: find_fingerprint(Path(folder)) for name, folder in study.folders.items()}

    def ask(**changes: tuple[str, str]) -> dict[str, Any]:
        where = {name: (folder, known[name]) for name, folder in study.folders.items()}
        return ask_task(shard, {**where, **changes}, tmp_path)

    gone = str(tmp_path / "gone")
    host = platform.node()
    with pytest.raises(RunError, match=rf"gone \('bulk'\): .* is not seen on {host} .*all hosts"):
        ask(bulk=(gone, known["bulk"]))
    with pytest.raises(RunError, match=rf"G \('bulk'\): .* is not the same on {host} as"):
        ask(bulk=(study.folders["shear"], known["bulk"]))
    assert ask()["judged"] > 0


def ask_task(shard: Shard, ensembles: dict[str, tuple[str, str]], folder: Path) -> dict[str, Any]:
    criterion = dict(read_criterion("lithium_metal").content)
    return screen_task(shard, criterion, "lithium.yaml", ensembles, folder=folder, n_cpus=1)


def test_shard_whose_files_are_damaged_is_screened_again(study: Study, run: Run) -> None:
    path = interrupted(study, "damaged")
    shard_path(path, 0, TABLE).write_bytes(b"PAR1")
    heard: list[Event] = []
    assert resume_screen(path, listeners=(heard.append,)) == run.metrics
    (warning,) = of_kind(heard, "warning")
    assert warning["text"].startswith("shard 0 is screened again: ")
    assert of_kind(heard, "screening_started")[0]["done"] == 0
    table = pd.read_parquet(path / "screening.parquet")
    pd.testing.assert_frame_equal(table, run.table, check_exact=True)


def test_limit_of_rejected_rows(study: Study, run: Run) -> None:
    """The shards are kept: with another limit the run has only to be ranked."""
    path = study.folder / "strict"
    with pytest.raises(DataError, match=r"1 of 46 .* --max-rejected 0: 1 not finite; fix them"):
        screen(study.request(max_rejected=0.0), path)
    assert not (path / "screening.csv").exists()
    assert resume_screen(path, max_rejected=0.5) == run.metrics
    assert sorted(ended_shards(path)) == [0, 1, 2, 3, 4]
    rejected = pd.read_csv(path / "rejected.csv")
    assert rejected.to_dict("records") == [
        {"material_id": "nowhere", "reason": EXCLUDED["nowhere"]}
    ]


def test_another_kind_of_run_is_not_continued(study: Study, tmp_path: Path) -> None:
    write_ensemble(tmp_path / "other", BULK, numbers=(0, 1))
    with pytest.raises(RunError, match="other: a ensemble run, not a screen run"):
        resume_screen(tmp_path / "other")
    assert study.folder.exists()


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_shards_are_held_than_can_run_and_one(
    study: Study, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of any number of candidates is read no faster than it is screened."""
    alive, most = 0, 0

    def read(*args: Any, **kwargs: Any) -> Iterator[Any]:
        nonlocal alive, most
        for shard in iter_shards(*args, **kwargs):
            alive += 1
            most = max(most, alive)
            yield shard

    def hear(event: Event) -> None:
        nonlocal alive
        alive -= event["event"] == "shard_ended"

    monkeypatch.setattr(screen_module, "iter_shards", read)
    request = study.request(shard_size=4, concurrency=at_once)
    screen(request, study.folder / f"held-{at_once}", listeners=(hear,))
    assert (alive, most) == (0, at_once + 1)


# --- ensembles that do not fit -------------------------------------------------------------------


def test_members_are_paired_by_number(study: Study, run: Run) -> None:
    """Each ensemble lost another member; the first three of what is left are not a pair."""
    kept = {"bulk": (0, 1, 2, 4, 5, 6, 7), "shear": (0, 1, 2, 3, 4, 6, 7)}
    targets = {"bulk": BULK, "shear": SHEAR}
    folders = {
        name: str(write_ensemble(study.folder / f"{name}-7", targets[name], numbers=numbers))
        for name, numbers in kept.items()
    }
    found = run_screen(study, "paired", ensembles=folders)
    assert found.metrics["n_members"] == 6
    (warning,) = of_kind(found.heard, "warning")
    assert warning["text"].startswith("6 of 8 members are paired")
    common = [0, 1, 2, 4, 6, 7]
    members = [member_table(r.path) for r in (found, run)]
    for name in ("bulk", "shear"):
        few, every = (np.stack(table[name].to_list()) for table in members)
        np.testing.assert_array_equal(few, every[:, common])


def test_members_without_weight_take_no_part(study: Study, tmp_path: Path) -> None:
    shares = [0.25, 0.0, 0.5, 0.0, 0.0, 0.25, 0.0, 0.0]
    folder = write_ensemble(tmp_path / "greedy", SHEAR, weights=shares)
    found = load_ensembles({**study.folders, "shear": str(folder)})
    assert {name: ensemble.numbers for name, ensemble in found.items()} == {
        "bulk": (0, 2, 5),
        "shear": (0, 2, 5),
    }
    assert found["shear"].weights.tolist() == [0.25, 0.5, 0.25]
    assert found["bulk"].weights == pytest.approx([1 / 3] * 3)
    alone = write_ensemble(tmp_path / "alone", SHEAR, weights=[1.0] + 7 * [0.0])
    with pytest.raises(ConfigError, match="have 1 member numbers in common that have a weight"):
        load_ensembles({**study.folders, "shear": str(alone)})


def test_chosen_members_are_not_screened_without_most_of_their_weight(
    study: Study, tmp_path: Path
) -> None:
    shares = {BULK: [0.6, 0.2, 0.2] + 5 * [0.0], SHEAR: [0.0, 0.5, 0.4, 0.1] + 4 * [0.0]}
    bulk, shear = (
        str(write_ensemble(tmp_path / target, target, weights=weights))
        for target, weights in shares.items()
    )
    with pytest.raises(ConfigError, match=r"\('bulk'\): the 2 members that .* hold 40% of its"):
        load_ensembles({"bulk": bulk, "shear": shear})
    assert load_ensembles({**study.folders, "bulk": bulk})["bulk"].weights.max() == 0.6


def write_json(crystals: CrystalSet, path: Path) -> None:
    """Write records as a user has them, whose cells may be of any kind."""
    records = []
    for crystal, row in zip(crystals, crystals.properties.to_dict("records"), strict=True):
        structure = Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords)
        content = {"material_id": crystal.material_id, "structure": structure.as_dict(), **row}
        records.append(content)
    path.write_text(json.dumps(records, default=float), encoding="utf-8")


def refused(study: Study, error: type[Exception], match: str, **changes: Any) -> None:
    """Ask for what must be refused without a trace: the corrected command may use the folder."""
    path = study.folder / "refused"
    with pytest.raises(error, match=match):
        screen(study.request(**changes), path)
    assert not path.exists()


def test_swapped_ensembles(study: Study) -> None:
    swapped = {"bulk": study.folders["shear"], "shear": study.folders["bulk"]}
    refused(
        study, ConfigError, "the ensembles for 'bulk' and 'shear' are swapped", ensembles=swapped
    )


def test_classes_of_a_modulus(study: Study, tmp_path: Path) -> None:
    folder = write_ensemble(tmp_path / "stiff", BULK, threshold=1.9)
    match = r"'bulk' needs an ensemble that learned the number log10_K_VRH, the one given learned"
    refused(study, ConfigError, match, ensembles={**study.folders, "bulk": str(folder)})


def test_run_that_fails_in_a_shard_can_be_continued(
    study: Study, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another shard may have its files already: the folder is kept, whatever was wrong."""
    path = study.folder / "failed"

    def fail(*_: Any) -> None:
        raise RunError("no process left")

    with monkeypatch.context() as patch:
        patch.setattr(screen_module, "_take_one", fail)
        with pytest.raises(RunError, match="no process left"):
            screen(study.request(concurrency=2), path)
    assert json.loads((path / "run.json").read_text("utf-8"))["status"] == "failed"
    assert resume_screen(path) == run.metrics


def test_incomplete_ensemble(study: Study, tmp_path: Path) -> None:
    folder = write_ensemble(tmp_path / "three", BULK, numbers=(0, 1, 2), finished=False)
    match = (
        r"three: the ensemble is not complete, it has 3 members so far; continue it with `raymat"
    )
    refused(study, ModelFileError, match, ensembles={**study.folders, "bulk": str(folder)})


def test_ensemble_that_lost_most_members(study: Study, tmp_path: Path) -> None:
    folder = write_ensemble(tmp_path / "lost", BULK, numbers=(0, 1, 2), planned=100)
    match = r"lost \('bulk'\): only 3 of 100 members could be trained"
    refused(study, ConfigError, match, ensembles={**study.folders, "bulk": str(folder)})


def test_ensembles_without_common_members(study: Study, tmp_path: Path) -> None:
    folder = write_ensemble(tmp_path / "late", BULK, numbers=(7, 8, 9, 10, 11, 12, 13))
    match = "the ensembles have 1 member numbers in common"
    refused(study, ConfigError, match, ensembles={**study.folders, "bulk": str(folder)})


# --- candidates that do not fit ------------------------------------------------------------------


def test_candidates_without_lithium(study: Study, tmp_path: Path) -> None:
    """The shards are kept, as of any run that has begun: `excluded.csv` tells the reasons."""
    none = np.flatnonzero(all_candidates().material_ids == "no-lithium")
    file = write_candidates(tmp_path / "salt.parquet", all_candidates().take(none))
    with pytest.raises(
        DataError, match=r"^none of 1 candidates is left to rank: 1 contains no lithium$"
    ):
        screen(study.request(candidates=str(file)), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["status"] == "failed"
    assert len(pd.read_csv(tmp_path / "run" / "excluded.csv")) == 1


def test_text_in_a_column_that_the_criterion_reads(study: Study, tmp_path: Path) -> None:
    crystals = all_candidates()
    gaps = crystals.properties["band_gap"].astype(str)
    spoilt = replace(crystals, properties=crystals.properties.assign(band_gap="~" + gaps))
    file = write_candidates(tmp_path / "text.parquet", spoilt)
    match = r"column 'band_gap' holds '~3\.0', a number is needed, and none of the first 10 cells"
    refused(study, DataError, match, candidates=str(file))


def test_one_cell_of_text_costs_one_candidate(study: Study, run: Run, tmp_path: Path) -> None:
    """Also columns that nobody reads may hold anything."""
    crystals = all_candidates()
    gaps = crystals.properties["band_gap"].astype(object)
    row = int(np.flatnonzero(crystals.material_ids == "dft-1")[0])
    gaps.iloc[row] = "unknown"
    notes = pd.Series([n if n % 3 else f"no. {n}" for n in range(len(gaps))], dtype=object)
    file = tmp_path / "mixed.json"
    write_json(
        replace(crystals, properties=crystals.properties.assign(band_gap=gaps, note=notes)), file
    )
    found = run_screen(study, "one-cell", candidates=str(file))
    assert found.excluded["dft-1"] == "column 'band_gap' holds 'unknown', a number is needed"
    assert found.metrics["ranked"] == run.metrics["ranked"] - 1
    assert {"1", "no. 3"} <= set(found.table["note"])


def test_column_that_the_candidates_lack(study: Study) -> None:
    """Told before anything is screened, where every candidate would be excluded for it."""
    criterion = dict(read_criterion("lithium_metal").content)
    criterion["columns"] = {**criterion["columns"], "band_gaps": "eV"}
    criterion["passes"] = {**criterion["passes"], "p_wide": "chi_high < 0 and band_gaps > 1"}
    match = "it reads the column 'band_gaps', which the candidates do not have; did you mean 'band_"
    refused(study, ConfigError, match, criterion=criterion)


def test_columns_that_only_filters_read(study: Study, tmp_path: Path) -> None:
    bare = CrystalSet.from_crystals(plain_crystals())
    file = write_candidates(tmp_path / "bare.parquet", bare)
    heard: list[Event] = []
    request = study.request(candidates=str(file))
    metrics = screen(request, tmp_path / "run", listeners=(heard.append,))
    assert (metrics["ranked"], metrics["excluded"], metrics["known"]) == (len(bare), 0, 0)
    (warning,) = of_kind(heard, "warning")
    assert warning["text"] == (
        "the candidates have no band_gap, matbench_band_gap, e_above_hull, K_VRH, G_VRH; filters"
        " and known values that read them are not used"
    )


def test_gpus_that_are_not_there(study: Study) -> None:
    refused(study, ClusterError, "Ray sees no GPU here", gpus=0.5)


def test_known_rows_have_no_members(run: Run) -> None:
    rows = run.table.set_index("material_id").loc[list(KNOWN)]
    assert rows["source"].tolist() == ["dft", "dft"]
    assert rows["n_members"].tolist() == [0, 0]
    assert rows[["chi_low_std", "p_s_low_lo", "p_s_high_hi"]].isna().all(axis=None)
    assert run.metrics["known"] == 2
