"""The page of an explanation run, of one property or of a series of them."""

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from raymat.errors import RunError, one_line
from raymat.explain.generate import SURE
from raymat.explain.scores import FEWEST_RIGHT
from raymat.features.coarse_graphs import LABEL_KINDS, LabelKind
from raymat.reports.page.explanation_charts import edge_chart, label_chart
from raymat.reports.page.explanation_findings import Findings, read_findings
from raymat.reports.page.failing_parts import parts_or_note
from raymat.reports.page.parts import Note, Part, Picture, Section, Table
from raymat.reports.page.pictures import MOST_BYTES
from raymat.reports.page.run_files import DAMAGE, RunFiles
from raymat.tracking.run_directory import safe_name

# Figures of the run that the charts of this page say again, or that stand beside these.
REPLACED = frozenset(
    f"{name}-{labels}" for name in ("labels", "edges", "motifs") for labels in LABEL_KINDS
)
MOST_GRAPHS = 4_000  # in the list of a page
MOST_MOTIF_BYTES = 1_000_000  # of all motif pictures of a page: it must stay small


def sections(run: RunFiles) -> list[Section]:
    """Give the sections of an explanation run.

    Raises:
        RunError: its log cannot be read.
    """
    targets = _targets_of_series(run)
    if targets:
        return _of_series(run, targets)
    found = read_findings(run)
    return [
        Section("Classifiers", _classifier_parts([found])),
        Section("Explanations", [*_count_parts([found]), *_guarded(found, MOST_MOTIF_BYTES)]),
        *_joined([found]),
    ]


def _targets_of_series(run: RunFiles) -> list[str]:
    asked = (run.header.get("arguments") or {}).get("properties") or ()
    return list(dict.fromkeys(str(own.get("target")) for own in asked))


def _of_series(run: RunFiles, targets: Sequence[str]) -> list[Section]:
    """Give the joined tables, and a section with the charts of each property."""
    found, notes = list[Findings](), list[Note]()
    for target in targets:
        folder = run.path / safe_name(target)
        if not (folder / "run.json").is_file():
            notes.append(Note(f"{target} has not begun, or its folder {folder.name} is gone."))
            continue
        try:
            found.append(read_findings(RunFiles.open(folder)))
        except (RunError, *DAMAGE) as error:
            reason = one_line(error)
            notes.append(Note(f"{target} cannot be shown: {reason}", is_warning=True))
    left_out = _left_out(run)
    overview = Section("Properties", [*notes, *left_out, *_overview(run, found)])
    if not found:
        return [overview]
    each = MOST_MOTIF_BYTES // len(found)
    return [
        overview,
        Section("Classifiers", _classifier_parts(found)),
        Section("Explanations", _count_parts(found)),
        *(Section(own.say_classes(), _guarded(own, each)) for own in found),
        *_joined(found),
    ]


def _left_out(run: RunFiles) -> list[Note]:
    try:
        reasons = run.json("metrics.json").get("left_out") or {}
    except RunError as error:
        return [Note(f"{error}.", is_warning=True)]
    return [Note(f"{name} is left out: {why}", is_warning=True) for name, why in reasons.items()]


def _overview(run: RunFiles, found: Sequence[Findings]) -> list[Part]:
    if not found:
        return []
    rows = [
        {
            "property": own.target,
            "status": own.run.header.get("status"),
            "explanations": int(own.counts["found"].sum()) if "found" in own.counts else 0,
            "classes": own.say_classes().partition(": ")[2],
            "folder": own.run.path.name,
        }
        for own in found
    ]
    caption = (
        f"Each folder, in {run.path}, is a whole run: `raymat report` makes a page of it alone."
    )
    return [Table("Runs of the series", pd.DataFrame(rows), caption)]


# --- classifiers ---------------------------------------------------------------------------------


def _classifier_parts(found: Sequence[Findings]) -> list[Part]:
    notes = [note for own in found for note in _named(own, len(found) > 1)]
    scores = _join(found, "classifiers")
    if scores.empty:
        return [*notes, Note("No classifier is trained yet.")]
    parts: list[Part] = [*notes, Table("Scores of the classifiers", scores, _score_caption(scores))]
    agreement = _join(found, "agreement")
    if not agreement.empty:
        caption = (
            "Spearman's rank correlation between the explanations of two classifiers that differ in"
            " their seed only: how often each label, and each pair of joined labels, occurs."
        )
        parts.append(Table("Agreement between classifiers", agreement, caption))
    return parts


def _named(own: Findings, several: bool) -> Iterator[Note]:
    for note in own.notes:
        yield Note(f"{own.target}: {note.text}" if several else note.text, note.is_warning)


