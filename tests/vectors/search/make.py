# SPDX-License-Identifier: Apache-2.0
"""Writes cases.json: searches with their losses, and what they must find. Follows the text of include/indexcache.h and
of the paper (algorithm 1, appendix C), not the library's code: the greedy strategies step by step, similarity by looking
at every pattern, random patterns by the rule below."""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from math import comb
from pathlib import Path

CASES = Path(__file__).with_name("cases.json")
MASK = 2**64 - 1

Losses = dict[str, float | None]  # None: rejected


def splitmix64(state: int) -> Iterator[int]:
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        mixed = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & MASK
        yield mixed ^ (mixed >> 31)


def below(numbers: Iterator[int], bound: int) -> int:
    """Each of 0 ... bound - 1 equally often: the lowest 2^64 mod bound numbers are drawn again."""
    skipped = 2**64 % bound
    return (next(drawn for drawn in numbers if drawn >= skipped) - skipped) % bound


def random_patterns(start: str, held: set[int], full: int, samples: int, seed: int) -> list[str]:
    """Where more than 2 * samples patterns exist, each draw swaps layers to the front of one list of the free layers,
    which keeps its order from draw to draw, and takes the first as Full; what was there before is drawn again. Else all
    patterns, in lexicographic order, are shuffled from the front. The generator starts at (first number of the generator
    that starts at seed) + full."""
    numbers = splitmix64((next(splitmix64(seed)) + full) & MASK)
    free = [layer for layer, letter in enumerate(start) if letter == "F" and layer not in held]
    count = full - len(held)

    def pattern(chosen: list[int]) -> str:
        return "".join("F" if layer in held or layer in chosen else "S" for layer in range(len(start)))

    def shuffle_front(items: list, length: int) -> None:
        for i in range(length):
            j = i + below(numbers, len(items) - i)
            items[i], items[j] = items[j], items[i]

    found: list[str] = []
    if comb(len(free), count) > 2 * samples:
        while len(found) < samples:
            shuffle_front(free, count)
            drawn = pattern(free[:count])
            found += [drawn] if drawn not in found else []
        return found
    found = sorted(pattern(list(chosen)) for chosen in itertools.combinations(free, count))
    samples = min(samples, len(found))
    shuffle_front(found, samples)
    return found[:samples]


def most_similar(start: str, held: set[int], full: int, similarity: list[float]) -> str:
    """Of all patterns; of equal sums the one whose last Full layers are lowest."""
    layers = len(start)
    free = [layer for layer, letter in enumerate(start) if letter == "F" and layer not in held]
    best, best_key = "", (float("-inf"), ())
    for chosen in itertools.combinations(free, full - len(held)):
        full_layers = sorted([*held, *chosen])
        sources = [max(f for f in full_layers if f <= layer) for layer in range(layers)]
        total = sum(similarity[layer * layers + f] for layer, f in enumerate(sources) if layer != f)
        key = (total, tuple(-layer for layer in reversed(full_layers)))
        if key > best_key:
            best_key = key
            best = "".join("F" if layer in full_layers else "S" for layer in range(layers))
    return best


class Evaluator:
    """Stands for a model: a loss per pattern, of few values, so that there are ties."""

    def __init__(self, seed: int, rejected: Callable[[str], bool]):
        self.seed, self.rejected = seed, rejected
        self.evaluated: list[tuple[str, float | None]] = []  # by id

    def __call__(self, pattern: str) -> float | None:
        loss = None
        if not self.rejected(pattern):
            shared = pattern.count("S")
            loss = 2 + (shared * shared + random.Random(f"{self.seed} {pattern}").randrange(8)) / 16
        self.evaluated.append((pattern, loss))
        return loss


def flipped(pattern: str, layer: int) -> str:
    return pattern[:layer] + "S" + pattern[layer + 1 :]


