# SPDX-License-Identifier: Apache-2.0
"""The search: against a plain reference, by several workers in any order, resumed from every byte of its journal."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import indexcache as ic
import pytest
from conftest import VECTORS
from indexcache import ArgumentError, Search, SearchState, StateError, Status

Loss = Callable[[str], float]
CASES = json.loads((VECTORS / "search" / "cases.json").read_text())


def from_desc(desc: dict[str, Any]) -> Search:
    """A search from the fields of ic_search_desc."""
    arguments = dict(desc)
    strategy = arguments.pop("strategy").removeprefix("IC_STRATEGY_").lower()
    if flat := arguments.pop("similarity", None):
        layers = desc["num_layers"]
        arguments["similarity"] = [flat[row * layers : (row + 1) * layers] for row in range(layers)]
    arguments["journal"] = arguments.get("journal", "").encode()
    return Search(strategy=strategy, **arguments)


def rounded_loss(seed: int) -> Loss:
    """A loss of few different values, so that there are ties."""
    return lambda pattern: random.Random(f"{seed} {pattern}").randrange(6) / 4


def run(search: Search, loss: Loss, workers: int = 1, seed: int = 0) -> None:
    """Evaluates until the end: `workers` candidates at a time, answered in a random order."""
    order = random.Random(seed)
    at_work: list[ic.SearchCandidate] = []
    while True:
        at_work += search.next(workers - len(at_work))
        if not at_work:
            return
        candidate = at_work.pop(order.randrange(len(at_work)))
        search.tell(candidate.id, loss(candidate.pattern))


def greedy(num_layers: int, num_full: int, loss: Loss) -> list[tuple[int, float, str]]:
    """Algorithm 1 of the paper as it stands there."""
    pattern, steps = "F" * num_layers, []
    while pattern.count("F") > num_full:
        flips = [(loss(pattern[:i] + "S" + pattern[i + 1 :]), i) for i in range(1, num_layers) if pattern[i] == "F"]
        least, layer = min(flips)
        pattern = pattern[:layer] + "S" + pattern[layer + 1 :]
        steps.append((layer, least, pattern))
    return steps


@pytest.mark.parametrize("workers", [1, 3, 100])
def test_greedy_is_algorithm_1(workers: int) -> None:
    for seed in range(20):
        loss = rounded_loss(seed)
        with Search(9, num_full=3) as search:
            run(search, loss, workers, seed)
            assert search.info.state == SearchState.DONE
            assert [(s.layer, s.loss, s.pattern) for s in search.steps] == greedy(9, 3, loss)
            assert [s.index for s in search.steps] == list(range(6))
            assert [search.candidate_pattern(s.id) for s in search.steps] == [s.pattern for s in search.steps]
            assert [s.num_full for s in search.steps] == [8, 7, 6, 5, 4, 3]
            assert search.accepted == search.steps[-1].pattern
            assert search.info.num_evaluated == search.info.num_planned == 8 + 7 + 6 + 5 + 4 + 3


def test_several_threads() -> None:
    loss = rounded_loss(3)
    search = Search(12, num_full=4)

    def work() -> None:
        while search.info.state == SearchState.RUNNING:
            for candidate in search.next():
                search.tell(candidate.id, loss(candidate.pattern))

    with ThreadPoolExecutor(4) as pool:
        for worker in [pool.submit(work) for _ in range(4)]:
            worker.result()
    assert [(s.layer, s.loss, s.pattern) for s in search.steps] == greedy(12, 4, loss)


def test_the_baseline_comes_first_and_alone() -> None:
    search = Search(5, start="FFSFF", keep_full=[4])
    baseline, *others = search.next(10)
    assert not others
    assert baseline == (0, -1, -1, 0, 4, "FFSFF")
    assert search.next(10) == []
    assert math.isnan(search.info.baseline_loss)
    search.tell(0, 2.5)
    assert search.info.baseline_loss == search.info.accepted_loss == 2.5
    assert search.next(10) == [(1, 0, 1, 1, 3, "FSSFF"), (2, 0, 3, 3, 3, "FFSSF")]
    assert search.info.num_handed_out == 2


def test_released_candidates_come_again() -> None:
    search = Search(4)
    search.tell(search.next()[0].id, 0)
    first, second = search.next(2)
    search.release(first.id)
    assert search.next() == [first]
    search.tell(second.id, 1)
    with pytest.raises(StateError, match="has been told a loss") as error:
        search.release(second.id)
    assert error.value.status == Status.ALREADY_TOLD


def test_what_is_told_stays() -> None:
    search = Search(4)
    search.tell(0, 1.5)
    search.tell(0, 1.5)
    with pytest.raises(StateError, match=r"told the loss 1\.5, and is now told the loss 2"):
        search.tell(0, 2)
    for loss in (math.nan, math.inf, -math.inf):
        with pytest.raises(ArgumentError, match="allowed: finite numbers"):
            search.tell(1, loss)
    with pytest.raises(ArgumentError, match="id is 4; allowed: 0 to 3"):
        search.tell(4, 1)
    with pytest.raises(ctypes.ArgumentError, match="does not fit"):
        search.tell(1 << 70, 1)


def test_rejections_and_budget_end_a_search() -> None:
    search = Search(3)
    run(search, lambda pattern: 1.0)
    assert search.info.state == SearchState.DONE
    search = Search(3)
    search.tell(0, 1)
    for candidate in search.next(9):
        search.reject(candidate.id)
    assert search.info.state == SearchState.EXHAUSTED
    for budget, state, steps in ((None, SearchState.DONE, 2), (0.0, SearchState.BUDGET, 1), (0.5, SearchState.DONE, 2)):
        search = Search(3, loss_budget=budget)
        run(search, lambda pattern: {"FFF": 1.0, "FSF": 1.0, "FFS": 1.25, "FSS": 1.5}[pattern])
        assert (search.info.state, len(search.steps)) == (state, steps), budget


def test_a_journal_cut_anywhere_goes_on_to_the_same_end(tmp_path: Path) -> None:
    def search(journal: bytes = b"") -> Search:
        return Search(5, num_full=2, keep_full=[3], loss_budget=10, journal=journal)

    loss = rounded_loss(1)
    whole = search()
    run(whole, loss)
    journal = whole.journal()
    answers = [json.loads(line) for line in journal.splitlines()[1:]]
    assert answers[:2] == [{"tell": 0, "loss": loss("FFFFF")}, {"tell": 1, "loss": loss("FSFFF")}]
    file = tmp_path / "journal"
    for cut in range(len(journal) + 1):
        file.write_bytes(journal[:cut])
        resumed = search(file.read_bytes())
        kept = resumed.info.journal_resumed
        assert kept == journal.rfind(b"\n", 0, cut) + 1
        os.truncate(file, kept)
        run(resumed, loss)
        with file.open("ab") as stream:
            stream.write(resumed.journal(kept))
        assert file.read_bytes() == resumed.journal() == journal
        assert resumed.steps == whole.steps


def test_journals_of_others_are_refused() -> None:
    search = Search(5, num_full=2)
    search.tell(0, 1)
    journal = search.journal()
    with pytest.raises(StateError, match="journal has num_full 2; the desc has 3") as error:
        Search(5, num_full=3, journal=journal)
    assert error.value.status == Status.JOURNAL
    with pytest.raises(ArgumentError, match="journal line 3: not JSON"):
        Search(5, num_full=2, journal=journal + b"{\n")
    with pytest.raises(ArgumentError, match="journal line 3: id is 9"):
        Search(5, num_full=2, journal=journal + b'{"tell":9,"loss":1}\n')


def test_comparison_strategies() -> None:
    uniform = Search(47, "uniform", num_full=11, max_full=12)
    run(uniform, lambda pattern: 1.0, 5)
    wanted = [
        "".join("F" if layer in {i * 47 // full for i in range(full)} else "S" for layer in range(47))
        for full in (12, 11)
    ]
    assert [step.pattern for step in uniform.steps] == wanted

    patterns: list[str] = []
    search = Search(6, "random", num_full=3, num_samples=1000, seed=2**64 - 1)
    while candidates := search.next(7):
        for candidate in candidates:
            patterns.append(candidate.pattern)
            search.tell(candidate.id, 0)
    assert sorted(patterns[1:]) == sorted({"F" + "".join(p) for p in itertools.permutations("FFSSS")})

    rows = [[random.Random(f"{i} {j}").random() if j < i else math.nan for j in range(7)] for i in range(7)]

    def similarity(pattern: str) -> float:
        return sum(rows[i][pattern.rindex("F", 0, i)] for i in range(7) if pattern[i] == "S")

    for full in range(1, 8):
        search = Search(7, ic.SearchStrategy.SIMILARITY_DP, num_full=full, similarity=rows)
        run(search, lambda pattern: 0.0)
        everyone = ("F" + "".join(p) for p in itertools.product("FS", repeat=6))
        best = max(similarity(pattern) for pattern in everyone if pattern.count("F") == full)
        assert similarity(search.accepted) == pytest.approx(best, abs=1e-12)
        assert search.accepted.count("F") == full


@pytest.mark.parametrize("case", CASES["searches"], ids=lambda case: case["about"])
def test_searches_of_the_vectors(case: dict[str, Any]) -> None:
    search = from_desc(case["desc"])
    for half in (True, False):  # stopped after half of the candidates, and resumed
        for id in range(len(case["patterns"]) // 2 if half else len(case["patterns"])):
            if half or id >= len(case["patterns"]) // 2:
                (candidate,) = search.next()
                assert (candidate.id, candidate.pattern) == (id, case["patterns"][id])
                loss = case["losses"][id]
                search.reject(id) if loss is None else search.tell(id, loss)
        journal = search.journal()
        search = from_desc(case["desc"] | {"journal": journal.decode()})
        assert search.journal() == journal
    assert search.info.state == SearchState[case["state"].removeprefix("IC_SEARCH_")]
    assert search.info.num_rejected == case["losses"].count(None)
    assert [
        {"layer": s.layer, "loss": s.loss, "num_full": s.num_full, "pattern": s.pattern} for s in search.steps
    ] == case["steps"]
    assert search.accepted == (case["steps"][-1]["pattern"] if case["steps"] else case["patterns"][0])


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["message"])
def test_refused_by_the_vectors(case: dict[str, Any]) -> None:
    with pytest.raises(ic.Error) as caught:
        from_desc(case["desc"])
    assert caught.value.status == Status[case["status"].removeprefix("IC_ERROR_")]
    assert case["message"] in caught.value.message


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="is none of greedy, greedy_blocks, uniform, similarity_dp, random"):
        Search(4, "best")
    with pytest.raises(ValueError, match="allowed: 4 rows of 4 numbers"):
        Search(4, "similarity_dp", similarity=[[0.0] * 4] * 3)
    with pytest.raises(ArgumentError, match=r"desc->num_layers is 0; allowed: 1 to 4096"):
        Search(0)
    with pytest.raises(OverflowError):
        Search(4, keep_full=[1 << 32])
    search = Search(4)
    search.close()
    with pytest.raises(ValueError, match="this Search has been closed"):
        search.next()
