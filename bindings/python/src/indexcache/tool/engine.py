# SPDX-License-Identifier: Apache-2.0
"""What evaluates patterns: the interface, programs that speak the protocol, and plug-ins."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, Protocol

from .checked import InputError, Reader
from .overlap import Matrix, Overlap
from .protocol import Conversation, EngineError, Evaluate, Loss, Ready, Reject, line

ENTRY_POINTS = "indexcache.engines"
GRACE_SECONDS = 5.0  # for an engine to end after "quit"


class Engine(Protocol):
    """Runs a model under patterns. Calls come one at a time; several engines are called from several threads.

    A package offers one as an entry point of the group "indexcache.engines": a callable that takes the text behind
    NAME: of `--plugin NAME:TEXT` and returns an Engine.
    """

    @property
    def name(self) -> str:
        """For messages and plans."""

    @property
    def num_layers(self) -> int:
        """Letters of a pattern: the layers that have an indexer. Raises EngineError when the engine did not start."""

    @property
    def loss_unit(self) -> str:
        """For axes, such as "nats/token"; may be empty."""

    def evaluate(self, request: Evaluate) -> Loss | Reject:
        """The mean loss over fixed calibration data, long ones (far more keys than top-k), under the pattern. Raises
        EngineError when the engine cannot go on.
        """

    def overlap(self, pattern: str) -> Overlap:
        """How much the layers select the same keys, when the model runs under the pattern."""

    def similarity(self) -> Matrix:
        """[l][j], j < l: how alike layer l's attention output with its own indices is to that with layer j's."""

    def close(self) -> None:
        """Ends it, also after an EngineError. May be called again, and, when a search with several engines is
        interrupted, while evaluate() runs in another thread, which is then to end soon.
        """


class Channel(Protocol):
    """Where lines go to and come from."""

    def send(self, text: str) -> None:
        """Raises EngineError when nobody listens any more."""

    def receive(self, timeout: float | None) -> str | None:
        """The next line; None at the end. Raises TimeoutError."""

    def ended(self) -> str:
        """How it ended, for a message."""

    def close(self, *, busy: bool) -> None:
        """busy: the other side has not answered and is not worth waiting for."""


class LineEngine:
    """An engine behind lines of JSON. num_layers: 0 = it must say so in a "ready" message, which is waited for where it
    is needed first, so that several engines load their models at the same time; else that message may be missing, or
    come with the first answer. timeout: seconds for one answer.
    """

    def __init__(
        self,
        channel: Channel,
        name: str,
        *,
        num_layers: int = 0,
        timeout: float | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._channel = channel
        self._talk = Conversation(name, note)
        self._timeout = timeout
        self._num_layers = num_layers
        self._ready: Ready | None = None
        self._busy = not num_layers  # with starting, or with a request that it has not answered

    @property
    def name(self) -> str:
        return (self._ready.engine if self._ready else "") or self._talk.name

    @property
    def num_layers(self) -> int:
        if not self._num_layers:
            self._await("ready")
            self._busy = False
        return self._num_layers

    @property
    def loss_unit(self) -> str:
        return self._ready.loss_unit if self._ready else ""

    def evaluate(self, request: Evaluate) -> Loss | Reject:
        message = {"id": request.id, "pattern": request.pattern, "first_layer": request.first_layer}
        reader = self._ask("evaluate", {**message, "accepted": request.accepted}, "loss", "reject")
        with _faults_of_the_engine():
            return self._talk.answer(reader, request.id)

    def overlap(self, pattern: str) -> Overlap:
        reader = self._ask("overlap", {"pattern": pattern}, "overlap")
        with _faults_of_the_engine():
            found = self._talk.overlap(reader, self.name, pattern)
        if max(found.layers) >= self._num_layers:
            raise EngineError(
                f"{reader.where}: layers has {max(found.layers)}; the model has {self._num_layers} layers"
            )
        return found

    def similarity(self) -> Matrix:
        reader = self._ask("similarity", {}, "similarity")
        with _faults_of_the_engine():
            return self._talk.similarity(reader, self._num_layers)

    def close(self) -> None:
        if not self._busy:  # else it would not hear
            with contextlib.suppress(EngineError):
                self._channel.send(line({"type": "quit"}))
        self._channel.close(busy=self._busy)

    def _ask(self, kind: str, fields: dict[str, Any], *answers: str) -> Reader:
        _ = self.num_layers
        self._busy = True
        self._channel.send(line({"type": kind, **fields}))
        reader = self._await(*answers)
        self._busy = False
        return reader

    def _await(self, *answers: str) -> Reader:
        """The next message of one of these types."""
        until = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            try:
                text = self._channel.receive(None if until is None else until - time.monotonic())
            except TimeoutError:
                raise EngineError(f"{self._talk.name} has not answered for {self._timeout:g} s (--timeout)") from None
            if text is None:
                raise EngineError(f"{self._talk.name} {self._channel.ended()} before it sent {_either(answers)}")
            with _faults_of_the_engine():
                reader = self._talk.parse(text)
            if reader is None:
                continue
            kind = reader.data["type"]
            if kind == "error":
                raise EngineError(f"{self._talk.name} says: {reader.data.get('message') or 'error'}")
            if kind == "ready":
                with _faults_of_the_engine():
                    self._take(self._talk.ready(reader))
            if kind in answers:
                return reader
            if kind != "ready":
                raise EngineError(f"{self._talk.name} sent {kind!r}; it was asked for {_either(answers)}")

    def _take(self, ready: Ready) -> None:
        self._ready = ready
        if not self._num_layers and not ready.num_layers:
            raise EngineError(f'{self._talk.name} sent "ready" without num_layers; --num-layers can give it')
        if self._num_layers and ready.num_layers not in (0, self._num_layers):
            raise EngineError(f"{self._talk.name} has {ready.num_layers} layers; {self._num_layers} are asked for")
        self._num_layers = self._num_layers or ready.num_layers


@contextlib.contextmanager
def _faults_of_the_engine() -> Iterator[None]:
    """A message with a wrong value is a fault of the engine, not of the user's input."""
    try:
        yield
    except InputError as error:
        raise EngineError(str(error)) from None


