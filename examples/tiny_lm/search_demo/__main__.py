# SPDX-License-Identifier: Apache-2.0
"""Searches F/S patterns for the tiny model by every strategy of the library, compares them on rows that no search has seen,
and says which of the expectations that were written down beforehand came true."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import experiment
from expectations import check
from publish import Publication
from setting import FULL, QUICK

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "bench"))
from run import commit, processor  # noqa: E402  # what a result file says of itself


def main() -> None:
    parser = argparse.ArgumentParser(prog="search-demo", description=__doc__)
    parser.add_argument("program", type=Path, help="tiny_lm")
    parser.add_argument("--quick", action="store_true", help="fewer rows and random patterns: a first look")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "search-demo", help="folder for results, report and pictures"
    )
    parser.add_argument(
        "--document",
        type=Path,
        metavar="ROOT",
        help="also renew bench/results and the tables and pictures of docs/quality.md in this copy of the repository",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto")
    options = parser.parse_args()
    setting = QUICK if options.quick else FULL

    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {text}", file=sys.stderr, flush=True)

    command = f"{shlex.quote(str(options.program.resolve()))} --device {shlex.quote(options.device)}"
    about: dict[str, Any] = {  # of now: the tree may change meanwhile
        "experiment": "search-demo --quick" if setting.quick else "search-demo",
        "processor": processor(),
        "threads": os.cpu_count(),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
    }
    outcome = experiment.run(command, setting, say)
    found = check(outcome, setting)
    about["seconds"] = round(time.monotonic() - begin)
    publication = Publication(outcome, setting, found, about)
    publication.write(options.out)
    if options.document:
        publication.document(options.document)

    base = outcome.baseline
    print(f"all Full: loss {base.loss:.5f} nats/byte on {setting.report.words}\n")
    print("Full  greedy adds  recall loss  pattern")
    for step in outcome.greedy.plan.steps:
        print(f"{step.num_full:4}  {step.loss - base.loss:11.5f}  {step.metrics['recall_loss']:11.4f}  {step.pattern}")
    print()
    for expectation in found:
        print(f"{expectation.verdict}  {expectation.expected}: {expectation.found}")
    passed = sum(e.passed for e in found)
    print(f"\n{passed} of {len(found)} expectations came true. {options.out}/report.html shows everything.")


if __name__ == "__main__":
    main()
