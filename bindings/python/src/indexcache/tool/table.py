# SPDX-License-Identifier: Apache-2.0
"""Tables for terminals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with their columns below each other, numbers to the right; the columns are the keys in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name, "")) for name in columns] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    right = [any(isinstance(row.get(name), (int, float)) or _signed(row.get(name)) for row in rows) for name in columns]

    def joined(line: Sequence[str]) -> str:
        words = (w.rjust(n) if r else w.ljust(n) for w, n, r in zip(line, widths, right))
        return "  ".join(words).rstrip() + "\n"

    return joined(columns) + "".join(joined(line) for line in cells)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5f}" if isinstance(value, float) else str(value)


def _signed(value: Any) -> bool:
    return isinstance(value, str) and value[:1] in ("+", "-") and value[1:2].isdigit()