def _score_caption(scores: pd.DataFrame) -> str:
    if "AUC" not in scores:
        return "Validation scores; the test rows are scored once, when all classifiers are trained."
    text = (
        "Of the test rows, scored once. The coarse classifiers, which the explanations are of, see"
        " groups or periods instead of elements. AUC from and to: 95 % interval (bootstrap). A"
        f" classifier that is right on fewer than {FEWEST_RIGHT:.0%} of the rows, mean of both"
        " classes, says little about the property."
    )
    agrees = " agrees with full: share of the test rows where the full model says the same class."
    return f"{text}{agrees if 'agrees with full' in scores else ''}"


# --- explanations --------------------------------------------------------------------------------


def _count_parts(found: Sequence[Findings]) -> list[Part]:
    classes = [Note(f"{own.say_classes()}.") for own in found] if len(found) == 1 else []
    counts = _join(found, "counts")
    if counts.empty:
        return [*classes, Note("No explanation is asked for yet.")]
    caption = (
        "asked: graphs to grow for each classifier and class. attempts: policies trained for them"
        f" in all. A graph counts when the classifier is sure, p above {SURE:g}; given up are those"
        " for which no attempt led there, and best rejected p is the surest graph of a policy"
        " without one."
    )
    agrees = (
        " full model agrees: share of the graphs, their blanks filled in with elements, that the"
        " full model puts into the class."
    )
    full = agrees if "full model agrees" in counts else ""
    return [*classes, Table("How many were found", counts, f"{caption}{full}")]


def _guarded(found: Findings, most_bytes: int) -> list[Part]:
    return parts_or_note(partial(_pictured, found, most_bytes))


def _pictured(found: Findings, most_bytes: int) -> Iterator[Part]:
    """Give charts of every labelling that has explanations, and the graphs met most often."""
    for labels in LABEL_KINDS:
        if labels not in found.labels:
            continue
        if found.summary.empty or not _n_nodes(found, labels):
            yield Note(f"There is no explanation by {labels} yet." if _is_open(found) else
                       f"No explanation by {labels} was found.")  # fmt: skip
            continue
        yield label_chart(found, labels)
        yield edge_chart(found, labels)
        file = found.run.path / f"motifs-{labels}.svg"
        if not file.is_file():
            continue
        if file.stat().st_size > min(most_bytes // len(found.labels), MOST_BYTES):
            yield Note(f"The graphs met most often: {file} (too large for this page).")
            continue
        caption = (
            f"Nodes are {labels}s. Over a graph: how many explanations of its class have edges"
            " between just these labels."
        )
        yield Picture(f"Most frequent graphs of {labels}s", file, caption)


def _n_nodes(found: Findings, labels: LabelKind) -> int:
    table = found.summary
    is_own = (table["labels"] == labels) & (table["kind"] == "node")
    return int(table.loc[is_own, "count"].sum())


def _is_open(found: Findings) -> bool:
    return found.run.header.get("status") != "complete"


# --- joined lists --------------------------------------------------------------------------------


def _joined(found: Sequence[Findings]) -> Iterator[Section]:
    trends = _join(found, "trends")
    if not trends.empty:
        yield Section("Published trends", parts_or_note(partial(_trend_parts, trends)))
    graphs = pd.concat([own.graphs for own in found], ignore_index=True)
    if graphs.empty:
        return
    more = len(graphs) - MOST_GRAPHS
    caption = (
        "edges by labels: 1-17 x2 are two edges between labels 1 and 17. The seed, with classifier"
        " and class, gives the graph again."
    )
    rest = f" {more:,} more are in explanations.jsonl." if more > 0 else ""
    table = Table("All explanations", graphs.head(MOST_GRAPHS), f"{caption}{rest}")
    yield Section("List of explanations", [table])


def _trend_parts(trends: pd.DataFrame) -> Iterator[Part]:
    told = trends["verdict"].value_counts()
    words = ("found", "weak", "not found", "untested")
    counted = ", ".join(f"{told[word]} {word}" for word in words if word in told)
    yield Note(f"Of {len(trends)} published trends: {counted}.")
    names = {
        "count": "here",
        "total": "of all here",
        "other_count": "other class",
        "other_total": "of all there",
        "training_ratio": "ratio in crystals",
        "p_value": "p",
    }
    caption = (
        "A trend names labels, or edges, that one class favours. ratio: their share in that class"
        " over the share in the other, empty where the other has none. found: clearly larger (p"
        " of a permutation test); weak: larger, perhaps by chance; untested: a class has too few"
        " graphs."
    )
    yield Table("Trends", trends.rename(columns=names), caption)


def _join(found: Sequence[Findings], table: str) -> pd.DataFrame:
    """Join one table of all properties; several are told apart by a first column."""
    tables = [
        getattr(own, table).assign(property=own.target)
        for own in found
        if not getattr(own, table).empty
    ]
    if not tables:
        return pd.DataFrame()
    joined: pd.DataFrame = pd.concat(tables, ignore_index=True)
    names = [name for name in joined if name != "property"]
    return joined.reindex(columns=["property", *names] if len(found) > 1 else names)
