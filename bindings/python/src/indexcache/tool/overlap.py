# SPDX-License-Identifier: Apache-2.0
"""How much the layers of a model select the same keys: the picture of which layers may share."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

from .checked import InputError, Reader, read_text

FORMAT = "indexcache-overlap"
VERSION = 1

ROUNDING = 1e-3  # by which a mean of shares may be off

Matrix = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Overlap:
    """Means over rows, for each pair of layers; entry [i][j] is about layer i reading the indices of layer j.

    layers: the layer of each row and column. recall: share of layer i's own k keys that are among layer j's. jaccard:
    common keys by all keys of both. mass: share of layer i's attention weight that lies on layer j's keys. A matrix
    that was not measured is None, and so is an entry. k: keys per row. rows: query rows that the means are over.
    pattern: the schedule that the model ran under.
    """

    layers: tuple[int, ...]
    recall: Matrix | None = None
    jaccard: Matrix | None = None
    mass: Matrix | None = None
    k: int = 0
    rows: int = 0
    pattern: str = ""
    engine: str = ""

    def matrices(self) -> dict[str, Matrix]:
        """Those that were measured, by name."""
        named = {"recall": self.recall, "jaccard": self.jaccard, "mass": self.mass}
        return {name: matrix for name, matrix in named.items() if matrix is not None}

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Any, where: str = "overlap", *, is_file: bool = True) -> Overlap:
        """is_file: the data says what it is; else it is an engine's message."""
        reader = Reader.of(data, where)
        if is_file:
            reader.format(FORMAT, VERSION)
        layers = reader.data.get("layers")
        if not isinstance(layers, list) or not layers or not all(type(x) is int and x >= 0 for x in layers):
            reader.refuse("layers", "an array of layer numbers")
        result = cls(
            layers=tuple(layers),
            recall=reader.matrix("recall", len(layers)),
            jaccard=reader.matrix("jaccard", len(layers)),
            mass=reader.matrix("mass", len(layers)),
            k=reader.whole("k", 0),
            rows=reader.whole("rows", 0),
            pattern=reader.text("pattern", ""),
            engine=reader.text("engine", ""),
        )
        for name, matrix in result.matrices().items():
            for i, row in enumerate(matrix):
                for j, value in enumerate(row):
                    if value is not None and not -ROUNDING <= value <= 1 + ROUNDING:
                        raise InputError(f"{where}: {name}[{i}][{j}] is {value:g}; it must be a share, 0 to 1")
        if not result.matrices():
            raise InputError(f"{where}: none of recall, jaccard and mass is given; at least one must be")
        return result


def load_overlap(path: str | os.PathLike[str]) -> Overlap:
    """Reads what `indexcache overlap --json` printed."""
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    return Overlap.from_dict(data, str(path))
