# SPDX-License-Identifier: Apache-2.0
"""Files that hold results, told apart by their content: plans, journals, overlaps, reports."""

from __future__ import annotations

import json

from . import overlap, plan, report
from .checked import InputError, read_text
from .overlap import Overlap
from .plan import Plan
from .report import Report
from .search import load_journal


def load_result(path: str) -> Plan | Overlap | Report:
    """A result of any kind; the journal of a search as the plan that it makes."""
    text = read_text(path)
    try:
        data = json.loads(text)
    except ValueError:  # lines of JSON, or nothing that we know
        return load_journal(path)
    if not isinstance(data, dict) or "format" not in data:
        return load_journal(path)
    if data["format"] == overlap.FORMAT:
        return Overlap.from_dict(data, path)
    if data["format"] == report.FORMAT:
        return Report.from_dict(data, path)
    if data["format"] == plan.FORMAT:
        return Plan.from_dict(data, path)
    known = ", ".join(f'"{name}"' for name in (plan.FORMAT, overlap.FORMAT, report.FORMAT))
    raise InputError(f"{path}: format is {data['format']!r}; allowed are {known}, and journals")


def load_plan_or_journal(path: str) -> Plan:
    found = load_result(path)
    if not isinstance(found, Plan):
        raise InputError(f"{path} is not a plan")
    return found
