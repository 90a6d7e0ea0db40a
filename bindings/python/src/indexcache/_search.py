# SPDX-License-Identifier: Apache-2.0
"""Which layers can share: the search that needs no training."""

from __future__ import annotations

import ctypes
import math
import threading
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from . import _ffi
from ._handle import Handle
from ._library import check, lib
from ._text import c_text, text_of
from ._types import SearchInfo, SearchStrategy


class SearchCandidate(NamedTuple):
    """A pattern to evaluate."""

    id: int
    """Names the candidate from now on, also after a resume. 0 is the baseline"""
    step: int
    """Step in which it competes, from 0; -1 = the baseline"""
    layer: int
    """Layer that is Shared here and Full in the accepted pattern; -1 = not a single one is flipped"""
    first_layer: int
    """First layer whose mode is not that of the accepted pattern: an engine that keeps what went into each layer under
    the accepted pattern can start here. 0 for the baseline; num_layers when no mode differs
    """
    num_full: int
    """Full layers of the pattern"""
    pattern: str
    """F and S, one letter per layer"""


@dataclass(frozen=True)
class SearchStep:
    """What a step accepted."""

    index: int
    """Its place in Search.steps"""
    layer: int
    """Layer that became Shared; -1 = not a single one"""
    loss: float
    num_full: int
    """Full layers afterwards"""
    pattern: str
    """F and S, one letter per layer, afterwards"""
    id: int
    """The candidate that was accepted"""


