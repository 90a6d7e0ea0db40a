# SPDX-License-Identifier: Apache-2.0
"""What a search found: patterns with their losses, and the JSON file that they are kept in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .checked import InputError, Reader, read_text

FORMAT = "indexcache-plan"
VERSION = 1

# How the strategies of indexcache.Search are called in tables and legends.
STRATEGY_NAMES = {
    "greedy": "greedy",
    "greedy_blocks": "greedy in blocks",
    "uniform": "uniform",
    "similarity_dp": "similarity DP",
    "random": "random",
}
# Those that make one layer Shared after the other; the others list patterns.
GREEDY = ("greedy", "greedy_blocks")


@dataclass(frozen=True)
class Step:
    """One pattern that was evaluated and kept.

    num_full: Full layers of the pattern. loss: as the engine measured it. layer: the layer that this step made Shared
    with respect to the one before; None = a pattern on its own. metrics: what else the engine measured, by name.
    """

    num_full: int
    pattern: str
    loss: float
    layer: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float | None:
        """The loss for "loss", else the metric of this name."""
        return self.loss if name == "loss" else self.metrics.get(name)


@dataclass(frozen=True)
class Plan:
    """What one search found.

    strategy: as indexcache.Search names it. name: for tables and legends. steps: in the order in which they were found;
    the first is the pattern that the search started from, all Full as a rule, and baseline_loss its loss. A random
    search has several per number of Full layers. loss_unit: for axes, "nats/token". loss_budget: how much above the
    baseline a loss may be. over_budget: of each layer that is still Full the pattern with which sharing it too was last
    measured above that. state: "done", "budget" (every next step would be above it), "exhausted" (the engine rejected
    all of a step), or "running" (the journal ends before the search does). evaluations, seconds: what it took.
    options: what the search was asked for.
    """

    strategy: str
    steps: tuple[Step, ...]
    name: str = ""
    engine: str = ""
    loss_unit: str = ""
    baseline_loss: float | None = None
    loss_budget: float | None = None
    over_budget: tuple[Step, ...] = ()
    state: str = "done"
    evaluations: int = 0
    seconds: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", STRATEGY_NAMES.get(self.strategy, self.strategy))

    @property
    def num_layers(self) -> int:
        """Letters of the patterns; 0 without steps."""
        return len(self.steps[0].pattern) if self.steps else 0

    @property
    def loss_limit(self) -> float | None:
        """The largest loss inside the budget."""
        if self.loss_budget is None or self.baseline_loss is None:
            return None
        return self.baseline_loss + self.loss_budget

    @property
    def metric_names(self) -> list[str]:
        """Metrics that some step has, in the engine's order."""
        return list(dict.fromkeys(name for step in self.steps for name in step.metrics))

    def at(self, num_full: int) -> Step:
        """The best step with this number of Full layers."""
        found = [step for step in self.steps if step.num_full == num_full]
        if not found:
            have = ", ".join(str(n) for n in sorted({step.num_full for step in self.steps})) or "none"
            raise InputError(f"no pattern with {num_full} Full layers in the plan {self.name!r}; it has {have}")
        return min(found, key=lambda step: step.loss)

    def within(self, loss: float) -> Step | None:
        """The step with the fewest Full layers among those whose loss is at most this."""
        return min(
            (step for step in self.steps if step.loss <= loss),
            key=lambda step: (step.num_full, step.loss),
            default=None,
        )

    def to_dict(self) -> dict[str, Any]:
        steps = {"steps": [asdict(s) for s in self.steps], "over_budget": [asdict(s) for s in self.over_budget]}
        return {"format": FORMAT, "version": VERSION, **asdict(replace(self, steps=(), over_budget=())), **steps}

    @classmethod
    def from_dict(cls, data: Any, where: str = "plan") -> Plan:
        """Refuses with an InputError what is not a plan; fields that it does not know are ignored."""
        reader = Reader.of(data, where).format(FORMAT, VERSION)
        steps = tuple(_step(entry) for entry in reader.objects("steps"))
        over = tuple(_step(entry) for entry in reader.objects("over_budget")) if "over_budget" in reader.data else ()
        for index, step in enumerate(steps):
            if len(step.pattern) != len(steps[0].pattern):
                raise InputError(
                    f"{where}: steps[{index}].pattern has {len(step.pattern)} letters; steps[0] {len(steps[0].pattern)}"
                )
        return cls(
            strategy=reader.text("strategy"),
            steps=steps,
            name=reader.text("name", ""),
            engine=reader.text("engine", ""),
            loss_unit=reader.text("loss_unit", ""),
            baseline_loss=reader.optional_number("baseline_loss"),
            loss_budget=reader.optional_number("loss_budget"),
            over_budget=over,
            state=reader.text("state", "done"),
            evaluations=reader.whole("evaluations", 0),
            seconds=reader.number("seconds", 0.0),
            options=dict(reader.mapping("options")),
        )


def _step(reader: Reader) -> Step:
    pattern = reader.pattern("pattern")
    num_full = reader.whole("num_full", pattern.count("F"))
    if num_full != pattern.count("F"):
        raise InputError(f"{reader.where}: num_full is {num_full}; its pattern {pattern} has {pattern.count('F')}")
    layer = reader.optional_whole("layer")
    if layer is not None and not 0 <= layer < len(pattern):
        raise InputError(f"{reader.where}: layer is {layer}; layers of {pattern} are 0 to {len(pattern) - 1}")
    return Step(num_full, pattern, reader.number("loss"), layer, reader.numbers("metrics"))


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Reads a plan file."""
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    return Plan.from_dict(data, str(path))


def save_plan(path: str | os.PathLike[str], plan: Plan) -> None:
    """Writes a plan file; readers never see half of one."""
    replace_file(path, json.dumps(plan.to_dict(), indent=1) + "\n")


def replace_file(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file beside its place and then moves it there; what is no file, such as /dev/stdout, is written to."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "w") as device:
                device.write(text)
            return
        target = Path(path).resolve()  # where a link points to, so that the link stays
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            beside.write_text(text)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def groups(pattern: str) -> list[range]:
    """The Full layers, each with the Shared layers that read it."""
    starts = [layer for layer, letter in enumerate(pattern) if letter == "F"]
    return [range(first, behind) for first, behind in zip(starts, [*starts[1:], len(pattern)])]


def best_per_count(steps: Iterable[Step]) -> list[Step]:
    """For each number of Full layers the step with the smallest loss; most Full layers first."""
    best: dict[int, Step] = {}
    for step in steps:
        if step.num_full not in best or step.loss < best[step.num_full].loss:
            best[step.num_full] = step
    return [best[count] for count in sorted(best, reverse=True)]
