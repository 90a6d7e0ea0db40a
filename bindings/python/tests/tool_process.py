# SPDX-License-Identifier: Apache-2.0
"""Running the program `indexcache` as users do, and the engines that it is tested with."""

from __future__ import annotations

import importlib.util
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ENGINES = Path(__file__).resolve().parent / "engines"
PROGRAM = [sys.executable, "-m", "indexcache.tool"]
PYTHON_ENGINE = shlex.join([sys.executable, str(ENGINES / "toy.py")])
SHELL_ENGINE = str(ENGINES / "toy.sh")

# A shell lets what it starts in the background ignore SIGINT, and children inherit that; but not a handler.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _awk_engine() -> str:
    """mawk reads in blocks unless it is told not to; other kinds of awk do not know its option."""
    about = subprocess.run(["awk", "-W", "version"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    interactive = ["-W", "interactive"] if "mawk" in about.stdout + about.stderr else []
    return shlex.join(["awk", *interactive, "-f", str(ENGINES / "toy.awk")])


AWK_ENGINE = _awk_engine()

_spec = importlib.util.spec_from_file_location("toy", ENGINES / "toy.py")
assert _spec and _spec.loader
toy: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


class Result:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


def run(*arguments: object, timeout: float = 60, **options: Any) -> Result:
    """The program, to its end; a traceback is always a failure."""
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Result(done)


def trajectory(plan: Any) -> list[tuple[str, float, int | None]]:
    return [(step["pattern"], step["loss"], step["layer"]) for step in plan["steps"]]


def greedy_by_hand(num_full: int = 1) -> list[tuple[str, float, int | None]]:
    """The paper's algorithm 1, with the toy engine's loss: ties go to the lowest layer."""
    pattern = "F" * toy.LAYERS
    found: list[tuple[str, float, int | None]] = [(pattern, toy.loss(pattern), None)]
    while pattern.count("F") > num_full:
        tried = []
        for layer in range(1, toy.LAYERS):
            if pattern[layer] == "F":
                flipped = pattern[:layer] + "S" + pattern[layer + 1 :]
                tried.append((toy.loss(flipped), layer, flipped))
        loss, layer, pattern = min(tried)
        found.append((pattern, loss, layer))
    return found
