"""The page of a large search: how long it takes to write, how large it is, how soon it is open.

    python benchmarks/report_page.py --trials 1000 --epochs 50 --out report_page.json

The run directory is written from made-up events in the form that a search logs, with a predictions
file of 2,000 test crystals. Timed are `raymat report` as a process of its own (imports included)
and, if chromium and chromedriver are there, the time from the request until the page has drawn what
is visible, and until all charts are drawn.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results_file import machine_facts, write_results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reports" / "page"))
from browser import WHY_NOT, Browser
from search_run import write_search_run

RAYMAT = "from raymat.cli.main import main; main()"


def write_page(run: Path, page: Path) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", RAYMAT, "report", str(run), "-o", str(page), "--overwrite"],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - begun


def open_page(page: Path) -> dict[str, float]:
    browser = Browser()
    try:
        begun = time.perf_counter()
        browser.driver.get(page.as_uri())
        seconds = {"open": time.perf_counter() - begun}
        browser.run("return window.raymat.drawAll()")
        return {**seconds, "all charts drawn": time.perf_counter() - begun}
    finally:
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the page of a large search.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args()
    results: dict[str, Any] = {
        "machine": machine_facts(),
        "trials": args.trials,
        "epochs": args.epochs,
    }
    with tempfile.TemporaryDirectory(prefix="raymat-page-") as name:
        run = Path(name) / "search"
        page = Path(name) / "page.html"
        write_search_run(run, trials=args.trials, epochs=args.epochs, n_test=2000)
        written = [write_page(run, page) for _ in range(args.repeats)]
        results |= {"write_s": written, "megabytes": page.stat().st_size / 1e6}
        if WHY_NOT is None:
            opened = [open_page(page) for _ in range(args.repeats)]
            medians = {key: statistics.median(one[key] for one in opened) for key in opened[0]}
            results["browser_s"] = medians
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    print(f"{args.trials:,} trials of up to {args.epochs} epochs")
    print(f"written in {statistics.median(written):.1f} s, {results['megabytes']:.2f} MB")
    for what, seconds in results.get("browser_s", {}).items():
        print(f"{what}: {seconds:.2f} s")
    write_results(args.out, results)


if __name__ == "__main__":
    main()
