# SPDX-License-Identifier: Apache-2.0
"""One HTML file with everything that searches and measurements found. It refers to nothing outside of itself."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from . import plot
from .checked import InputError, Reader
from .overlap import Overlap
from .plan import Plan, Step, replace_file
from .svg import FONT, MONO, STYLE

FORMAT = "indexcache-report"
VERSION = 1


@dataclass(frozen=True)
class Report:
    """What a report shows; everything but the plans or the overlap may be left out.

    title, notes: text; a note is a paragraph below the title. plans: one line of the picture each, a random one a band;
    the first plan's steps are the trajectory. overlap: the heat map, with the groups of `groups_of`. patterns: the
    strips; default: of each plan those with about a half, a quarter and an eighth of the layers Full. tables: further
    tables by their headings, each a list of rows with the same keys.
    """

    title: str
    plans: Sequence[Plan] = ()
    overlap: Overlap | None = None
    groups_of: str = ""
    patterns: Sequence[plot.Strip] = ()
    notes: Sequence[str] = ()
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "title": self.title,
            "notes": list(self.notes),
            "plans": [plan.to_dict() for plan in self.plans],
            "overlap": self.overlap.to_dict() if self.overlap else None,
            "groups_of": self.groups_of,
            "patterns": [{"name": s.name, "pattern": s.pattern, "loss": s.loss} for s in self.patterns],
            "tables": {heading: [dict(row) for row in rows] for heading, rows in self.tables.items()},
        }

    @classmethod
    def from_dict(cls, data: Any, where: str = "report") -> Report:
        reader = Reader.of(data, where).format(FORMAT, VERSION)
        overlap = reader.data.get("overlap")
        return cls(
            title=reader.text("title"),
            plans=[Plan.from_dict(r.data, r.where) for r in reader.objects("plans")],
            overlap=Overlap.from_dict(overlap, f"{where}: overlap") if overlap is not None else None,
            groups_of=reader.text("groups_of", ""),
            patterns=[
                plot.Strip(r.text("name"), r.pattern("pattern"), r.optional_number("loss"))
                for r in reader.objects("patterns")
            ],
            notes=[str(note) for note in reader.data.get("notes") or []],
            tables=dict(reader.mapping("tables")),
        )


def pictures(report: Report, *, standalone: bool = True) -> dict[str, str]:
    """The report's pictures as SVG text, by name, in the order of the report."""
    found: dict[str, str] = {}
    plans = [plan for plan in report.plans if plan.steps]
    if plans:
        found["loss"] = plot.curve(plans, standalone=standalone)
        if any(step.num_full == len(step.pattern) for plan in plans for step in plan.steps) or any(
            plan.baseline_loss is not None for plan in plans
        ):
            with contextlib.suppress(InputError):  # no pattern shares anything
                found["increase"] = plot.curve(plans, increase=True, standalone=standalone)
        for name in dict.fromkeys(name for plan in plans for name in plan.metric_names):
            if sum(name in step.metrics for plan in plans for step in plan.steps) > 1:
                found[name] = plot.curve(plans, value=name, standalone=standalone)
    patterns = report.patterns or plot.strips_of(plans)
    if patterns:
        unit = next((plan.loss_unit for plan in plans if plan.loss_unit), "")
        found["patterns"] = plot.strips(patterns, loss_unit=unit, standalone=standalone)
    if report.overlap:
        for name in report.overlap.matrices():
            found[f"overlap-{name}"] = plot.heatmap(
                report.overlap, matrix=name, pattern=report.groups_of, standalone=standalone
            )
    return found


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Writes the HTML file; a file that is there is replaced."""
    replace_file(path, to_html(report))


def to_html(report: Report) -> str:
    """The report as the text of an HTML page."""
    if not report.plans and not report.overlap and not report.patterns:
        raise InputError("the report has neither plans nor patterns nor an overlap: there is nothing to show")
    body = [f"<h1>{escape(report.title)}</h1>"]
    body += [f"<p>{escape(note)}</p>" for note in report.notes]
    if report.plans:
        body.append(_summary(report.plans))
    drawn = pictures(report, standalone=False)
    overlap_seen = False
    for name, svg in drawn.items():
        if name.startswith("overlap-") and not overlap_seen:
            overlap_seen = True
            body.append("<h2>Which layers select the same keys</h2>")
            body.append(f"<p>{escape(OVERLAP_CAUTION)}</p>")
        elif name == "loss":
            body.append("<h2>What sharing costs</h2>")
        body.append(f'<figure id="{escape(name)}">{svg}</figure>')
    for plan in report.plans:
        body.append(_trajectory(plan))
    for heading, rows in report.tables.items():
        body.append(f"<h2>{escape(heading)}</h2>{_table(rows)}")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.title)}</title>\n<style>{_PAGE}{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + '\n<script type="application/json" id="data">'
        + json.dumps(report.to_dict()).replace("<", "\\u003c")
        + "</script>\n</body>\n</html>\n"
    )


OVERLAP_CAUTION = (
    "Overlap tells where sharing has a chance. It does not tell what sharing costs: a few missed keys barely change an "
    "overlap, and their error grows through later layers. Choose patterns by measured loss."
)


def _summary(plans: Sequence[Plan]) -> str:
    rows = []
    for plan in plans:
        if not plan.steps:
            continue
        last = min(plan.steps, key=lambda step: (step.num_full, step.loss))
        row: dict[str, Any] = {"search": plan.name, "layers": plan.num_layers}
        if plan.baseline_loss is not None:
            row[f"loss, start{f' ({plan.loss_unit})' if plan.loss_unit else ''}"] = plan.baseline_loss
        row["fewest Full"] = last.num_full
        row["loss there"] = last.loss
        if plan.loss_limit is not None:
            inside = plan.within(plan.loss_limit)
            row["budget"] = f"{plan.loss_budget:+g}"
            row["fewest Full in budget"] = inside.num_full if inside else "none"
        if plan.evaluations:
            row["evaluations"] = plan.evaluations
        if plan.seconds:
            row["time"] = duration(plan.seconds)
        rows.append(row)
    return _table(rows)


def _trajectory(plan: Plan) -> str:
    base = plan.baseline_loss
    rows = [trajectory_row(step, base) for step in plan.steps]
    if not rows:
        return ""
    opened = " open" if len(rows) <= 24 else ""
    return f"<details{opened}><summary>Steps: {escape(plan.name)}</summary>{_table(rows)}</details>"


def trajectory_row(step: Step, base: float | None) -> dict[str, Any]:
    """A line of the table of a plan's steps."""
    row: dict[str, Any] = {"Full": step.num_full, "made Shared": "" if step.layer is None else f"layer {step.layer}"}
    row["loss"] = step.loss
    if base is not None:
        row["change"] = f"{step.loss - base:+.5f}"
    return row | dict(step.metrics) | {"pattern": step.pattern}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = []
    for row in rows:
        cells = []
        for name in columns:
            value = row.get(name, "")
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            kind = ' class="number"' if isinstance(value, (int, float)) or shown[:1] in "+-" else ""
            kind = ' class="pattern"' if shown and not shown.strip("FS") else kind
            cells.append(f"<td{kind}>{escape(shown)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def duration(seconds: float) -> str:
    """As people say it: "850 ms", "1.4 s", "42 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(seconds / 60)} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


_PAGE = (
    f"body{{font:15px/1.5 {FONT};max-width:1080px;margin:2rem auto;padding:0 1rem;background:#fff;color:#1c2127}}"
    "h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2.2rem}"
    "figure{margin:1rem 0;overflow-x:auto}svg{max-width:100%;height:auto;display:block}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}"
    "th,td{padding:.25rem .7rem;text-align:left;border-bottom:1px solid #dde2e7;white-space:nowrap}"
    "th{color:#566069;font-weight:600}td.number{text-align:right}"
    f"td.pattern{{font-family:{MONO};letter-spacing:.06em}}"
    ".wide{overflow-x:auto}details{margin:1rem 0}summary{cursor:pointer;font-weight:600}"
    "@media (prefers-color-scheme:dark){body{background:#14181d;color:#e8ebef}"
    "th,td{border-color:#2f363e}th{color:#a3adb8}}"
)
