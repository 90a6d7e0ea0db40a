# SPDX-License-Identifier: Apache-2.0
"""Reading JSON of others: every wrong value is refused with its place, what it is and what is allowed."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn


class InputError(ValueError):
    """Something given to the program cannot be used; the message says what, and what is allowed."""


_MISSING: Any = object()


def kind_of(value: Any) -> str:
    """What JSON calls it, short enough for a message."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"an array of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_finite(value: float) -> bool:
    """Also of integers that no float can hold, which JSON allows."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def check_pattern(text: str, where: str, num_layers: int = 0) -> str:
    """A text of the letters F and S, of num_layers letters when that is given."""
    for position, letter in enumerate(text):
        if letter not in "FS":
            raise InputError(f"{where}: letter {position} of the pattern {text!r} is {letter!r}; allowed are F and S")
    if not text:
        raise InputError(f"{where}: the pattern is empty; it has one letter, F or S, per layer")
    if num_layers and len(text) != num_layers:
        raise InputError(f"{where}: the pattern has {len(text)} letters; the model has {num_layers} layers")
    return text


class Reader:
    """An object of JSON; `where` names it in messages."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = data
        self.where = where

    @classmethod
    def of(cls, data: Any, where: str) -> Reader:
        if not isinstance(data, Mapping):
            raise InputError(f"{where} is {kind_of(data)}; it must be an object")
        return cls(data, where)

    def refuse(self, name: str, allowed: str) -> NoReturn:
        if name not in self.data:
            raise InputError(f"{self.where}: {name} is missing; it must be {allowed}")
        raise InputError(f"{self.where}: {name} is {kind_of(self.data[name])}; it must be {allowed}")

    def format(self, name: str, version: int) -> Reader:
        """Checks the fields that say what the file is."""
        if self.data.get("format") != name:
            self.refuse("format", f'"{name}"')
        if self.data.get("version") != version:
            self.refuse("version", f"{version}, which is what this program reads")
        return self

    def _get(self, name: str, default: Any) -> Any:
        value = self.data.get(name)
        return default if value is None and default is not _MISSING else value

    def text(self, name: str, default: str = _MISSING) -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            self.refuse(name, "a text")
        return value

    def pattern(self, name: str, num_layers: int = 0) -> str:
        return check_pattern(self.text(name), f"{self.where}: {name}", num_layers)

    def whole(self, name: str, default: int = _MISSING) -> int:
        value = self._get(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # awk and JavaScript have no other numbers
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(name, "a whole number")
        return value

    def number(self, name: str, default: float = _MISSING) -> float:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(name, "a number")
        if not is_finite(value):
            self.refuse(name, "a finite number")
        return float(value)

    def optional_whole(self, name: str) -> int | None:
        return None if self.data.get(name) is None else self.whole(name)

    def optional_number(self, name: str) -> float | None:
        return None if self.data.get(name) is None else self.number(name)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object; empty when it is not there."""
        value = self._get(name, {})
        if not isinstance(value, Mapping):
            self.refuse(name, "an object")
        return value

    def numbers(self, name: str) -> dict[str, float]:
        """An object of numbers; those that are null or not finite are left out."""
        inner = Reader(self.mapping(name), f"{self.where}: {name}")
        found = {}
        for key, value in inner.data.items():
            if value is None or (isinstance(value, (int, float)) and not is_finite(value)):
                continue
            found[key] = inner.number(key)
        return found

    def objects(self, name: str) -> list[Reader]:
        value = self.data.get(name)
        if not isinstance(value, list):
            self.refuse(name, "an array of objects")
        return [Reader.of(entry, f"{self.where}: {name}[{index}]") for index, entry in enumerate(value)]

    def matrix(self, name: str, size: int) -> tuple[tuple[float | None, ...], ...] | None:
        """size rows of size numbers or nulls; None when it is not there."""
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != size:
            self.refuse(name, f"an array of {size} rows, one per layer")
        rows = []
        for index, row in enumerate(value):
            if not isinstance(row, list) or len(row) != size:
                raise InputError(
                    f"{self.where}: {name}[{index}] is {kind_of(row)}; it must be an array of {size} numbers"
                )
            for column, entry in enumerate(row):
                if isinstance(entry, bool) or not (entry is None or isinstance(entry, (int, float))):
                    raise InputError(
                        f"{self.where}: {name}[{index}][{column}] is {kind_of(entry)}; it must be a number or null"
                    )
            rows.append(tuple(None if x is None or not is_finite(x) else float(x) for x in row))
        return tuple(rows)


def read_text(path: str | os.PathLike[str]) -> str:
    """A text file, or an InputError that names it."""
    try:
        return Path(path).read_text()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text file") from None
