# SPDX-License-Identifier: Apache-2.0
"""The pattern search end to end: the tool asks tiny_lm; and what the experiment makes of its outcome.

Environment: TINY_LM_PROGRAM, INDEXCACHE_LIBRARY, and a PYTHONPATH with the package and examples/tiny_lm/search_demo.
"""

import dataclasses
import json
import os
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

import expectations
import experiment
import publish
import setting
import tables
from indexcache.tool.overlap import Overlap
from indexcache.tool.plan import Plan, Step
from indexcache.tool.search import Settings, search

PROGRAM = os.environ["TINY_LM_PROGRAM"]
COMMAND = f"{shlex.quote(PROGRAM)} --device cpu"
ROOT = Path(__file__).parents[2]
ALL_FULL = experiment.ALL_FULL


class SearchWithTinyLm(unittest.TestCase):
    """Greedy from restarts, against whole runs of the program under every pattern of each step."""

    def text_loss(self, pattern: str) -> float:
        options = ["--device", "cpu", "--json", "--text-rows", "0", "--recall-rows", "none", "--pattern", pattern]
        run = subprocess.run([PROGRAM, *options], check=True, capture_output=True, text=True)
        return json.loads(run.stdout)["text_loss_nats_per_byte"]

    def test_greedy_steps_are_those_of_whole_runs(self) -> None:
        with experiment.engine_over(COMMAND, setting.Rows("0", "none")) as engine:
            self.assertEqual(engine.num_layers, 16)
            plan = search([engine], Settings("greedy", num_full=14))
            self.assertEqual((plan.engine, plan.loss_unit), ("tiny_lm", "nats/byte"))
        self.assertEqual(plan.evaluations, 1 + 15 + 14)
        self.assertEqual([step.num_full for step in plan.steps], [16, 15, 14])

        self.assertEqual(plan.steps[0].loss, self.text_loss(ALL_FULL))
        whole = {layer: self.text_loss(ALL_FULL[:layer] + "S" + ALL_FULL[layer + 1 :]) for layer in range(1, 16)}
        best = min(whole, key=lambda layer: (whole[layer], layer))
        first, second = plan.steps[1:]
        self.assertEqual((first.layer, first.pattern.find("S"), first.loss), (best, best, whole[best]))
        self.assertEqual(second.loss, self.text_loss(second.pattern))
        self.assertEqual(second.metrics, {"text_loss": second.loss})

    def test_losses_of_a_judge_are_those_of_a_search(self) -> None:
        with experiment.engine_over(COMMAND, setting.Rows("0", "none")) as engine:
            judge = experiment.Judge(engine)
            uniform = search([engine], Settings("uniform", num_full=8))
            judged = judge.plan(uniform, "again")
            self.assertEqual(judged.steps, uniform.steps)
            self.assertEqual(uniform.steps[-1].pattern, "FS" * 8)
            freq = experiment.freq_plan(judge, setting.FULL)
            self.assertEqual(
                [step.pattern for step in freq.steps], ["FFSFSFSFSFSFSFSF", "FFSSSFSSSFSSSFSS", "FFSSSSSSSFSSSSSS"]
            )


def plan(name: str, losses: dict[int, float]) -> Plan:
    steps = [
        Step(n, "F" * n + "S" * (16 - n), loss, metrics={"text_loss": loss, "recall_loss": 0.1})
        for n, loss in losses.items()
    ]
    return Plan("greedy", tuple(steps), name, loss_unit="nats/byte", baseline_loss=1.0)


def outcome(greedy: dict[int, float]) -> experiment.Outcome:
    """With numbers that let all expectations come true when `greedy` is [8: 1.05, 5: 1.1, 3: 1.2]."""
    full = {16: 1.0, 15: 1.001, 11: 1.01, 1: 3.0}
    searched = experiment.Searched(plan("greedy", full | greedy), "A", plan("greedy", full | greedy))
    matrix = tuple(tuple(1 / (1 + abs(i - j)) for j in range(16)) for i in range(16))
    samples = tuple(
        Step(n, "F" * n + "S" * (16 - n), 1.06 + n + s / 100, metrics={}) for n in (8, 5, 3) for s in range(20)
    )
    return experiment.Outcome(
        baseline=Step(16, ALL_FULL, 1.0, metrics={"text_loss": 1.0, "recall_loss": 0.0}),
        greedy=searched,
        greedy_b=experiment.Searched(
            plan("greedy, calibration B", full | {8: 1.054, 5: 1.095, 3: 1.21}), "B", searched.found
        ),
        blocks=(searched,),
        similarity_dp=experiment.Searched(plan("similarity DP", full | {8: 1.05, 5: 1.2, 3: 1.3}), "A"),
        uniform=plan("uniform, even spacing", full | {8: 1.3, 5: 1.25, 3: 1.9}),
        uniform_freq=plan("uniform, freq 2, 4, 8", {9: 1.12, 5: 1.7, 3: 2.0}),
        random=dataclasses.replace(plan("random", full), steps=samples),
        single_flips=tuple(Step(15, ALL_FULL, 1 + layer / 100, layer) for layer in range(1, 16)),
        model_card=Step(8, experiment.MODEL_CARD, 1.02, metrics={"text_loss": 1.0, "recall_loss": 0.0}),
        overlap=Overlap(tuple(range(16)), matrix, matrix, matrix, 64, 100),
        similarity=matrix,
    )