def _either(kinds: Sequence[str]) -> str:
    return " or ".join(f'"{kind}"' for kind in kinds)


class ChildEngine(LineEngine):
    """Starts a program and speaks with it over its standard input and output. What it writes to its standard error goes
    to `stderr`, line by line.

    command: as one writes it in a shell, without a shell's pipes and variables (sh -c '...' has them).
    """

    def __init__(
        self,
        command: str,
        *,
        number: int | None = None,
        num_layers: int = 0,
        timeout: float | None = None,
        note: Callable[[str], None] = lambda _: None,
        stderr: Callable[[str], None] | None = None,
    ) -> None:
        name = "the engine" if number is None else f"engine {number}"
        child = _Child(command, name, stderr or (lambda text: print(text, file=sys.stderr)))
        super().__init__(child, name, num_layers=num_layers, timeout=timeout, note=note)


class StdioEngine(LineEngine):
    """Speaks over this process's own standard input and output: somebody else has connected an engine to them."""

    def __init__(
        self,
        *,
        num_layers: int = 0,
        timeout: float | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(_Stdio(), "the engine", num_layers=num_layers, timeout=timeout, note=note)


def plugin(text: str) -> Engine:
    """The engine "NAME" or "NAME:ARGUMENT" of an installed package."""
    name, _, argument = text.partition(":")
    found = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name not in found:
        have = ", ".join(sorted(found)) or "none"
        raise InputError(
            f"no installed package has an engine {name!r} (entry points {ENTRY_POINTS!r}); there are: {have}"
        )
    make: Callable[[str], Engine] = found[name].load()
    return make(argument)


class _Lines:
    """Lines of a file descriptor, with a timeout."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._rest: list[bytes] = []
        self._end = False

    def next(self, timeout: float | None) -> str | None:
        until = None if timeout is None else time.monotonic() + timeout
        while not self._lines and not self._end:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self._descriptor], [], [], left)[0]:
                raise TimeoutError
            self._take(os.read(self._descriptor, 1 << 16))
        return self._lines.popleft().decode("utf-8", "replace") if self._lines else None

    def _take(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        if whole:
            self._lines.append(b"".join([*self._rest, whole[0]]))
            self._lines.extend(whole[1:])
            self._rest = []
        if rest:
            self._rest.append(rest)
        if not data:
            self._end = True
            if self._rest:  # a last line without its newline
                self._lines.append(b"".join(self._rest))


class _Stdio:
    def __init__(self) -> None:
        self._lines = _Lines(sys.stdin.fileno())

    def send(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            # Python writes what is left once more when it ends; there must be somewhere to write it to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise EngineError("the engine no longer reads this program's standard output") from None

    def receive(self, timeout: float | None) -> str | None:
        return self._lines.next(timeout)

    def ended(self) -> str:
        return "behind standard input (there is no --engine) closed it"

    def close(self, *, busy: bool) -> None:
        pass


class _Child:
    def __init__(self, command: str, name: str, stderr: Callable[[str], None]) -> None:
        self._name = name
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise InputError(f"the engine's command cannot be read ({error}): {command}") from None
        if not words:
            raise InputError("the engine's command is empty")
        try:
            # A session of its own, so that what it starts can be ended with it.
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise InputError(f"the engine {words[0]!r} cannot be started: {error.strerror}") from None
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._input: IO[bytes] = self._process.stdin
        self._lines = _Lines(self._process.stdout.fileno())
        self._errors = threading.Thread(target=self._forward, args=(self._process.stderr, stderr), daemon=True)
        self._errors.start()

    def _forward(self, source: IO[bytes], stderr: Callable[[str], None]) -> None:
        for raw in source:
            stderr(f"{self._name}: {raw.decode('utf-8', 'replace').rstrip()}")

    def send(self, text: str) -> None:
        try:
            self._input.write(text.encode())
        except (BrokenPipeError, ValueError):
            raise EngineError(f"{self._name} {self.ended()}") from None

    def receive(self, timeout: float | None) -> str | None:
        return self._lines.next(timeout)

    def ended(self) -> str:
        """Its status; it may need a moment to be known."""
        try:
            status = self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its standard output"
        self._errors.join(1.0)  # so that its last words come first
        if status < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def close(self, *, busy: bool) -> None:
        with contextlib.suppress(OSError):
            self._input.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._ends_within(0.0 if busy and number == signal.SIGTERM else GRACE_SECONDS):
                break
            self._end_all(number)
        self._process.wait()
        self._errors.join(1.0)

    def _ends_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _end_all(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
