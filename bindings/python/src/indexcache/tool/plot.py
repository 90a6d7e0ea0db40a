# SPDX-License-Identifier: Apache-2.0
"""The three pictures, as SVG text: curve(), heatmap(), strips(). standalone=False leaves out what an HTML page has
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from .checked import InputError, check_pattern
from .overlap import Overlap
from .plan import Plan, Step, best_per_count, groups
from .scale import Scale, label_of
from .svg import DASHES, MARKERS, SERIES, Drawing, text_width

# Dark blue to yellow, equally readable with any colour vision (the map "cividis", sampled).
_CIVIDIS = (
    (0x00, 0x22, 0x4E), (0x12, 0x35, 0x70), (0x3B, 0x49, 0x6C), (0x57, 0x5D, 0x6D), (0x70, 0x71, 0x73),
    (0x8A, 0x86, 0x78), (0xA5, 0x9C, 0x74), (0xC3, 0xB3, 0x69), (0xE1, 0xCC, 0x55), (0xFE, 0xE8, 0x38),
)  # fmt: skip


def curve(
    plans: Sequence[Plan],
    *,
    value: str = "loss",
    increase: bool = False,
    title: str = "",
    standalone: bool = True,
) -> str:
    """Loss against the number of Full layers: one line per plan, and a band from best to worst where a plan has several
    patterns per number (random ones).

    value: "loss" or the name of a metric. increase: what sharing adds to the value of the first plan's baseline, on a
    logarithmic axis, where differences between good patterns can be seen.
    """
    lines = [(plan, [s for s in plan.steps if s.value(value) is not None]) for plan in plans]
    lines = [(plan, steps) for plan, steps in lines if steps]
    if not lines:
        raise InputError(f"no plan has a value {value!r} to draw")
    base = _baseline(plans, value)
    if increase and base is None:
        raise InputError(
            f"no plan has the {value} of the pattern with every layer Full, which an increase is measured from"
        )
    unit = next((plan.loss_unit for plan, _ in lines if plan.loss_unit), "") if value == "loss" else ""
    shown = _increases(lines, value, base) if increase and base is not None else _values(lines, value)

    legend_width = 58 + max(text_width(plan.name, 13) for plan, _ in lines)
    legend_width = max(legend_width, 190)
    width, height = 640 + legend_width, 430.0
    left, right, top, bottom = 84.0, width - legend_width - 14, 54.0, height - 58
    what = f"{value} added by sharing" if increase else value
    title = (
        title
        or f"{what[0].upper() if value == 'loss' else what[0]}{what[1:]}{',' if increase else ''} by number of Full layers"
    )
    draw = Drawing(width, height, title)
    draw.text(left, 28, title, size=16, bold=True)

    counts = sorted({step.num_full for _, steps in shown for step, _ in steps})
    most = max(len(step.pattern) for _, steps in shown for step, _ in steps)
    margin = max(0.5, 0.02 * (max(counts) - min(counts)))
    x = Scale(min(counts) - margin, max(counts) + margin, left, right)
    numbers = [y for _, steps in shown for _, y in steps]
    budget = None
    if value == "loss":
        limits = (plan.loss_budget if increase else plan.loss_limit for plan, _ in lines)
        budget = next((limit for limit in limits if limit), None)
    positive = [y for y in numbers if y > 0] or [1e-6]
    if increase:
        y_scale = Scale.around([*positive, *([budget] if budget else [])], bottom, top, log=True)
    else:
        y_scale = Scale.around([*numbers, *([budget] if budget is not None else [])], bottom, top)

    if increase and any(y <= 0 for y in numbers):  # they get a line of their own below the logarithms
        y_scale = replace(y_scale, low=y_scale.low / 3)
        draw.text(left - 8, bottom + 4, "\u2264 0", "quiet", size=12, anchor="end")
    ticks = y_scale.ticks()
    for tick in ticks:
        draw.line(left, y_scale.at(tick), right, y_scale.at(tick), "grid")
        draw.text(left - 8, y_scale.at(tick) + 4, label_of(tick, ticks), "quiet", size=12, anchor="end")
    every = _label_every(max(counts) - min(counts) + 1, right - left, 26)
    for count in range(min(counts), max(counts) + 1):
        if count % every == 0:
            draw.line(x.at(count), bottom, x.at(count), bottom + 5, "axis")
            draw.text(x.at(count), bottom + 19, str(count), "quiet", size=12, anchor="middle")
    draw.line(left, bottom, right, bottom, "axis")
    draw.line(left, top, left, bottom, "axis")
    draw.text((left + right) / 2, height - 14, f"Full layers, of {most}", size=13, anchor="middle")
    draw.text(20, (top + bottom) / 2, what + (f" ({unit})" if unit else ""), size=13, anchor="middle", turned=True)

    several = [len({step.num_full for step, _ in steps}) < len(steps) for _, steps in shown]
    for (plan, steps), band in zip(shown, several):  # below the lines
        if band:
            _band(draw, steps, x, y_scale, plan.name)
    if budget is not None:
        draw.line(
            left, y_scale.at(budget), right, y_scale.at(budget), "alarm", stroke_width=1.4, stroke_dasharray="6 4"
        )
    elif not increase and base is not None and y_scale.low <= base <= y_scale.high:
        draw.line(left, y_scale.at(base), right, y_scale.at(base), "axis", stroke_dasharray="2 4")

    legend_x, legend_y = right + 22, top + 8
    for number, (plan, steps) in enumerate(shown):
        series = number % len(SERIES)
        middle = legend_y - 4.5
        draw.text(legend_x + 34, legend_y, plan.name, size=13)
        if several[number]:
            draw.rect(legend_x, legend_y - 10, 26, 11, "band")
            draw.line(legend_x, middle, legend_x + 26, middle, "mark", stroke_width=1.4)
            draw.text(legend_x + 34, legend_y + 15, "best to worst, median", "quiet", size=11)
            legend_y += 40
            continue
        _series(draw, steps, x, y_scale, series, plan.name)
        css = f"line{series}"
        draw.line(legend_x, middle, legend_x + 26, middle, css, stroke_width=2, stroke_dasharray=DASHES[series])
        draw.marker(MARKERS[series], legend_x + 13, middle, series)
        legend_y += 24
    if budget is not None:
        middle = legend_y - 4.5
        draw.line(legend_x, middle, legend_x + 26, middle, "alarm", stroke_width=1.4, stroke_dasharray="6 4")
        draw.text(legend_x + 34, legend_y, f"budget: {budget - (0 if increase else base or 0):+.4g}", size=13)
    return draw.svg(standalone=standalone)


def _baseline(plans: Sequence[Plan], value: str) -> float | None:
    """The value with every layer Full."""
    for plan in plans:
        for step in plan.steps:
            if step.num_full == len(step.pattern) and step.value(value) is not None:
                return step.value(value)
    if value == "loss":
        return next((plan.baseline_loss for plan in plans if plan.baseline_loss is not None), None)
    return None


_Shown = list[tuple[Plan, list[tuple[Step, float]]]]


def _values(lines: list[tuple[Plan, list[Step]]], value: str) -> _Shown:
    return [(plan, [(step, step.value(value) or 0.0) for step in steps]) for plan, steps in lines]


def _increases(lines: list[tuple[Plan, list[Step]]], value: str, base: float) -> _Shown:
    """Without the baseline itself, whose increase of 0 no logarithm has."""
    found = []
    for plan, steps in lines:
        kept = [(step, (step.value(value) or 0.0) - base) for step in steps if step.num_full < len(step.pattern)]
        if kept:
            found.append((plan, kept))
    if not found:
        raise InputError("every pattern has all layers Full: there is no increase to draw")
    return found


def _label_every(count: int, pixels: float, room: float) -> int:
    return next(every for every in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if pixels / count * every >= room)


def _tip(step: Step, y: float, name: str) -> str:
    return f"{name}: {step.num_full} Full, {y:.6g}\n{step.pattern}"


def _series(draw: Drawing, steps: list[tuple[Step, float]], x: Scale, y_scale: Scale, series: int, name: str) -> None:
    ordered = sorted(steps, key=lambda pair: pair[0].num_full)
    points = [(x.at(step.num_full), y_scale.at(y)) for step, y in ordered]
    if len(points) > 1:
        draw.polyline(points, f"line{series}", stroke_width=2, stroke_dasharray=DASHES[series], stroke_linejoin="round")
    size = 4.0 if len(points) <= 40 else 2.6
    for (step, y), (px, py) in zip(ordered, points):
        draw.marker(MARKERS[series], px, py, series, size=size, title=_tip(step, y, name))


def _band(draw: Drawing, steps: list[tuple[Step, float]], x: Scale, y_scale: Scale, name: str) -> None:
    by_count: dict[int, list[float]] = {}
    for step, y in steps:
        by_count.setdefault(step.num_full, []).append(y)
    counts = sorted(by_count)
    low = [(x.at(count), y_scale.at(min(by_count[count]))) for count in counts]
    high = [(x.at(count), y_scale.at(max(by_count[count]))) for count in counts]
    if len(counts) == 1:  # a band needs a width
        low = [(low[0][0] - 6, low[0][1]), (low[0][0] + 6, low[0][1])]
        high = [(high[0][0] - 6, high[0][1]), (high[0][0] + 6, high[0][1])]
    draw.polygon(low + high[::-1], "band", title=name, fill_opacity="0.65")
    middle = [(x.at(count), y_scale.at(median(by_count[count]))) for count in counts]
    if len(middle) == 1:
        middle = [(middle[0][0] - 6, middle[0][1]), (middle[0][0] + 6, middle[0][1])]
    draw.polyline(middle, "mark", stroke_width=1.4)


FRAMES = "frames: a Full layer and the Shared layers that read it; dots: what they read"


def heatmap(
    overlap: Overlap,
    *,
    matrix: str = "",
    pattern: str = "",
    title: str = "",
    standalone: bool = True,
) -> str:
    """One matrix of an overlap ("recall", "jaccard" or "mass"; the first that there is), a row for the layer that reads
    and a column for the layer whose indices it reads. pattern: its groups are drawn in, a frame around each Full layer
    and the Shared layers behind it; default: the pattern that the overlap was measured under, unless that is all Full.
    """
    matrices = overlap.matrices()
    matrix = matrix or next(iter(matrices))
    if matrix not in matrices:
        raise InputError(f"the overlap has no matrix {matrix!r}; it has {', '.join(matrices)}")
    values, layers = matrices[matrix], overlap.layers
    count = len(layers)
    if not pattern and "S" in overlap.pattern:
        pattern = overlap.pattern
    if pattern:
        check_pattern(pattern, "the pattern whose groups are drawn")
        if max(layers) >= len(pattern):
            raise InputError(f"the pattern has {len(pattern)} letters; the overlap has layer {max(layers)}")

    cell = max(7.0, min(34.0, 620.0 / count))
    left, top = 76.0, 58.0
    side = cell * count
    bar_x = left + side + 26
    width, height = bar_x + 92, top + side + (74 if pattern else 54)
    meaning = {
        "recall": "Share of a layer's keys that another layer selects too",
        "jaccard": "Keys common to two layers, of all keys of both",
        "mass": "Share of a layer's attention on the keys of another layer",
    }[matrix]
    title = title or meaning
    width = max(width, left + text_width(title, 16) + 10)
    draw = Drawing(width, height, title)
    draw.text(left, 26, title, size=16, bold=True)
    facts = [f"k = {overlap.k}"] if overlap.k else []
    facts += [f"mean over {overlap.rows} rows"] if overlap.rows else []
    facts += [f"measured under {overlap.pattern}"] if "S" in overlap.pattern and len(overlap.pattern) <= 32 else []
    draw.text(left, 45, ", ".join(facts), "quiet", size=12)

    known = [v for i, row in enumerate(values) for j, v in enumerate(row) if v is not None and i != j]
    low = min(known, default=0.0)
    low = int(min(max(low, 0.0), 0.9) * 10) / 10
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            px, py = left + j * cell, top + i * cell
            tip = f"layer {layers[i]} reading layer {layers[j]}: " + (
                "not measured" if value is None else f"{value:.3f}"
            )
            if value is None:
                draw.rect(px, py, cell, cell, "none", shape_rendering="crispEdges", title=tip)
                continue
            colour, dark = _colour(value, low)
            draw.rect(px, py, cell, cell, fill=colour, shape_rendering="crispEdges", title=tip)
            if cell >= 26:
                label = "1" if value >= 0.995 else f"{value:.2f}"[1:]
                draw.text(
                    px + cell / 2,
                    py + cell / 2 + 4,
                    label,
                    "on-full-fixed" if dark else "ink-fixed",
                    size=11,
                    anchor="middle",
                )

    every = _label_every(count, side, 18)
    for index, layer in enumerate(layers):
        if every == 1 or layer % every == 0:
            draw.text(left - 8, top + (index + 0.5) * cell + 4, str(layer), "quiet", size=12, anchor="end")
            draw.text(left + (index + 0.5) * cell, top + side + 17, str(layer), "quiet", size=12, anchor="middle")
    draw.text(left + side / 2, top + side + 38, "layer whose indices are read", size=13, anchor="middle")
    draw.text(26, top + side / 2, "layer that reads", size=13, anchor="middle", turned=True)

    if pattern:
        _frames(draw, pattern, layers, left, top, cell)
        draw.text(left + side / 2, top + side + 58, FRAMES,
                  "quiet", size=12, anchor="middle")  # fmt: skip
    steps = 60
    for step in range(steps):
        value = low + (1 - low) * (1 - (step + 0.5) / steps)
        draw.rect(bar_x, top + side * step / steps, 16, side / steps + 0.4, fill=_colour(value, low)[0])
    scale = Scale(low, 1.0, top + side, top)
    ticks = scale.ticks()
    for tick in ticks:
        draw.line(bar_x + 16, scale.at(tick), bar_x + 21, scale.at(tick), "axis")
        draw.text(bar_x + 25, scale.at(tick) + 4, label_of(tick, ticks), "quiet", size=12)
    return draw.svg(standalone=standalone)


def _colour(value: float, low: float) -> tuple[str, bool]:
    """The colour of a value in [low, 1], and whether it is a dark one."""
    part = min(max((value - low) / (1 - low) if low < 1 else 1.0, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    index = min(int(part), len(_CIVIDIS) - 2)
    mixed = [a + (b - a) * (part - index) for a, b in zip(_CIVIDIS[index], _CIVIDIS[index + 1])]
    bright = 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2]
    return "#" + "".join(f"{round(channel):02x}" for channel in mixed), bright < 118


def _frames(draw: Drawing, pattern: str, layers: Sequence[int], left: float, top: float, cell: float) -> None:
    place = {layer: index for index, layer in enumerate(layers)}
    for group in groups(pattern):
        inside = [place[layer] for layer in group if layer in place]
        if not inside:
            continue
        x, y, side = left + inside[0] * cell, top + inside[0] * cell, (inside[-1] - inside[0] + 1) * cell
        # Two strokes: one of them can be seen on any colour.
        draw.rect(x, y, side, side, fill="none", stroke="#ffffff", stroke_width=4.0)
        draw.rect(x, y, side, side, fill="none", stroke="#c2185b", stroke_width=2.0)
        if group[0] not in place:
            continue
        for row in inside[1:]:
            r = max(1.6, cell * 0.09)
            draw.rect(
                left + (place[group[0]] + 1) * cell - 2.4 * r - 1, top + row * cell + 1.4, 2 * r, 2 * r,
                fill="#c2185b", stroke="#ffffff", stroke_width=0.8, rx=float(r),
            )  # fmt: skip


@dataclass(frozen=True)
class Strip:
    """One pattern of a picture of strips, with what is written beside it."""

    name: str
    pattern: str
    loss: float | None = None


def strips(patterns: Sequence[Strip], *, title: str = "", loss_unit: str = "", standalone: bool = True) -> str:
    """Patterns below each other, one cell per layer: dark = Full, pale = Shared, a gap in front of each Full layer."""
    if not patterns:
        raise InputError("there is no pattern to draw")
    for strip in patterns:
        check_pattern(strip.pattern, strip.name)
    most = max(len(strip.pattern) for strip in patterns)
    cell = max(9.0, min(30.0, 860.0 / most))
    tall, step = min(26.0, max(18.0, cell)), min(26.0, max(18.0, cell)) + 8
    losses = any(strip.loss is not None for strip in patterns)
    left = 26 + max(text_width(strip.name, 13) for strip in patterns)
    behind = left + most * cell + 14
    title = title or "Patterns"
    shared = "Shared: reads the Full layer to its left"
    width = max(
        behind + (150 if losses else 70), left + text_width(title, 16) + 10, left + 200 + text_width(shared, 12)
    )
    top = 76.0
    draw = Drawing(width, top + step * len(patterns) + 44, title)
    draw.text(16, 28, title, size=16, bold=True)
    every = _label_every(most, most * cell, 22)
    for layer in range(0, most, every):
        draw.text(left + (layer + 0.5) * cell, top - 8, str(layer), "quiet", size=11, anchor="middle")
    draw.text(left - 10, top - 8, "layer", "quiet", size=11, anchor="end")
    draw.text(behind, top - 8, "Full", "quiet", size=11)
    if losses:
        draw.text(behind + 46, top - 8, "loss" + (f" ({loss_unit})" if loss_unit else ""), "quiet", size=11)
    for number, strip in enumerate(patterns):
        y = top + number * step
        draw.text(left - 10, y + tall / 2 + 4.5, strip.name, size=13, anchor="end")
        for group in groups(strip.pattern):
            for layer in group:
                full = layer == group[0]
                gap = 2.0 if full and layer else 0.0
                kind = "Full" if full else f"Shared, reads layer {group[0]}"
                draw.rect(
                    left + layer * cell + gap, y, cell - gap + (0.3 if layer + 1 < group.stop else 0.0), tall,
                    "full" if full else "shared", title=f"{strip.name}, layer {layer}: {kind}",
                )  # fmt: skip
                if cell >= 12:
                    draw.text(left + layer * cell + cell / 2 + gap / 2, y + tall / 2 + 4, strip.pattern[layer],
                              "on-full" if full else "on-shared", size=11, anchor="middle")  # fmt: skip
        draw.text(behind, y + tall / 2 + 4.5, str(strip.pattern.count("F")), size=13)
        if strip.loss is not None:
            draw.text(behind + 46, y + tall / 2 + 4.5, f"{strip.loss:.5g}", size=13)
    y = top + step * len(patterns) + 14
    draw.rect(left, y, 14, 14, "full")
    draw.text(left + 20, y + 11.5, "Full: runs its indexer", "quiet", size=12)
    draw.rect(left + 170, y, 14, 14, "shared")
    draw.text(left + 190, y + 11.5, shared, "quiet", size=12)
    return draw.svg(standalone=standalone)


def strips_of(plans: Sequence[Plan], num_full: Sequence[int] = ()) -> list[Strip]:
    """Patterns worth seeing: of each plan the best with these numbers of Full layers; without numbers a half, a quarter
    and an eighth of the layers, or the nearest that the plan has.
    """
    found = []
    for plan in plans:
        best = best_per_count(plan.steps)
        wanted = list(num_full) or [max(1, round(plan.num_layers / part)) for part in (2, 4, 8)]
        seen: set[str] = set()
        for count in wanted:
            candidates = [s for s in best if s.num_full < len(s.pattern)] or best
            step = min(candidates, key=lambda s: (abs(s.num_full - count), s.num_full), default=None)
            if step is None or step.pattern in seen or (num_full and step.num_full != count):
                continue
            seen.add(step.pattern)
            found.append(Strip(plan.name, step.pattern, step.loss))
    return sorted(found, key=lambda strip: -strip.pattern.count("F"))