def greedy(desc: dict, start: str, held: set[int], evaluate: Evaluator) -> tuple[str, list[dict]]:
    layers, blocks = desc["num_layers"], desc.get("num_blocks", 1)
    cuts = [int(b * layers / blocks + 0.5) for b in range(blocks + 1)]
    held = held | (set(cuts[:-1]) if "num_blocks" in desc else set())
    target = max(desc.get("num_full", 1), len(held))
    baseline = evaluate(start)
    pattern, steps, done, reasons = start, [], set(), set()
    for block in itertools.cycle(range(blocks)):
        if pattern.count("F") == target:
            return "IC_SEARCH_DONE", steps
        if len(done) == blocks:
            return "IC_SEARCH_BUDGET" if "budget" in reasons else "IC_SEARCH_EXHAUSTED", steps
        layers_left = [x for x in range(cuts[block], cuts[block + 1]) if pattern[x] == "F" and x not in held]
        if block in done or not layers_left:
            done.add(block)
            continue
        losses = [(loss, x) for x in layers_left if (loss := evaluate(flipped(pattern, x))) is not None]
        over = losses and "loss_budget" in desc and min(losses)[0] > baseline + desc["loss_budget"]
        if not losses or over:
            reasons.add("budget" if over else "rejected")
            done.add(block)
            continue
        loss, layer = min(losses)
        pattern = flipped(pattern, layer)
        steps.append({"layer": layer, "loss": loss, "num_full": pattern.count("F"), "pattern": pattern})
    raise AssertionError