class Search(Handle):
    """Searches for the layers that can share: it says which pattern to evaluate next and is told the loss.

    with Search(16, num_full=4) as search:
        while candidates := search.next():
            for candidate in candidates:
                search.tell(candidate.id, evaluate(candidate.pattern))
        print(search.accepted, search.info.state.name)

    strategy: "greedy" (make Shared the layer that costs least, again and again), "greedy_blocks" (block by block, fewer
    evaluations, for pipelines); for comparison "uniform", "similarity_dp", "random".
    num_full: fewest Full layers to reach. max_full: not greedy, one step for each count from there down; 0 = num_full.
    start: pattern to begin with, whose loss is the baseline; None = all Full. Its Shared layers stay so.
    keep_full: layers that stay Full; layer 0 does anyway.
    num_blocks: greedy_blocks. loss_budget: greedy, accept nothing above the baseline's loss plus this; None = no limit.
    similarity: similarity_dp, [num_layers, num_layers] (rows, or an array of numpy): how alike layer l with its own
    indices and with those of layer j < l are; only entries [l][j] with j < l are read.
    num_samples, seed: random, distinct patterns per count of Full layers, the same on every machine.
    journal: what journal() of an earlier search with the same arguments gave, to go on where it ends. A line that was
    cut while it was written is ignored: truncate the file to info.journal_resumed, then append journal(from there).

    Any number of threads may use a search, one behind the other; evaluations may be told in any order.
    """

    def __init__(
        self,
        num_layers: int,
        strategy: SearchStrategy | str = "greedy",
        *,
        num_full: int = 1,
        max_full: int = 0,
        start: str | None = None,
        keep_full: Iterable[int] = (),
        num_blocks: int = 0,
        loss_budget: float | None = None,
        similarity: Sequence[Sequence[float]] | None = None,
        num_samples: int = 0,
        seed: int = 0,
        journal: bytes = b"",
    ) -> None:
        journal = bytes(journal)
        desc = _ffi.ic_search_desc(
            num_layers=num_layers,
            strategy=_strategy(strategy),
            start=c_text(start, "start"),
            num_full=num_full,
            max_full=max_full,
            num_blocks=num_blocks,
            loss_budget=_budget(loss_budget),
            num_samples=num_samples,
            seed=seed,
            journal=journal,
            journal_size=len(journal),
        )
        layers = list(keep_full)
        ids = (ctypes.c_int32 * max(len(layers), 1))()
        for place, layer in enumerate(layers):
            ids[place] = layer
            if ids[place] != layer:  # ctypes cuts bits off
                raise OverflowError(f"keep_full[{place}] = {layer} does not fit into int32")
        desc.keep_full = ctypes.addressof(ids)
        desc.num_keep_full = len(layers)
        if similarity is not None:
            rows = [[float(entry) for entry in row] for row in similarity]
            if len(rows) != num_layers or any(len(row) != num_layers for row in rows):
                raise ValueError(f"similarity has {len(rows)} rows; allowed: {num_layers} rows of {num_layers} numbers")
            entries = array("d", [entry for row in rows for entry in row])
            desc.similarity, desc.num_similarity = entries.buffer_info()
        self._create("search", ctypes.byref(desc))
        self._lock = threading.RLock()  # C lets one thread in at a time

    def next(self, max_candidates: int = 1) -> list[SearchCandidate]:
        """Hands out up to max_candidates patterns that can be evaluated now. Empty: the search has ended, or waits for
        answers to what is handed out (info.state says which).
        """
        found: list[SearchCandidate] = []
        raw = _ffi.ic_search_candidate()
        with self._lock:
            while len(found) < max_candidates:
                check(lib.ic_search_next(self._raw, ctypes.byref(raw)))
                if raw.id < 0:
                    break
                pattern = self.candidate_pattern(raw.id)
                found.append(SearchCandidate(raw.id, raw.step, raw.layer, raw.first_layer, raw.num_full, pattern))
        return found

    def tell(self, id: int, loss: float) -> None:
        """The loss of a candidate. The same loss again is fine; NaN, infinity and another loss are refused."""
        with self._lock:
            check(lib.ic_search_tell(self._raw, id, loss))

    def reject(self, id: int) -> None:
        """A candidate that cannot be evaluated: it competes no longer."""
        with self._lock:
            check(lib.ic_search_reject(self._raw, id))

    def release(self, id: int) -> None:
        """Gives a candidate back unanswered: next() hands it out again."""
        with self._lock:
            check(lib.ic_search_release(self._raw, id))

    def candidate_pattern(self, id: int) -> str:
        """The pattern of a candidate, open or decided."""
        with self._lock:
            return text_of(lib.ic_search_candidate_pattern, self._raw, id)

    @property
    def accepted(self) -> str:
        """The accepted pattern: of the last step, or the start. Not greedy: the start until the search has ended."""
        with self._lock:
            return text_of(lib.ic_search_accepted, self._raw)

    @property
    def steps(self) -> list[SearchStep]:
        """The whole trajectory."""
        steps = []
        raw = _ffi.ic_search_step()
        with self._lock:
            for index in range(self.info.num_steps):
                check(lib.ic_search_get_step(self._raw, index, ctypes.byref(raw)))
                pattern = text_of(lib.ic_search_step_pattern, self._raw, index)
                steps.append(SearchStep(index, raw.layer, raw.loss, raw.num_full, pattern, raw.id))
        return steps

    @property
    def info(self) -> SearchInfo:
        """State, losses and counts."""
        raw = _ffi.ic_search_info()
        with self._lock:
            check(lib.ic_search_get_info(self._raw, ctypes.byref(raw)))
        return SearchInfo.from_struct(raw)

    def journal(self, from_byte: int = 0) -> bytes:
        """The journal from a byte on: lines of JSON, to be appended to a file after each answer."""
        with self._lock:
            return text_of(lib.ic_search_journal, self._raw, from_byte).encode()


def _strategy(strategy: SearchStrategy | str) -> int:
    if not isinstance(strategy, str):
        return strategy
    try:
        return SearchStrategy[strategy.upper()]
    except KeyError:
        names = ", ".join(s.name.lower() for s in SearchStrategy)
        raise ValueError(f"strategy {strategy!r} is none of {names}") from None


def _budget(loss_budget: float | None) -> float:
    """In C 0 means "no limit"; a limit of 0 is the smallest positive number there."""
    if loss_budget is None:
        return 0.0
    return loss_budget if loss_budget != 0 else math.ulp(0.0)