GOOD = {8: 1.05, 5: 1.1, 3: 1.2}


class Expectations(unittest.TestCase):
    def failed(self, result: experiment.Outcome) -> list[str]:
        return [e.expected for e in expectations.check(result, setting.FULL) if not e.passed]

    def test_all_can_come_true(self) -> None:
        found = expectations.check(outcome(GOOD), setting.FULL)
        self.assertEqual(len(found), 2 + 3 + 1 + 3 + 3)
        self.assertEqual(self.failed(outcome(GOOD)), [])

    def test_each_can_fail(self) -> None:
        half_of_9 = self.failed(outcome(GOOD | {8: 1.0601}))  # freq 2 adds 0.12 with a Full layer more
        self.assertEqual(half_of_9[0], "8 Full: greedy adds at most half of what uniform sharing adds")
        self.assertIn(
            "5 Full: greedy adds at most half of what uniform sharing adds", self.failed(outcome(GOOD | {5: 1.126}))
        )
        self.assertIn("3 Full: greedy is better than 95 % of random patterns", self.failed(outcome(GOOD | {3: 4.08})))
        self.assertNotIn(
            "3 Full: greedy is better than 95 % of random patterns", self.failed(outcome(GOOD | {3: 4.065}))
        )
        self.assertIn(
            "flat, then steep: the first 5 of 15 flips add less than 10 % of all",
            self.failed(outcome(GOOD | {11: 1.21})),
        )
        self.assertIn(
            "5 Full: greedy from calibration A and from B add the same within 10 %",
            self.failed(outcome(GOOD | {5: 1.085})),
        )
        self.assertEqual(self.failed(outcome(GOOD | {8: 1.0501})), ["8 Full: similarity DP is not better than greedy"])

    def test_rank_correlation(self) -> None:
        self.assertAlmostEqual(expectations.rank_correlation([1, 2, 3], [10, 20, 25]), 1)
        self.assertAlmostEqual(expectations.rank_correlation([1, 2, 3], [3, 2, 1]), -1)
        self.assertAlmostEqual(expectations.rank_correlation([1, 2, 2, 4], [1, 3, 2, 4]), 0.9486832980505138)
        self.assertEqual(expectations.rank_correlation([1, 1], [1, 2]), 0)


class Publication(unittest.TestCase):
    def test_files_and_documents(self) -> None:
        about = {
            "processor": "Some CPU",
            "threads": 2,
            "date": "2026-01-02",
            "commit": "0123456789abcdef",
            "seconds": 1,
        }
        result = outcome(GOOD)
        made = publish.Publication(result, setting.FULL, expectations.check(result, setting.FULL), about)
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            made.write(root / "out")
            data = json.loads((root / "out" / "results.json").read_text())
            self.assertEqual(data["commit"], about["commit"])
            self.assertEqual(len(data["expectations"]), 12)
            self.assertAlmostEqual(data["searched"][0]["steps"][4]["increase"], 0.05)
            self.assertIn("Expected before the first run", (root / "out" / "report.html").read_text())

            (root / "bench" / "results").mkdir(parents=True)
            (root / "docs").mkdir()
            page = root / "docs" / "quality.md"
            page.write_text((ROOT / "docs" / "quality.md").read_text())  # the page that has all the places
            made.document(root)
            text = page.read_text()
            self.assertIn("[some-cpu-2026-01-02-search.json](../bench/results/some-cpu-2026-01-02-search.json)", text)
            self.assertIn("| pass | 8 Full: greedy adds at most half", text)
            self.assertEqual(json.loads((root / "bench/results/some-cpu-2026-01-02-search.json").read_text()), data)
            for picture in publish.DOCUMENTED:
                self.assertIn(f"quality/{picture}.svg", text)
                self.assertTrue((root / "docs" / "quality" / f"{picture}.svg").read_text().startswith("<svg"))
            made.document(root)
            self.assertEqual(page.read_text(), text, "again changes nothing")

    def test_a_page_without_the_place_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "<!-- cost -->"):
            publish.filled("<!-- cost -->", {"cost": "|"})

    def test_markdown(self) -> None:
        rows = [{"a": 1, "pattern": ALL_FULL}, {"a": 2, "b": "FS"}]
        self.assertEqual(
            tables.markdown(rows),
            f"| a | pattern | b |\n|---|---|---|\n| 1 | `{ALL_FULL}` |  |\n| 2 |  | FS |",
        )


if __name__ == "__main__":
    unittest.main()
