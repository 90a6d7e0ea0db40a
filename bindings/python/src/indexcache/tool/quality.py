# SPDX-License-Identifier: Apache-2.0
"""What a user must know before a found pattern is used: where sharing costs too much, and what a loss cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

from .plan import GREEDY, Plan, Step

# Of the baseline's loss; above, sharing is worth a word even where nobody asked.
NOTABLE_INCREASE = 0.02


def warnings(plan: Plan) -> list[str]:
    """Lines for standard error, most important first."""
    found = []
    if plan.state == "exhausted":
        found.append(
            "WARNING: the engine rejected every pattern of a step, so the search ended early"
            if len(plan.steps) > 1
            else "WARNING: the engine rejected the pattern to start from; nothing was found"
        )
    if plan.loss_limit is not None:
        found += _budget(plan, plan.loss_limit)
    elif plan.strategy in GREEDY and plan.baseline_loss is not None and len(plan.steps) > 1:
        last = min(plan.steps, key=lambda step: (step.num_full, step.loss))
        increase = last.loss - plan.baseline_loss
        if increase > NOTABLE_INCREASE * abs(plan.baseline_loss):
            found.append(
                f"note: with {_layers(last.num_full)} Full the loss is above the baseline's by "
                f"{_change(increase, plan.baseline_loss)}. Choose by what may be lost (--loss-budget), and test long "
                "contexts: short ones do not show the harm"
            )
    return found


def _budget(plan: Plan, limit: float) -> list[str]:
    base = plan.baseline_loss or 0.0
    found = []
    if plan.over_budget:
        shown = ", ".join(f"{step.layer} (by {_change(step.loss - base, base)})" for step in plan.over_budget[:12])
        more = f" and {len(plan.over_budget) - 12} more" if len(plan.over_budget) > 12 else ""
        one = len(plan.over_budget) == 1
        found.append(
            f"WARNING: sharing {'layer' if one else 'any of the layers'} {shown}{more} as well pushes the loss over "
            f"the budget of {plan.loss_budget:+g}: {'it is' if one else 'they are'} left Full. A model that was not "
            "trained to share can lose half of its long-context quality"
        )
    above = [step for step in plan.steps if step.loss > limit]
    if above:
        found.append(
            f"WARNING: {len(above)} of {len(plan.steps)} patterns are over the budget of {plan.loss_budget:+g}; "
            f"the mildest shares {_shared(above)}"
        )
    return found


def _shared(steps: Sequence[Step]) -> str:
    step = min(steps, key=lambda s: s.loss)
    layers = [str(layer) for layer, letter in enumerate(step.pattern) if letter == "S"]
    shown = ", ".join(layers[:16]) + (f" and {len(layers) - 16} more" if len(layers) > 16 else "")
    return f"the layers {shown} (loss {step.loss:.5f})"


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def _change(increase: float, base: float) -> str:
    share = f" = {100 * increase / base:.1f} %" if base > 0 else ""
    return f"{increase:.5f}{share}"
