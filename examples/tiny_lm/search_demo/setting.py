# SPDX-License-Identifier: Apache-2.0
"""What the experiment runs on: rows of text that no two purposes share, and how much of everything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rows:
    """Rows of the model's own text and recall files, as tiny_lm's options name them."""

    text: str
    recall: str

    @property
    def words(self) -> str:
        return f"text rows {self.text}, recall rows {self.recall}"


@dataclass(frozen=True)
class Setting:
    """calibration_a, calibration_b: what patterns are searched on. report: what all of them are compared on; the three have
    no byte of text in common (recall row r is text from byte 1931 r, row 0, 4 and 7 lie inside A, B and the report rows).
    counts: numbers of Full layers that are compared. random_patterns: for each of them.
    """

    calibration_a: Rows = Rows("0-2", "0")
    calibration_b: Rows = Rows("3-5", "4")
    report: Rows = Rows("6-9", "7")
    counts: tuple[int, ...] = (8, 5, 3)
    blocks: tuple[int, ...] = (2, 4)
    freqs: tuple[int, ...] = (2, 4, 8)
    random_patterns: int = 64
    seed: int = 1
    quick: bool = False


FULL = Setting()
QUICK = Setting(
    calibration_a=Rows("0", "0"),
    calibration_b=Rows("3", "4"),
    report=Rows("6-7", "7"),
    random_patterns=16,
    quick=True,
)
