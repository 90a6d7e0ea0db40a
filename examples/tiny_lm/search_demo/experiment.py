# SPDX-License-Identifier: Apache-2.0
"""Searches patterns on calibration rows and evaluates all of them on rows that no search has seen."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from indexcache import Schedule
from indexcache.tool.engine import ChildEngine, Engine
from indexcache.tool.overlap import Matrix, Overlap
from indexcache.tool.plan import Plan, Step
from indexcache.tool.protocol import EngineError, Evaluate, Loss
from indexcache.tool.search import Settings, search
from setting import Rows, Setting

ALL_FULL = "F" * 16
MODEL_CARD = "FSFSFSSFSFFFFSSS"  # the searched pattern that the model came with


@dataclass(frozen=True)
class Searched:
    """A plan with losses on the report rows, and what the search itself saw.

    calibrated_on: "A", "B", or empty where no loss chose the patterns. found: the same patterns with their losses on the
    calibration rows.
    """

    plan: Plan
    calibrated_on: str = ""
    found: Plan | None = None


@dataclass(frozen=True)
class Outcome:
    """Everything that was measured; losses are on the report rows where nothing else is said."""

    baseline: Step
    greedy: Searched
    greedy_b: Searched
    blocks: tuple[Searched, ...]
    similarity_dp: Searched
    uniform: Plan
    uniform_freq: Plan
    random: Plan
    single_flips: tuple[Step, ...]
    model_card: Step
    overlap: Overlap
    similarity: Matrix


class Judge:
    """Losses on the report rows, each pattern once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: dict[str, Loss] = {}

    def loss(self, pattern: str) -> Loss:
        if pattern not in self._known:
            answer = self.engine.evaluate(Evaluate(len(self._known), pattern))
            if not isinstance(answer, Loss):
                raise EngineError(f"the engine rejected {pattern}: {answer.reason}")
            self._known[pattern] = answer
        return self._known[pattern]

    def step(self, pattern: str, layer: int | None = None) -> Step:
        answer = self.loss(pattern)
        return Step(pattern.count("F"), pattern, answer.loss, layer, answer.metrics)

    def plan(self, plan: Plan, name: str) -> Plan:
        """The same patterns with losses on the report rows."""
        steps = tuple(self.step(step.pattern, step.layer) for step in plan.steps)
        return replace(plan, name=name, steps=steps, baseline_loss=self.loss(ALL_FULL).loss)


@contextlib.contextmanager
def engine_over(command: str, rows: Rows) -> Iterator[Engine]:
    words = f"{command} --serve --text-rows {shlex.quote(rows.text)} --recall-rows {shlex.quote(rows.recall)}"
    engine = ChildEngine(words, stderr=lambda text: None)
    try:
        yield engine
    finally:
        engine.close()


def run(command: str, setting: Setting, say: Callable[[str], None]) -> Outcome:
    """command: starts tiny_lm. The three engines work one at a time, each with all threads."""
    with (
        engine_over(command, setting.calibration_a) as on_a,
        engine_over(command, setting.calibration_b) as on_b,
        engine_over(command, setting.report) as on_report,
    ):
        judge = Judge(on_report)

        def searched(engine: Engine, on: str, name: str, settings: Settings) -> Searched:
            say(f"{name}: searching on calibration {on}")
            found = search([engine], settings, name=name)
            say(f"{name}: {found.evaluations} patterns evaluated; the {len(found.steps)} found go to the report rows")
            return Searched(judge.plan(found, name), on, found)

        def judged(name: str, settings: Settings) -> Plan:
            say(f"{name}: on the report rows")
            return search([on_report], settings, name=name)

        greedy = searched(on_a, "A", "greedy", Settings("greedy"))
        greedy_b = searched(on_b, "B", "greedy, calibration B", Settings("greedy"))
        blocks = tuple(
            searched(on_a, "A", f"greedy, {count} blocks", Settings("greedy_blocks", num_blocks=count))
            for count in setting.blocks
        )
        say("overlap and similarity of all layers on calibration A")
        overlap = on_a.overlap(ALL_FULL)
        similarity = on_a.similarity()
        dp = judged("similarity DP", Settings("similarity_dp", similarity=similarity))
        uniform = judged("uniform, even spacing", Settings("uniform"))
        random = [
            judged(
                f"random, {count} Full",
                Settings(
                    "random",
                    num_full=count,
                    max_full=count,
                    num_samples=setting.random_patterns,
                    seed=setting.seed,
                ),
            )
            for count in setting.counts
        ]
        say("uniform by freq, single flips and the model card's pattern on the report rows")
        return Outcome(
            baseline=judge.step(ALL_FULL),
            greedy=greedy,
            greedy_b=greedy_b,
            blocks=blocks,
            similarity_dp=Searched(dp, "A"),
            uniform=uniform,
            uniform_freq=freq_plan(judge, setting),
            random=joined("random", random),
            single_flips=tuple(
                judge.step(ALL_FULL[:layer] + "S" + ALL_FULL[layer + 1 :], layer) for layer in range(1, len(ALL_FULL))
            ),
            model_card=judge.step(MODEL_CARD),
            overlap=overlap,
            similarity=similarity,
        )


def freq_plan(judge: Judge, setting: Setting) -> Plan:
    """One Full layer in freq, offset 2: the rule of the paper's patches, and of engines."""
    patterns = [Schedule(len(ALL_FULL), freq=freq).pattern for freq in setting.freqs]
    steps = tuple(judge.step(pattern) for pattern in patterns)
    base = judge.loss(ALL_FULL)
    return Plan("uniform", steps, "uniform, freq 2, 4, 8", loss_unit="nats/byte", baseline_loss=base.loss)


def joined(name: str, plans: list[Plan]) -> Plan:
    """One plan with the samples of all; the baseline stays out, it is no sample."""
    steps = tuple(step for plan in plans for step in plan.steps if step.pattern != ALL_FULL)
    return replace(
        plans[0],
        name=name,
        steps=steps,
        evaluations=len(steps),
        seconds=round(sum(plan.seconds for plan in plans), 3),
        options={},
    )
