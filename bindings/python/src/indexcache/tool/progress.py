# SPDX-License-Identifier: Apache-2.0
"""How far a search is and how long it will take: a line that is redrawn on a terminal, else a line now and then."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TextIO

from .report import duration

EVERY_SECONDS = 15.0  # between lines, where they cannot be redrawn


class Progress:
    """Lines on stderr; notes of other threads do not tear it."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._quiet = quiet
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self._last = -EVERY_SECONDS if not quiet else 0.0
        self._shown = ""
        self._first_done = 0
        self._ended = False

    def start(self, done: int) -> None:
        """done: evaluations that were there already and say nothing about time."""
        self._begin = time.monotonic()
        self._first_done = done

    def update(self, done: int, total: int, words: str) -> None:
        """done of total evaluations; words: what else there is to say."""
        if self._quiet:
            return
        now = time.monotonic()
        if not self._terminal and now - self._last < EVERY_SECONDS and (done < total or self._ended):
            return
        self._ended = done >= total
        self._last = now
        text = f"{done}/{total} evaluations" if not self._terminal else f"{_bar(done, total)} {done}/{total}"
        here, left = done - self._first_done, total - done
        if here > 0 and left > 0:
            each = (now - self._begin) / here
            text += f", {duration(each * left)} left, {duration(each)} each"
        with self._lock:
            self._draw(f"{text} | {words}" if words else text)

    def note(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            self._erase()
            self._stream.write(text + "\n")
            if self._shown:
                self._stream.write(self._shown)
            self._stream.flush()

    def finish(self) -> None:
        """Leaves the line as it is, and goes on below."""
        with self._lock:
            if self._terminal and self._shown:
                self._stream.write("\n")
                self._stream.flush()
            self._shown = ""

    def _draw(self, text: str) -> None:
        if not self._terminal:
            self._stream.write(text + "\n")
        else:
            width = shutil.get_terminal_size().columns - 1
            self._erase()
            self._shown = text if len(text) <= width else text[: max(width - 3, 0)] + "..."
            self._stream.write(self._shown)
        self._stream.flush()

    def _erase(self) -> None:
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")


def _bar(done: int, total: int, width: int = 12) -> str:
    full = width * done // max(total, 1)
    return "[" + "#" * full + "-" * (width - full) + "]"