def listed(desc: dict, start: str, held: set[int], evaluate: Evaluator) -> tuple[str, list[dict]]:
    fewest = max(desc.get("num_full", 1), len(held))
    evaluate(start)
    steps, last = [], None
    for full in range(desc.get("max_full", fewest), fewest - 1, -1):
        if desc["strategy"] == "IC_STRATEGY_UNIFORM":
            ones = {i * len(start) // full for i in range(full)}
            patterns = ["".join("F" if layer in ones else "S" for layer in range(len(start)))]
        elif desc["strategy"] == "IC_STRATEGY_RANDOM":
            patterns = random_patterns(start, held, full, desc["num_samples"], desc["seed"])
        else:
            patterns = [most_similar(start, held, full, desc["similarity"])]
        losses = [(loss, i) for i, pattern in enumerate(patterns) if (loss := evaluate(pattern)) is not None]
        last = min(losses, default=None)
        if last:
            steps.append({"layer": -1, "loss": last[0], "num_full": full, "pattern": patterns[last[1]]})
    return "IC_SEARCH_DONE" if last else "IC_SEARCH_EXHAUSTED", steps


def case(about: str, seed: int, desc: dict, rejected: Callable[[str], bool] = lambda pattern: False) -> dict:
    evaluate = Evaluator(seed, rejected)
    start = desc.get("start", "F" * desc["num_layers"])
    held = {0, *desc.get("keep_full", [])}
    kind = greedy if desc["strategy"].startswith("IC_STRATEGY_GREEDY") else listed
    state, steps = kind(desc, start, held, evaluate)
    return {
        "about": about,
        "desc": desc,
        "patterns": [pattern for pattern, _ in evaluate.evaluated],
        "losses": [loss for _, loss in evaluate.evaluated],
        "state": state,
        "steps": steps,
    }


def cases() -> list[dict]:
    similarity = [random.Random(f"{i} {j}").randrange(5) / 4 if j < i else 0.0 for i in range(7) for j in range(7)]
    return [
        case("ties", 1, {"num_layers": 6, "strategy": "IC_STRATEGY_GREEDY"}),
        case(
            "ties, layers that stay Full, a candidate that cannot run",
            2,
            {"num_layers": 7, "strategy": "IC_STRATEGY_GREEDY", "num_full": 3, "keep_full": [5, 2, 5]},
            lambda pattern: pattern in ("FSFFFFF", "FFFSSFF"),
        ),
        case(
            "a start that shares already, and a budget that ends the search",
            3,
            {"num_layers": 8, "strategy": "IC_STRATEGY_GREEDY", "start": "FFSFFFSF", "loss_budget": 0.75},
        ),
        case(
            "nothing can run", 4, {"num_layers": 3, "strategy": "IC_STRATEGY_GREEDY"}, lambda pattern: pattern != "FFF"
        ),
        case("nothing to do", 5, {"num_layers": 3, "strategy": "IC_STRATEGY_GREEDY", "num_full": 3}),
        case(
            "blocks 0-1, 2-4, 5-6",
            6,
            {"num_layers": 7, "strategy": "IC_STRATEGY_GREEDY_BLOCKS", "num_blocks": 3, "num_full": 4},
        ),
        case(
            "blocks, one of which has nothing that runs: the others go on to their ends",
            7,
            {"num_layers": 10, "strategy": "IC_STRATEGY_GREEDY_BLOCKS", "num_blocks": 3, "loss_budget": 0.7},
            lambda pattern: "S" in pattern[3:7],
        ),
        case(
            "blocks, one of which is over the budget before the other",
            66,
            {"num_layers": 10, "strategy": "IC_STRATEGY_GREEDY_BLOCKS", "num_blocks": 2, "loss_budget": 0.5},
        ),
        case("uniform", 8, {"num_layers": 47, "strategy": "IC_STRATEGY_UNIFORM", "num_full": 10, "max_full": 13}),
        case(
            "similarity with ties",
            9,
            {"num_layers": 7, "strategy": "IC_STRATEGY_SIMILARITY_DP", "max_full": 7, "similarity": similarity},
        ),
        case(
            "similarity, some layers given",
            10,
            {
                "num_layers": 7,
                "strategy": "IC_STRATEGY_SIMILARITY_DP",
                "start": "FFSFFFF",
                "keep_full": [4],
                "num_full": 2,
                "max_full": 4,
                "similarity": similarity,
            },
        ),
        case(
            "random, few of many; the last count cannot run",
            11,
            {
                "num_layers": 12,
                "strategy": "IC_STRATEGY_RANDOM",
                "start": "FFFFFSFFFFFF",
                "keep_full": [7],
                "num_full": 2,
                "max_full": 5,
                "num_samples": 4,
                "seed": 2**64 - 1,
            },
            lambda pattern: pattern.count("F") == 2,
        ),
        case(
            "random, nearly all and all",
            12,
            {
                "num_layers": 6,
                "strategy": "IC_STRATEGY_RANDOM",
                "num_full": 4,
                "max_full": 5,
                "num_samples": 9,
                "seed": 0,
            },
        ),
    ]


def refused() -> list[dict]:
    greedy_desc = {"num_layers": 4, "strategy": "IC_STRATEGY_GREEDY"}
    return [
        {"desc": desc, "status": status, "message": message}
        for desc, status, message in (
            ({"num_layers": 0, "strategy": "IC_STRATEGY_GREEDY"}, "IC_ERROR_INVALID_ARGUMENT", "num_layers is 0"),
            (greedy_desc | {"start": "FFXF"}, "IC_ERROR_PARSE", "'X' at layer 2"),
            (greedy_desc | {"start": "SFFF"}, "IC_ERROR_SCHEDULE_INVALID", "layer 0 Shared"),
            (greedy_desc | {"keep_full": [1, 4]}, "IC_ERROR_INVALID_ARGUMENT", "keep_full[1] is 4"),
            (greedy_desc | {"num_samples": 3}, "IC_ERROR_INVALID_ARGUMENT", "num_samples is 3"),
            (greedy_desc | {"loss_budget": -0.5}, "IC_ERROR_INVALID_ARGUMENT", "loss_budget is -0.5"),
            (greedy_desc | {"journal": "{}\n"}, "IC_ERROR_PARSE", "journal line 1"),
            (greedy_desc | {"journal": "x"}, "IC_ERROR_JOURNAL", "no complete line"),
        )
    ]


def text() -> str:
    parts = []
    for name, items in (("searches", cases()), ("refused", refused())):
        parts.append(f' "{name}": [\n' + ",\n".join("  " + json.dumps(item) for item in items) + "\n ]")
    about = (
        "SPDX-License-Identifier: Apache-2.0. Written by make.py; what every language's tests check: see ../README.md"
    )
    return f'{{\n "about": "{about}",\n' + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    CASES.write_text(text())
