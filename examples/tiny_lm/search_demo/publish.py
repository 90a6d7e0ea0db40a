# SPDX-License-Identifier: Apache-2.0
"""What the experiment leaves behind: results.json, report.html and pictures; and the same in the repository's documents."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expectations import Expectation
from experiment import Outcome, Searched
from indexcache.tool import plot
from indexcache.tool.checked import InputError
from indexcache.tool.overlap import Matrix
from indexcache.tool.plan import Plan, Step
from indexcache.tool.png import to_png
from indexcache.tool.report import Report, pictures, write_report
from setting import Setting
from tables import (
    Table,
    compared,
    comparison_table,
    cost_table,
    expectation_table,
    markdown,
    nearest,
    signs_table,
    trajectory_table,
)

DOCUMENTED = (
    "increase",
    "two-calibrations",
    "patterns",
    "overlap-recall",
    "overlap-mass",
)  # pictures of docs/quality.md


@dataclass(frozen=True)
class Publication:
    """about: processor, threads, date, commit and what else a result file says of itself."""

    outcome: Outcome
    setting: Setting
    found: Sequence[Expectation]
    about: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        data = results(self.outcome, self.setting, self.found, self.about)
        (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
        write_report(folder / "report.html", self.report())
        drawn = self.pictures()
        for name, svg in drawn.items():
            (folder / f"{name}.svg").write_text(svg)
        try:
            for name, svg in drawn.items():
                (folder / f"{name}.png").write_bytes(to_png(svg))
        except InputError as error:
            print(f"no PNG pictures: {error}")

    def document(self, root: Path) -> None:
        """The result file, and tables and pictures of docs/quality.md. Its words are people's: read them again."""
        data = results(self.outcome, self.setting, self.found, self.about)
        machine = re.sub(r"[^a-z0-9]+", "-", self.about["processor"].lower()).strip("-")
        name = f"{machine}-{self.about['date']}-search.json"
        (root / "bench" / "results" / name).write_text(json.dumps(data, indent=1) + "\n")
        drawn = self.pictures()
        (root / "docs" / "quality").mkdir(exist_ok=True)
        for picture in DOCUMENTED:
            (root / "docs" / "quality" / f"{picture}.svg").write_text(drawn[picture])
        page = root / "docs" / "quality.md"
        page.write_text(filled(page.read_text(), {"about": self.words(name), **self.tables()}))

    def words(self, file: str) -> str:
        a = self.about
        return (
            f"{a['processor']}, {a['threads']} threads, {a['date']}, commit {a['commit'][:12]}: "
            f"[{file}](../bench/results/{file})."
        )

    def tables(self) -> dict[str, str]:
        """By the names that docs/quality.md has for them."""
        found: dict[str, Table] = {
            "expectations": expectation_table(self.found),
            "comparison": comparison_table(self.outcome, self.setting),
            "trajectory": trajectory_table(self.outcome),
            "cost": cost_table(self.outcome),
            "signs": signs_table(self.outcome),
        }
        return {name: markdown(rows) for name, rows in found.items()}

    def pictures(self) -> dict[str, str]:
        drawn = dict(pictures(self.report()))
        drawn["two-calibrations"] = plot.curve(
            [self.outcome.greedy.plan, self.outcome.greedy_b.plan],
            increase=True,
            title="Greedy from two calibration sets: loss added on the report rows",
        )
        return drawn

    def report(self) -> Report:
        outcome, setting, about = self.outcome, self.setting, self.about
        strips = [
            plot.Strip(plan.name, step.pattern, step.loss)
            for count in setting.counts
            for plan in (outcome.greedy.plan, outcome.greedy_b.plan, outcome.similarity_dp.plan, outcome.uniform)
            if (step := nearest(plan, count)) is not None
        ]
        passed = sum(e.passed for e in self.found)
        notes = [
            f"{about['processor']}, {about['threads']} threads, {about['date']}, commit {about['commit']}.",
            f"Searched on {setting.calibration_a.words} (calibration A) and {setting.calibration_b.words} (B); all losses "
            f"shown are those on {setting.report.words}, which no search has seen. {passed} of {len(self.found)} "
            "expectations came true.",
        ]
        shown = {
            "Expected before the first run": expectation_table(self.found),
            "What each way of choosing adds": comparison_table(outcome, setting),
            "What a search takes": cost_table(outcome),
            "What overlap foretells": signs_table(outcome),
        }
        title = "Which layers of a small DSA model can share their indices"
        groups = outcome.greedy.plan.at(setting.counts[1]).pattern
        return Report(title, compared(outcome), outcome.overlap, groups, strips, notes, shown)


def filled(page: str, texts: Mapping[str, str]) -> str:
    """The page with new text between <!-- NAME --> and <!-- /NAME -->, for every name."""
    for name, text in texts.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page has no place {begin} ... {end}")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


def results(
    outcome: Outcome, setting: Setting, found: Sequence[Expectation], about: Mapping[str, Any]
) -> dict[str, Any]:
    base = outcome.baseline.loss

    def step(s: Step) -> dict[str, Any]:
        return {"num_full": s.num_full, "pattern": s.pattern, "loss": s.loss, "increase": s.loss - base, **s.metrics}

    def plan(p: Plan) -> dict[str, Any]:
        return {"name": p.name, "strategy": p.strategy, "steps": [step(s) for s in p.steps]}

    def searched(s: Searched) -> dict[str, Any]:
        seen = s.found
        calibration = {} if seen is None else {"calibration_losses": [t.loss for t in seen.steps]}
        evaluations = {} if seen is None else {"evaluations": seen.evaluations}
        return {**plan(s.plan), "calibrated_on": s.calibrated_on, **evaluations, **calibration}

    return {
        **about,
        "rows": {
            "calibration A": setting.calibration_a.words,
            "calibration B": setting.calibration_b.words,
            "report": setting.report.words,
        },
        "loss": "mean next-byte loss in nats over all bytes of the rows; recall_loss: over the recall answers alone",
        "all_full": step(outcome.baseline),
        "expectations": [{"expected": e.expected, "found": e.found, "passed": e.passed} for e in found],
        "searched": [searched(s) for s in (outcome.greedy, outcome.greedy_b, *outcome.blocks, outcome.similarity_dp)],
        "compared": [plan(p) for p in (outcome.uniform, outcome.uniform_freq)],
        "model_card": step(outcome.model_card),
        "random": [{"pattern": s.pattern, "loss": s.loss, **s.metrics} for s in outcome.random.steps],
        "single_flips": [{"layer": s.layer, "increase": s.loss - base} for s in outcome.single_flips],
        "signs": signs_table(outcome),
        "overlap": {
            "k": outcome.overlap.k,
            "rows": outcome.overlap.rows,
            **{name: rounded(matrix) for name, matrix in outcome.overlap.matrices().items()},
        },
        "similarity": rounded(outcome.similarity),
    }


def rounded(matrix: Matrix) -> list[list[float | None]]:
    return [[None if x is None else round(x, 5) for x in row] for row in matrix]
