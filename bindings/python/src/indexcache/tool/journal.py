# SPDX-License-Identifier: Apache-2.0
"""The journal of a search on disk: every answer is there before the next question, so that any end can be resumed from.

FILE has what indexcache.Search needs to go on. FILE.answers, beside it, has what it does not need: metrics, times,
reasons of rejections, and what the engine said of itself; one JSON object a line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checked import InputError, Reader
from .overlap import Matrix
from .protocol import line


def answers_path(journal: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(journal)}.answers")


class Journal:
    """Both files, open for appending; nobody else may write them meanwhile."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._files: list[int] = []
        try:
            self._journal = self._open(self.path)
            try:
                fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{path}: another search is writing this journal") from None
            self._answers = self._open(answers_path(self.path))
            whole = answers_path(self.path).read_bytes().rfind(b"\n") + 1
            os.ftruncate(self._answers, whole)  # a killed process may have left a half-written line
            self.content = self.path.read_bytes()
            self.answers = read_answers(self.path)
        except OSError as error:
            self.close()
            raise InputError(f"{path}: cannot be used as a journal: {error.strerror}") from None
        except InputError:
            self.close()
            raise

    def _open(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        self._files.append(descriptor)
        return descriptor

    def resume(self, valid_bytes: int) -> None:
        """Cuts off what a killed process has left half written; the search knows where."""
        os.ftruncate(self._journal, valid_bytes)

    def append(self, journal: bytes) -> None:
        self._write(self._journal, journal)

    def append_answer(self, message: Mapping[str, Any]) -> None:
        """Before the journal's own line: what the journal has, this has too."""
        self._write(self._answers, line(message).encode())

    def _write(self, descriptor: int, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        except OSError as error:
            raise InputError(f"{self.path}: the journal cannot be written: {error.strerror}") from None

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())


class Answers:
    """What FILE.answers says: the engine, the similarity matrix if one was asked for, the last answer to each
    candidate.
    """

    def __init__(self) -> None:
        self.engine: dict[str, Any] = {}
        self.similarity: Matrix | None = None
        self._by_id: dict[int, dict[str, Any]] = {}

    def add(self, message: dict[str, Any]) -> None:
        kind, id = message.get("type"), message.get("id")
        if kind == "ready":
            self.engine = message
        elif kind == "similarity":
            matrix = message.get("matrix") or ()
            with contextlib.suppress(InputError):
                self.similarity = Reader(message, "similarity").matrix("matrix", len(matrix))
        elif isinstance(id, int):
            self._by_id[id] = message

    def metrics(self, id: int) -> dict[str, float]:
        with contextlib.suppress(InputError):
            return Reader(self._by_id.get(id, {}), "answer").numbers("metrics")
        return {}

    def seconds(self, id: int) -> float:
        with contextlib.suppress(InputError):
            return Reader(self._by_id.get(id, {}), "answer").number("seconds", 0.0)
        return 0.0


def read_answers(journal: str | os.PathLike[str]) -> Answers:
    """The file beside a journal; without it, or where it is damaged, there are fewer answers."""
    found = Answers()
    path = answers_path(journal)
    if path.exists():
        for raw in path.read_bytes().split(b"\n"):
            try:
                message = json.loads(raw)
            except ValueError:
                continue
            if isinstance(message, dict):
                found.add(message)
    return found
