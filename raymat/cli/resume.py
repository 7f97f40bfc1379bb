"""``raymat resume``: continue an interrupted run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymat.cli import options
from raymat.cli.wandb_option import Wandb, WandbOption, projecting
from raymat.errors import ConfigError, RunError

if TYPE_CHECKING:
    from raymat.cli.progress import RunProgress

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class _Wish:
    """How a run shall be continued, besides what it remembers."""

    finish: bool
    wandb: Wandb | None
    quiet: bool


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)],
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Try nothing more; score the best there is (tune runs)."),
    ] = False,
    max_rejected: options.MaxRejected = None,
    address: options.Address = None,
    concurrency: options.Concurrency = None,
    wandb: WandbOption = None,
    quiet: options.Quiet = False,
    _debug: options.Debug = False,
) -> None:
    """Continue an interrupted or failed run; nothing that is finished is done again.

    It goes on where it ran before, on this machine or the cluster of its --address, unless another
    one is named (--address local for this machine). A cluster that you have never named on this
    machine has to be named: whoever is behind an address receives your token.

    With --finish a search ends early: the best trial so far is the winner. With --max-rejected a
    screening that ended with too many unusable rows is ranked without them.

    Example: raymat resume runs/tune-cgcnn-20250301-101500
    """
    from raymat.tracking.events import reading_log
    from raymat.tracking.run_directory import amend_arguments, read_header

    header = read_header(run)
    command = str(header.get("command"))
    if header.get("status") == "complete":
        if command in _SHOW_AGAIN:
            with reading_log(f"{run}: the results"):
                _SHOW_AGAIN[command](run, header)
        typer.echo(f"{run}: the run is complete, nothing is left to do")
        return
    if finish and command != "tune":
        raise ConfigError(f"{run}: --finish ends a search early; this is a {command} run")
    if max_rejected is not None:
        if command != "screen":
            raise ConfigError(f"{run}: --max-rejected is for a screening; this is a {command} run")
        header["arguments"]["max_rejected"] = max_rejected
    if command not in _CONTINUE:
        raise RunError(f"{run}: a run of `raymat {command}` cannot be continued by this version")
    changes = {"address": address, "concurrency": concurrency}
    changes = {key: value for key, value in changes.items() if value is not None}
    if address is not None:  # a slip of the pen must not be what the run remembers
        from raymat.cluster.connect import check_answers
        from raymat.tracking.known_addresses import remember_address

        check_answers(address)
        remember_address(address)
    if changes:
        amend_arguments(run, changes)
    _CONTINUE[command](run, header, _Wish(finish, wandb, quiet))


def _progress(run: Path, command: str, *, quiet: bool) -> "RunProgress":
    from raymat.cli.progress import RunProgress
    from raymat.tracking.events import read_events

    progress = RunProgress(f"{command} (resumed)", quiet=quiet)
    progress.state.replay(read_events(run / "events.jsonl"))
    return progress


def _continue_tune(run: Path, header: dict[str, Any], wish: _Wish) -> None:
    from raymat.cli.results import show_tune_result
    from raymat.cli.runs import running
    from raymat.cli.tune import draw_study, next_steps

    progress = _progress(run, "tune", quiet=wish.quiet)
    with projecting(run, wish.wandb) as listeners:
        with running(run, progress):
            from raymat.cluster.tune import resume_tune

            metrics = resume_tune(run, finish_now=wish.finish, listeners=(progress, *listeners))
        draw_study(run)
        asked = header["arguments"]
        steps = next_steps(run, Path(asked["space_path"]).stem, asked["data"])
        show_tune_result(metrics, run, next_steps=steps)


def _continue_train(run: Path, header: dict[str, Any], wish: _Wish) -> None:
    del header
    from raymat.cli.results import show_train_result
    from raymat.cli.runs import running

    progress = _progress(run, "train", quiet=wish.quiet)
    with projecting(run, wish.wandb) as listeners:
        with running(run, progress):
            from raymat.tuning.train import resume_train

            metrics = resume_train(run, listeners=(progress, *listeners))
        show_train_result(metrics, run)


def _continue_ensemble(run: Path, header: dict[str, Any], wish: _Wish) -> None:
    del header
    from raymat.cli.ensemble import show_result
    from raymat.cli.ensemble_progress import EnsembleProgress
    from raymat.cli.runs import running

    progress = EnsembleProgress(quiet=wish.quiet)
    with projecting(run, wish.wandb) as listeners:
        with running(run, progress):
            from raymat.cluster.ensemble import resume_ensemble

            metrics = resume_ensemble(run, listeners=(progress, *listeners))
        show_result(metrics, run)


def _continue_screen(run: Path, header: dict[str, Any], wish: _Wish) -> None:
    from raymat.cli.runs import running
    from raymat.cli.screen import show_result
    from raymat.cli.screen_progress import ScreenProgress

    progress = ScreenProgress(quiet=wish.quiet)
    with projecting(run, wish.wandb) as listeners:
        with running(run, progress):
            from raymat.cluster.screen import resume_screen

            limit = header["arguments"].get("max_rejected")
            metrics = resume_screen(run, max_rejected=limit, listeners=(progress, *listeners))
        show_result(metrics, run)


def _continue_compare(run: Path, header: dict[str, Any], wish: _Wish) -> None:
    from raymat.cli.compare import say_command, show_comparison
    from raymat.cli.compare_progress import CompareProgress
    from raymat.cli.runs import running
    from raymat.config import build_config
    from raymat.tuning.comparison_cells import ComparisonPlan

    progress = CompareProgress(quiet=wish.quiet)
    plan = build_config(ComparisonPlan, header["arguments"]["plan"], where=f"{run}/run.json")
    with projecting(run, wish.wandb) as listeners:
        try:
            with running(run, progress):
                from raymat.cluster.compare import resume_compare

                resume_compare(run, listeners=(progress, *listeners))
        finally:
            show_comparison(plan, run, command=say_command(header["argv"]))


def _continue_explain(run: Path, header: dict[str, Any], wish: _Wish) -> None:
    from raymat.cli.explain import show_result
    from raymat.cli.explain_progress import ExplainProgress
    from raymat.cli.runs import running

    progress = ExplainProgress(quiet=wish.quiet)
    with projecting(run, wish.wandb) as listeners:
        with running(run, progress):
            from raymat.cluster.explain import resume_explain
            from raymat.cluster.explain_series import is_series, resume_series

            resume = resume_series if is_series(header) else resume_explain
            metrics = resume(run, listeners=(progress, *listeners))
        show_result(metrics, run)


def _continue_contributions(run: Path, header: dict[str, Any], wish: _Wish) -> None:
    del header
    from raymat.cli.contributions_results import ContributionsProgress, show_contributions
    from raymat.cli.runs import running

    progress = ContributionsProgress(quiet=wish.quiet)
    with running(run, progress):
        from raymat.explain.contributions_run import resume_contributions
        from raymat.reports.site_figures import save_site_figures

        metrics = resume_contributions(run, save_site_figures, listeners=(progress,))
    show_contributions(metrics, run, quiet=wish.quiet)


def _show_explanations_again(run: Path, header: dict[str, Any]) -> None:
    del header
    from raymat.cli.explain import show_result
    from raymat.cli.results import read_metrics

    show_result(read_metrics(run), run)


def _show_contributions_again(run: Path, header: dict[str, Any]) -> None:
    del header
    from raymat.cli.contributions_results import show_contributions
    from raymat.cli.results import read_metrics

    show_contributions(read_metrics(run), run)


def _show_comparison_again(run: Path, header: dict[str, Any]) -> None:
    """Write the report of a complete comparison once more, as by a newer version."""
    from raymat.cli.compare import say_command, show_comparison
    from raymat.config import build_config
    from raymat.tuning.comparison_cells import ComparisonPlan

    plan = build_config(ComparisonPlan, header["arguments"]["plan"], where=f"{run}/run.json")
    show_comparison(plan, run, command=say_command(header["argv"]))


def _show_ensemble_again(run: Path, header: dict[str, Any]) -> None:
    del header
    from raymat.cli.ensemble import show_result
    from raymat.cli.results import read_metrics

    show_result(read_metrics(run), run)


def _show_screening_again(run: Path, header: dict[str, Any]) -> None:
    del header
    from raymat.cli.results import read_metrics
    from raymat.cli.screen import show_result

    show_result(read_metrics(run), run)


_CONTINUE: dict[str, Callable[[Path, dict[str, Any], _Wish], None]] = {
    "tune": _continue_tune,
    "train": _continue_train,
    "ensemble": _continue_ensemble,
    "screen": _continue_screen,
    "compare": _continue_compare,
    "explain": _continue_explain,
    "contributions": _continue_contributions,
}
# What is drawn and printed at the end can be had again: a run may be killed in the middle of it.
_SHOW_AGAIN: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "ensemble": _show_ensemble_again,
    "screen": _show_screening_again,
    "compare": _show_comparison_again,
    "explain": _show_explanations_again,
    "contributions": _show_contributions_again,
}
