# SPDX-License-Identifier: Apache-2.0
"""The messages between the tool and an engine: one JSON object a line. docs/search-protocol.md is their description."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .checked import InputError, Reader, is_finite, kind_of
from .overlap import Matrix, Overlap

PROTOCOL = 1

# Fields of each message that an engine may send. Others are ignored, and the user is told once.
_FIELDS = {
    "ready": {"protocol", "engine", "num_layers", "metrics", "loss_unit"},
    "loss": {"id", "loss", "metrics", "tokens", "seconds"},
    "reject": {"id", "reason"},
    "overlap": {"layers", "k", "rows", "recall", "jaccard", "mass", "pattern", "engine"},
    "similarity": {"matrix"},
    "error": {"message"},
}


class EngineError(Exception):
    """An engine that cannot go on: it ended, broke the protocol, or said so."""


@dataclass(frozen=True)
class Evaluate:
    """Asks for the loss under a pattern. first_layer: the first layer whose mode is not that of `accepted`, the pattern
    that the search has accepted: an engine that keeps what went into each layer under it may start there.
    """

    id: int
    pattern: str
    first_layer: int = 0
    accepted: str = ""


@dataclass(frozen=True)
class Loss:
    """What an engine measured: the mean loss, other numbers by name, tokens that the mean is over, seconds that it
    took.
    """

    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Reject:
    """The pattern cannot be evaluated; the engine can go on with others."""

    reason: str = ""


@dataclass(frozen=True)
class Ready:
    """What an engine says of itself."""

    engine: str = ""
    num_layers: int = 0
    metrics: tuple[str, ...] = ()
    loss_unit: str = ""


def line(message: Mapping[str, Any]) -> str:
    """A message as it is sent."""
    return json.dumps(message, separators=(",", ":")) + "\n"


class Conversation:
    """Turns lines of an engine into answers. note: receives, once each, what the user should know but need not stop
    for.
    """

    def __init__(self, name: str, note: Callable[[str], None]) -> None:
        self.name = name
        self._note = note
        self._noted: set[str] = set()

    def note(self, what: str, words: str) -> None:
        """Says it, unless something of the kind `what` has been said already."""
        if what not in self._noted:
            self._noted.add(what)
            self._note(f"{self.name}: {words}")

    def parse(self, text: str) -> Reader | None:
        """A message; None for a line that is to be passed over."""
        text = text.strip()
        if not text:
            return None
        if not text.startswith("{"):
            self.note(
                "text", f"ignoring output that is not a message, such as {_short(text)}; messages are JSON objects"
            )
            return None
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{self.name} sent a line that is not JSON ({error}): {_short(text)}") from None
        kind = data.get("type")
        if not isinstance(kind, str):
            raise EngineError(f'{self.name} sent a message without "type": {_short(text)}')
        if kind not in _FIELDS:
            self.note(f"type {kind}", f"ignoring messages of the unknown type {kind!r}; known are {', '.join(_FIELDS)}")
            return None
        for name in data.keys() - _FIELDS[kind] - {"type"}:
            self.note(f"field {kind}.{name}", f"ignoring the unknown field {name!r} of {kind!r} messages")
        return Reader(data, f"{self.name}: {kind} message")

    def ready(self, reader: Reader) -> Ready:
        protocol = reader.whole("protocol", PROTOCOL)
        if protocol != PROTOCOL:
            raise EngineError(f"{self.name} speaks protocol {protocol}; this program speaks {PROTOCOL}")
        metrics = reader.data.get("metrics") or []
        if not isinstance(metrics, list) or not all(isinstance(name, str) for name in metrics):
            reader.refuse("metrics", "an array of names")
        num_layers = reader.whole("num_layers", 0)
        if num_layers < 0:
            reader.refuse("num_layers", "at least 1")
        return Ready(reader.text("engine", ""), num_layers, tuple(metrics), reader.text("loss_unit", ""))

    def answer(self, reader: Reader, asked: int) -> Loss | Reject:
        """The answer to an evaluation. A loss that is no finite number is a rejection."""
        told = reader.whole("id")
        if told != asked:
            raise EngineError(f"{self.name} answered id {told}; it was asked for id {asked}")
        if reader.data["type"] == "reject":
            return Reject(reader.text("reason", ""))
        value = reader.data.get("loss")
        if value is None and "loss" in reader.data or isinstance(value, (int, float)) and not is_finite(value):
            self.note("finite", f"a loss is {kind_of(value)}; such patterns count as rejected")
            return Reject(f"the loss is {kind_of(value)}")
        seconds = reader.optional_number("seconds")
        return Loss(reader.number("loss"), reader.numbers("metrics"), reader.whole("tokens", 0), seconds)

    def overlap(self, reader: Reader, engine: str, pattern: str) -> Overlap:
        return Overlap.from_dict({"pattern": pattern, "engine": engine, **reader.data}, reader.where, is_file=False)

    def similarity(self, reader: Reader, num_layers: int) -> Matrix:
        matrix = reader.matrix("matrix", num_layers)
        if matrix is None:
            reader.refuse("matrix", f"an array of {num_layers} rows")
        return check_similarity(matrix, reader.where)


def check_similarity(matrix: Matrix, where: str) -> Matrix:
    """Refuses a matrix that misses an entry of layer l with those of an earlier layer j."""
    for row, entries in enumerate(matrix):
        for column in range(row):
            if entries[column] is None:
                raise InputError(
                    f"{where}: matrix[{row}][{column}] is no finite number; those with column < row are needed"
                )
    return matrix


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:117] + "...")
