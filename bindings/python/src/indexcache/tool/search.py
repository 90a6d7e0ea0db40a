# SPDX-License-Identifier: Apache-2.0
"""Runs a search: asks engines for losses until it ends, keeps the journal, and says what came out."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from typing import Any

import indexcache as ic

from .checked import InputError
from .engine import Engine
from .journal import Answers, Journal, read_answers
from .overlap import Matrix
from .plan import GREEDY, STRATEGY_NAMES, Plan, Step
from .progress import Progress
from .protocol import EngineError, Evaluate, Loss, Reject

DEFAULT_SAMPLES = 8


@dataclass(frozen=True)
class Settings:
    """What a search is asked for: the arguments of indexcache.Search, whose documentation tells more.

    num_full: fewest Full layers to reach; None = as few as possible. max_full: not greedy, most Full layers to look at;
    None = num_full, and all numbers when that is None too. loss_budget: greedy, how much the loss may be above the
    baseline's. similarity: for "similarity_dp"; None = the engine is asked for it. num_samples: for "random"; None = 8.
    """

    strategy: str = "greedy"
    num_full: int | None = None
    max_full: int | None = None
    start: str | None = None
    keep_full: tuple[int, ...] = ()
    num_blocks: int = 0
    loss_budget: float | None = None
    similarity: Matrix | None = None
    num_samples: int | None = None
    seed: int = 0

    def create(self, num_layers: int, journal: bytes = b"") -> ic.Search:
        """The search itself."""
        greedy = self.strategy in GREEDY
        if self.strategy not in STRATEGY_NAMES:
            raise InputError(f"strategy is {self.strategy!r}; allowed are {', '.join(STRATEGY_NAMES)}")
        if self.loss_budget is not None and not self.loss_budget >= 0:
            raise InputError(f"loss_budget is {self.loss_budget:g}; it must be 0 or more, the increase that is allowed")
        max_full = self.max_full or 0
        if not greedy and self.max_full is None and self.num_full is None:
            max_full = max((self.start or "F" * num_layers).count("F") - 1, 1)
        samples = (self.num_samples or DEFAULT_SAMPLES) if self.strategy == "random" else (self.num_samples or 0)
        return ic.Search(
            num_layers,
            self.strategy,
            num_full=self.num_full or 1,
            max_full=max_full,
            start=self.start,
            keep_full=self.keep_full,
            num_blocks=self.num_blocks,
            loss_budget=self.loss_budget if greedy else None,
            similarity=None if self.similarity is None else [[x or 0.0 for x in row] for row in self.similarity],
            num_samples=samples,
            seed=self.seed,
            journal=journal,
        )


def search(
    engines: Sequence[Engine],
    settings: Settings,
    *,
    journal: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    name: str = "",
) -> Plan:
    """Searches with the engines, which must run the same model, and returns what was found; the engines stay open.

    journal: a file that every answer is written to before the next question; one that is there is resumed, and the
    result is that of a search which was never interrupted. An engine that fails is left out and its candidate goes to
    another; when none is left, EngineError. name: of the plan, for tables and legends.
    """
    if not engines:
        raise InputError("a search needs at least one engine")
    layers = {engine.num_layers for engine in engines}
    if len(layers) > 1:
        raise InputError(f"the engines have different numbers of layers: {', '.join(map(str, sorted(layers)))}")
    file = Journal(journal) if journal is not None else None
    try:
        return _Run(engines, settings, file, progress or Progress(quiet=True)).run(name)
    finally:
        if file:
            file.close()


class _Run:
    """One search from its first question, or from where a journal ends, to its end."""

    def __init__(self, engines: Sequence[Engine], settings: Settings, file: Journal | None, progress: Progress) -> None:
        self._idle = list(engines)
        self._num_layers = engines[0].num_layers
        self._file = file
        self._progress = progress
        self._answers = file.answers if file else Answers()
        self._settings = self._with_similarity(settings)
        self._search = self._open()
        self._running: dict[Future[Loss | Reject], tuple[Engine, ic.SearchCandidate, float]] = {}
        self._failures: list[str] = []
        self._named = False

    def _with_similarity(self, settings: Settings) -> Settings:
        """Measured once: a resumed search goes on with the same matrix."""
        if settings.strategy != "similarity_dp" or settings.similarity is not None:
            return settings
        if self._answers.similarity is None:
            self._progress.note("asking the engine for the similarity of all layers")
            matrix = self._idle[0].similarity()
            self._keep({"type": "similarity", "matrix": [list(row) for row in matrix]})
        return replace(settings, similarity=self._answers.similarity)

    def _open(self) -> ic.Search:
        if self._file is None:
            return self._settings.create(self._num_layers)
        try:
            search = self._settings.create(self._num_layers, self._file.content)
        except ic.Error as error:
            if not self._file.content:
                raise
            hint = "; another search needs another file" if error.status == ic.Status.JOURNAL else ""
            raise InputError(f"{self._file.path} cannot be resumed: {error.message}{hint}") from None
        info = search.info
        self._file.resume(info.journal_resumed)
        self._journaled = info.journal_resumed
        self._write_journal(search)
        if info.num_evaluated:
            self._progress.note(
                f"resuming {self._file.path}: {info.num_evaluated} of {info.num_planned} losses are there"
            )
        return search

    def _write_journal(self, search: ic.Search) -> None:
        if self._file:
            new = search.journal(self._journaled)
            self._file.append(new)
            self._journaled += len(new)

    def _keep(self, answer: dict[str, Any]) -> None:
        self._answers.add(answer)
        if self._file:
            self._file.append_answer(answer)

    def run(self, name: str) -> Plan:
        self._progress.start(self._told(self._search.info))
        executor: Executor = ThreadPoolExecutor(len(self._idle)) if len(self._idle) > 1 else _Here()
        try:
            while self._ask(executor) or self._running:
                self._take_answers()
        except BaseException:
            for busy, _, _ in self._running.values():
                busy.close()  # else their threads would wait for them
            raise
        finally:
            executor.shutdown()
        if self._search.info.state == ic.SearchState.RUNNING:
            raise EngineError("; ".join(self._failures))
        return plan_of(self._search, self._settings, self._answers, name)

    def _ask(self, executor: Executor) -> bool:
        """Gives candidates to idle engines; whether there was one."""
        asked = False
        while self._idle:
            candidates = self._search.next(1)
            if not candidates:
                break
            (candidate,) = candidates
            engine = self._idle.pop(0)
            request = Evaluate(candidate.id, candidate.pattern, candidate.first_layer, self._search.accepted)
            started = time.monotonic()
            self._running[executor.submit(engine.evaluate, request)] = (engine, candidate, started)
            asked = True
        return asked

    def _take_answers(self) -> None:
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            engine, candidate, started = self._running.pop(future)
            try:
                answer = future.result()
            except Exception as error:  # whatever a plug-in raises, others may go on
                self._search.release(candidate.id)
                reason = str(error) if isinstance(error, EngineError) else f"{engine.name}: {error!r}"
                self._failures.append(f"{reason} (pattern {candidate.pattern})")
                if self._idle or self._running:
                    self._progress.note(
                        f"{self._failures[-1]}; going on with {len(self._idle) + len(self._running)} more"
                    )
                continue
            self._idle.append(engine)
            if not self._named:  # an engine may send "ready" as late as with its first answer
                self._named = True
                self._keep({"type": "ready", "engine": engine.name, "loss_unit": engine.loss_unit})
            self._take(candidate, answer, time.monotonic() - started)
            self._show()

    def _take(self, candidate: ic.SearchCandidate, answer: Loss | Reject, seconds: float) -> None:
        record: dict[str, Any] = {"id": candidate.id, "pattern": candidate.pattern}
        if isinstance(answer, Loss) and math.isfinite(answer.loss):
            record |= {"type": "loss", **asdict(answer)}
            record["seconds"] = seconds if answer.seconds is None else answer.seconds
            self._keep(record)
            self._search.tell(candidate.id, answer.loss)
        else:
            reason = answer.reason if isinstance(answer, Reject) else f"the loss is {answer.loss}"
            self._keep(record | {"type": "reject", "reason": reason, "seconds": seconds})
            self._search.reject(candidate.id)
            what = "the pattern to start from" if candidate.step < 0 else "pattern"
            self._progress.note(f"rejected: {what} {candidate.pattern}" + (f": {reason}" if reason else ""))
        self._write_journal(self._search)

    @staticmethod
    def _told(info: ic.SearchInfo) -> int:
        baseline = 0 if math.isnan(info.baseline_loss) else 1
        return int(info.num_evaluated + info.num_rejected + baseline)

    def _show(self) -> None:
        info = self._search.info
        words = f"{info.num_full}/{self._num_layers} Full"
        if not math.isnan(info.accepted_loss):
            words += f", loss {info.accepted_loss:.5f} ({info.accepted_loss - info.baseline_loss:+.5f})"
        if self._settings.strategy not in GREEDY:
            words = ""
        done = self._told(info)
        ended = info.state != ic.SearchState.RUNNING
        self._progress.update(done, done if ended else int(info.num_planned) + 1, words)


class _Here(Executor):
    """Runs what is submitted at once, in this thread: with one engine there is nothing to wait for, and an interrupt
    ends it.
    """

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **keywords))
        except Exception as error:
            future.set_exception(error)
        return future


def plan_of(search: ic.Search, settings: Settings, answers: Answers, name: str = "") -> Plan:
    """What a search has found so far."""
    info = search.info
    losses = losses_of(search.journal(0))

    def step(id: int, loss: float, layer: int | None) -> Step:
        pattern = search.candidate_pattern(id)
        return Step(pattern.count("F"), pattern, loss, layer, answers.metrics(id))

    steps = [step(0, losses[0], None)] if 0 in losses else []
    if settings.strategy == "random":
        steps += [step(id, loss, None) for id, loss in sorted(losses.items()) if id > 0]
    else:
        ids = {(search.candidate_pattern(id), loss): id for id, loss in losses.items()}
        steps += [step(ids[s.pattern, s.loss], s.loss, s.layer if s.layer >= 0 else None) for s in search.steps]
    options = {key: value for key, value in asdict(replace(settings, similarity=None)).items() if value}
    plan = Plan(
        strategy=settings.strategy,
        steps=tuple(steps),
        name=name,
        engine=str(answers.engine.get("engine") or ""),
        loss_unit=str(answers.engine.get("loss_unit") or ""),
        baseline_loss=losses.get(0),
        loss_budget=settings.loss_budget,
        state=info.state.name.lower(),
        evaluations=len(losses),
        seconds=round(sum(answers.seconds(id) for id in losses), 3),
        options=options,
    )
    if plan.loss_limit is None or settings.strategy not in GREEDY:
        return plan
    last: dict[int, Step] = {}
    accepted = search.accepted
    for id, loss in sorted(losses.items()):
        pattern = search.candidate_pattern(id)
        flipped = [layer for layer, letter in enumerate(accepted) if letter == "F" and pattern[layer] == "S"]
        if len(flipped) == 1:
            last[flipped[0]] = step(id, loss, flipped[0])
    over = [s for s in last.values() if s.loss > plan.loss_limit]
    return replace(plan, over_budget=tuple(sorted(over, key=lambda s: (s.loss, s.pattern))))


def losses_of(journal: bytes) -> dict[int, float]:
    """The losses of a journal by candidate."""
    found: dict[int, float] = {}
    for raw in journal.split(b"\n")[1:]:
        with contextlib.suppress(ValueError):  # the end of the file
            data = json.loads(raw)
            if "tell" in data:
                found[data["tell"]] = float(data["loss"])
    return found


def load_journal(path: str | os.PathLike[str]) -> Plan:
    """What the search of a journal has found so far; the file is only read."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    answers = read_answers(path)
    try:
        head = json.loads(content[: content.index(b"\n")])
        strategy = head["strategy"]
        settings = Settings(
            strategy=strategy,
            num_full=head["num_full"] or None,
            max_full=head["max_full"] or None,
            start=head["start"],
            keep_full=tuple(head["keep_full"]),
            num_blocks=head["num_blocks"],
            loss_budget=head["loss_budget"] or None,
            similarity=answers.similarity if strategy == "similarity_dp" else None,
            num_samples=head["num_samples"] or None,
            seed=head["seed"],
        )
        search = settings.create(head["num_layers"], content)
    except ic.Error as error:
        raise InputError(f"{path}: {error.message}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is neither a plan nor the journal of a search ({error!r})") from None
    return plan_of(search, settings, answers)
