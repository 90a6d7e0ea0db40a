# SPDX-License-Identifier: Apache-2.0
"""indexcache show"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from . import quality
from .checked import InputError, check_pattern
from .engine_options import count
from .overlap import Overlap
from .picture_options import add_picture_options, write_pictures
from .plan import Plan
from .plan_files import load_result
from .plot import Strip, strips_of
from .report import Report, trajectory_row
from .table import table

DESCRIPTION = """\
Prints what searches have found, one step a line, and draws it: loss by number of Full layers, the patterns, and the
overlap of layers with the groups of a pattern drawn in. FILE is a plan, the journal of a search (also of one that is
running), what indexcache overlap --json has printed, or a report.
"""

EXAMPLES = """\
examples:
  indexcache show plan.json
  indexcache show s.jsonl --html report.html
        how far is the search?
  indexcache show greedy.json uniform.json random.json overlap.json --groups 8 --html report.html
        several searches in one picture, and the overlap with the groups of the first plan's pattern with 8 Full layers
  indexcache show s.jsonl --json > plan.json
        a journal as a plan

exit status: 0 fine, 2 wrong arguments.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "show",
        help="print and draw what searches have found",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--title", default="", help="of the report")
    parser.add_argument(
        "--note", action="append", default=[], help="a paragraph of the report; may be given several times"
    )
    parser.add_argument(
        "--num-full",
        type=count,
        action="append",
        default=[],
        metavar="N",
        help="draw the patterns with N Full layers; may be repeated (default: about a half, a quarter, an eighth)",
    )
    parser.add_argument(
        "--groups",
        default="",
        metavar="N|PATTERN",
        help="whose groups the overlap shows: of the first plan's pattern with N Full",
    )
    parser.add_argument("--json", action="store_true", help="print one plan as a plan, several files as a report")
    add_picture_options(parser)


def run(options: argparse.Namespace) -> int:
    report = assemble(options)
    if options.json:
        alone = len(report.plans) == 1 and not report.overlap
        print(json.dumps(report.plans[0].to_dict() if alone else report.to_dict()))
    else:
        for index, plan in enumerate(report.plans):
            print(("\n" if index else "") + heading(plan))
            print(table([trajectory_row(step, plan.baseline_loss) for step in plan.steps]), end="")
            for warning in quality.warnings(plan):
                print(warning, file=sys.stderr)
    write_pictures(options, report, lambda text: print(text, file=sys.stderr))
    return 0


def assemble(options: argparse.Namespace) -> Report:
    """One report of all files."""
    plans: list[Plan] = []
    overlap: Overlap | None = None
    patterns: list[Strip] = []
    title, notes, groups = options.title, list(options.note), options.groups
    tables: dict[str, Sequence[Mapping[str, Any]]] = {}
    for path in options.files:
        found = load_result(path)
        if isinstance(found, Plan):
            plans.append(found)
            continue
        if isinstance(found, Report):
            plans += found.plans
            patterns += found.patterns
            notes = [*found.notes, *notes]
            title, groups = title or found.title, groups or found.groups_of
            tables |= found.tables
        measured = found.overlap if isinstance(found, Report) else found
        if measured is not None and overlap is not None:
            raise InputError(f"{path}: is a second overlap; a report shows one")
        overlap = measured or overlap
    for path, plan in zip(options.files, plans):
        if not plan.steps:
            raise InputError(f"{path}: has no losses yet")
    if groups.isdecimal():
        if not plans:
            raise InputError(
                f"--groups {groups} means the pattern with {groups} Full layers of a plan, and there is no plan"
            )
        groups = plans[0].at(int(groups)).pattern
    elif groups:
        check_pattern(groups, "--groups")
    if options.num_full:
        patterns = strips_of(plans, options.num_full)
        if not patterns:
            raise InputError(
                f"--num-full: no plan has a pattern with {' or '.join(map(str, options.num_full))} Full layers"
            )
    engine = next((plan.engine for plan in plans if plan.engine), "")
    title = title or "Which layers can share their indices" + (f": {engine}" if engine else "")
    return Report(title, plans, overlap, groups, patterns, notes, tables)


def heading(plan: Plan) -> str:
    facts = [plan.name, f"{plan.num_layers} layers", f"{plan.evaluations} evaluations"]
    if plan.engine:
        facts.append(f"engine {plan.engine}")
    if plan.loss_unit:
        facts.append(f"loss in {plan.loss_unit}")
    if plan.loss_budget is not None:
        facts.append(f"budget {plan.loss_budget:+g}")
    if plan.state == "running":
        facts.append("not finished")
    return ", ".join(facts)
