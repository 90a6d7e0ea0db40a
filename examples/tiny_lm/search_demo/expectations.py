# SPDX-License-Identifier: Apache-2.0
"""What was expected before the first run; published whether or not it came true. Increases are over the loss with every
layer Full, on the report rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiment import ALL_FULL, Outcome
from indexcache.tool.plan import Plan
from setting import Setting


@dataclass(frozen=True)
class Expectation:
    """expected: in words. found: in numbers. passed: whether it came true."""

    expected: str
    found: str
    passed: bool

    @property
    def verdict(self) -> str:
        return "pass" if self.passed else "FAIL"


def increase(plan: Plan, num_full: int, baseline: float) -> float:
    return plan.at(num_full).loss - baseline


def check(outcome: Outcome, setting: Setting) -> list[Expectation]:
    base = outcome.baseline.loss
    found = [less_than_uniform(outcome, count, base) for count in setting.counts if count != min(setting.counts)]
    found += [better_than_random(outcome, count) for count in setting.counts]
    found.append(flat_then_steep(outcome.greedy.plan, base))
    found += [same_from_both(outcome, count, base) for count in setting.counts]
    found += [dp_not_better(outcome, count, base) for count in setting.counts]
    return found


def less_than_uniform(outcome: Outcome, count: int, base: float) -> Expectation:
    """Against the better of both rules; the one by freq may have a Full layer more."""
    greedy = increase(outcome.greedy.plan, count, base)
    rivals = [outcome.uniform.at(count)]
    rivals += [step for step in outcome.uniform_freq.steps if count <= step.num_full <= count + 1]
    best = min(rivals, key=lambda step: step.loss)
    rival = best.loss - base
    return Expectation(
        f"{count} Full: greedy adds at most half of what uniform sharing adds",
        f"{greedy:.4f} against {rival:.4f} ({best.pattern}): {ratio(greedy, rival)}",
        greedy <= 0.5 * rival,
    )


def better_than_random(outcome: Outcome, count: int) -> Expectation:
    loss = outcome.greedy.plan.at(count).loss
    samples = [step.loss for step in outcome.random.steps if step.num_full == count]
    worse = sum(sample > loss for sample in samples)
    return Expectation(
        f"{count} Full: greedy is better than 95 % of random patterns",
        f"better than {worse} of {len(samples)}",
        worse >= 0.95 * len(samples),
    )


def flat_then_steep(greedy: Plan, base: float) -> Expectation:
    """A third of the layers, whole flips."""
    layers = len(ALL_FULL)
    early = increase(greedy, layers - layers // 3, base)
    total = increase(greedy, 1, base)
    return Expectation(
        f"flat, then steep: the first {layers // 3} of {layers - 1} flips add less than 10 % of all",
        f"{early:.4f} of {total:.4f}: {100 * early / total:.1f} %",
        early < 0.1 * total,
    )


def same_from_both(outcome: Outcome, count: int, base: float) -> Expectation:
    a = increase(outcome.greedy.plan, count, base)
    b = increase(outcome.greedy_b.plan, count, base)
    apart = abs(a - b) / min(a, b) if min(a, b) > 0 else float("inf")
    return Expectation(
        f"{count} Full: greedy from calibration A and from B add the same within 10 %",
        f"A {a:.4f}, B {b:.4f}: {100 * apart:.1f} % apart",
        apart <= 0.1,
    )


def dp_not_better(outcome: Outcome, count: int, base: float) -> Expectation:
    greedy = increase(outcome.greedy.plan, count, base)
    dp = increase(outcome.similarity_dp.plan, count, base)
    return Expectation(
        f"{count} Full: similarity DP is not better than greedy", f"DP {dp:.4f}, greedy {greedy:.4f}", dp >= greedy
    )


def ratio(part: float, whole: float) -> str:
    return f"{part / whole:.2f}" if whole > 0 else "uniform adds nothing"


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's, with mean ranks for ties; 0 where one of them is constant."""

    def ranks(values: Sequence[float]) -> list[float]:
        return [sum(other < value for other in values) + (values.count(value) - 1) / 2 for value in values]

    x, y = ranks(list(a)), ranks(list(b))
    mean = (len(x) - 1) / 2
    cross = sum((p - mean) * (q - mean) for p, q in zip(x, y))
    squares = sum((p - mean) ** 2 for p in x) * sum((q - mean) ** 2 for q in y)
    return cross / squares**0.5 if squares > 0 else 0.0
