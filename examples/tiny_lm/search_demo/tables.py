# SPDX-License-Identifier: Apache-2.0
"""The experiment's outcome as tables: lists of rows with the same keys."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from expectations import Expectation, rank_correlation
from experiment import ALL_FULL, Outcome
from indexcache.tool.overlap import Matrix
from indexcache.tool.plan import Plan, Step
from setting import Setting

Table = list[dict[str, Any]]


def compared(outcome: Outcome) -> list[Plan]:
    """The lines of the picture; the random ones are a band."""
    searched = [outcome.greedy, *outcome.blocks, outcome.similarity_dp]
    return [s.plan for s in searched] + [outcome.uniform, outcome.uniform_freq, outcome.random]


def comparison_table(outcome: Outcome, setting: Setting) -> Table:
    """Per number of Full layers: what each way of choosing adds to the loss on the report rows."""
    base = outcome.baseline.loss
    rows = []
    for count in setting.counts:
        for plan in [*compared(outcome)[:-1], outcome.greedy_b.plan]:
            step = nearest(plan, count)
            if step is not None:
                rows.append(
                    {"Full": step.num_full, "chosen by": plan.name, **losses(step, base), "pattern": step.pattern}
                )
        samples = sorted(s.loss - base for s in outcome.random.steps if s.num_full == count)
        spread = f"median of {len(samples)}; best {samples[0]:.4f}, worst {samples[-1]:.4f}"
        rows.append({"Full": count, "chosen by": "random", "added loss": f"{median(samples):.4f}", "pattern": spread})
    card = outcome.model_card
    rows.append({"Full": card.num_full, "chosen by": "the model card", **losses(card, base), "pattern": card.pattern})
    return rows


def nearest(plan: Plan, count: int) -> Step | None:
    """The plan's pattern with this many Full layers; uniform sharing by freq may have one more."""
    found = [step for step in plan.steps if count <= step.num_full <= count + ("freq" in plan.name)]
    return min(found, key=lambda step: (step.num_full, step.loss), default=None)


def losses(step: Step, base: float) -> dict[str, str]:
    return {
        "added loss": f"{step.loss - base:.4f}",
        "text loss": f"{step.metrics['text_loss']:.4f}",
        "recall loss": f"{step.metrics['recall_loss']:.4f}",
    }


def trajectory_table(outcome: Outcome) -> Table:
    """Greedy's steps, with what the search saw beside what the report rows say."""
    seen = outcome.greedy.found
    assert seen is not None
    base = outcome.baseline.loss
    return [
        {
            "Full": step.num_full,
            "made Shared": "" if step.layer is None else f"layer {step.layer}",
            "loss, calibration": f"{before.loss:.4f}",
            "loss, report": f"{step.loss:.4f}",
            **losses(step, base),
            "pattern": step.pattern,
        }
        for step, before in zip(outcome.greedy.plan.steps, seen.steps)
    ]


def signs_table(outcome: Outcome) -> Table:
    """Does what two neighbouring layers have in common foretell what it costs to share one?"""
    base = outcome.baseline.loss
    costs = [step.loss - base for step in outcome.single_flips]
    signs: dict[str, Matrix | None] = {
        "recall": outcome.overlap.recall,
        "attention mass": outcome.overlap.mass,
        "cosine of attention outputs": outcome.similarity,
    }
    return [
        {
            "sign, of a layer and the one in front": name,
            "rank correlation with the cost": f"{rank_correlation(neighbours(matrix), costs):+.2f}",
        }
        for name, matrix in signs.items()
        if matrix is not None
    ]


def neighbours(matrix: Matrix) -> list[float]:
    """What each layer has in common with the one in front of it, whose indices it would read."""
    return [row[layer - 1] or 0.0 for layer, row in enumerate(matrix) if layer > 0]


def cost_table(outcome: Outcome) -> Table:
    searched = [outcome.greedy, outcome.greedy_b, *outcome.blocks]
    return [
        {
            "search": s.plan.name,
            "patterns evaluated": s.found.evaluations if s.found else 0,
            "down to": f"{min(step.num_full for step in s.plan.steps)} Full",
        }
        for s in searched
    ]


def expectation_table(found: Sequence[Expectation]) -> Table:
    return [{"": e.verdict, "expected": e.expected, "found": e.found} for e in found]


def markdown(rows: Table) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [str(row.get(name, "")) for name in columns]
        lines.append("| " + " | ".join(f"`{c}`" if is_pattern(c) else c for c in cells) + " |")
    return "\n".join(lines)


def is_pattern(text: str) -> bool:
    return len(text) == len(ALL_FULL) and not text.strip("FS")
