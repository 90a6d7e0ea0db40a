# SPDX-License-Identifier: Apache-2.0
"""indexcache search: whole searches with engines in Python, awk and shell; interrupted ones; engines that misbehave."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from indexcache.tool.engine import Engine
from indexcache.tool.plan import load_plan
from indexcache.tool.protocol import EngineError, Evaluate, Loss, Reject
from indexcache.tool.search import Settings, search
from tool_process import (
    AWK_ENGINE,
    PROGRAM,
    PYTHON_ENGINE,
    SHELL_ENGINE,
    greedy_by_hand,
    run,
    toy,
    trajectory,
)

EVALUATIONS = toy.LAYERS * (toy.LAYERS - 1) // 2 + 1  # of a whole greedy search, with the baseline


def test_greedy_is_the_papers_algorithm() -> None:
    plan = run("search", "--engine", PYTHON_ENGINE, "--json").json()
    assert trajectory(plan) == greedy_by_hand()
    assert plan["evaluations"] == EVALUATIONS and plan["engine"] == "toy" and plan["loss_unit"] == "nats/token"
    assert plan["state"] == "done" and plan["baseline_loss"] == 1.5
    assert all(step["metrics"] == {"recall_loss": step["loss"] * 2} for step in plan["steps"])


def test_engine_in_awk_finds_the_same() -> None:
    plan = run("search", "--engine", AWK_ENGINE, "--num-layers", 10, "--json").json()
    assert trajectory(plan) == greedy_by_hand()
    refused = run("search", "--engine", AWK_ENGINE, "--timeout", 0.3)
    assert refused.status == 3 and "has not answered for 0.3 s" in refused.err


def test_engine_in_shell() -> None:
    plan = run("search", "--engine", SHELL_ENGINE, "--json").json()
    assert trajectory(plan) == [
        ("FFFFF", 0, None), ("FSFFF", 1, 1), ("FSFSF", 2, 3), ("FSSSF", 4, 2), ("FSSSS", 5, 4)
    ]  # fmt: skip


@pytest.mark.parametrize("engine", [AWK_ENGINE, PYTHON_ENGINE])
def test_over_pipes_that_somebody_else_has_connected(engine: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "q")
    os.mkfifo(tmp_path / "a")
    tool = " ".join(PROGRAM)
    script = f"{engine} <q >a & {tool} search --num-layers 10 --plan plan.json >q <a"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # stdout is the engine's
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert trajectory(plan) == greedy_by_hand() and "FSSSSFSSSS" in done.stderr


def test_the_engine_gets_what_the_protocol_says(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run("search", "--engine", f"sh -c 'tee {log} | {PYTHON_ENGINE}'", "--num-full", 8)
    assert done.status == 0, done.err
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert asked[-1] == {"type": "quit"}
    assert asked[0] == {"type": "evaluate", "id": 0, "pattern": "F" * 10, "first_layer": 0, "accepted": "F" * 10}
    assert asked[1] == {"type": "evaluate", "id": 1, "pattern": "FS" + "F" * 8, "first_layer": 1, "accepted": "F" * 10}
    for message in asked[10:-1]:
        assert message["accepted"] == "F" * 9 + "S"
        differs = [i for i in range(10) if message["pattern"][i] != message["accepted"][i]]
        assert differs == [message["first_layer"]]
    assert len(asked) == 1 + 9 + 8 + 1


def test_workers_find_the_same() -> None:
    plan = run("search", "--engine", PYTHON_ENGINE, "--workers", 3, "--json").json()
    assert trajectory(plan) == greedy_by_hand() and plan["evaluations"] == EVALUATIONS


def test_workers_start_at_the_same_time() -> None:
    """Loading a model can take minutes."""
    begin = time.monotonic()
    done = run(
        "search", "--engine", f"sh -c 'sleep 2; exec {PYTHON_ENGINE}'", "--workers", 4, "--num-full", 9, "--json"
    )
    assert done.json()["steps"][-1]["layer"] == 9 and time.monotonic() - begin < 6


def test_strategies() -> None:
    def found(*options: object) -> Any:
        return run("search", "--engine", PYTHON_ENGINE, "--json", "--strategy", *options).json()

    uniform = found("uniform")
    assert [s["num_full"] for s in uniform["steps"]] == list(range(10, 0, -1))
    assert uniform["steps"][5]["pattern"] == "FSFSFSFSFS"
    dp = found("similarity_dp", "--num-full", 3)
    # The toy's similarity falls with the distance, so the best are runs as equal as can be, the last Full ones low.
    assert dp["steps"][-1]["num_full"] == 3 and max(map(len, dp["steps"][-1]["pattern"].split("F"))) <= 3
    drawn = found("random", "--num-full", 4, "--max-full", 5, "--num-samples", 6, "--seed", 3)
    assert len({s["pattern"] for s in drawn["steps"]}) == 13  # every sample is kept, not the best alone
    assert drawn == found("random", "--num-full", 4, "--max-full", 5, "--num-samples", 6, "--seed", 3) | {
        "seconds": drawn["seconds"]
    }
    blocks = found("greedy_blocks", "--num-blocks", 2)
    assert all(s["pattern"][0] == s["pattern"][5] == "F" for s in blocks["steps"])
    assert blocks["evaluations"] < EVALUATIONS and blocks["steps"][-1]["num_full"] == 2
    kept = found("greedy", "--keep-full", "2,8-9", "--start", "FSFFFFFFFF")
    assert all([s["pattern"][i] for i in (1, 2, 8, 9)] == list("SFFF") for s in kept["steps"])


def test_similarity_from_a_file(tmp_path: Path) -> None:
    matrix = [[1.0 if j == 0 else 0.0 for j in range(10)] for _ in range(10)]  # all like the first layer
    (tmp_path / "m.json").write_text(json.dumps({"matrix": matrix}))
    plan = run(
        "search", "--engine", AWK_ENGINE, "--num-layers", 10, "--strategy", "similarity_dp", "--num-full", 2, "--json",
        "--similarity", tmp_path / "m.json",
    ).json()  # fmt: skip
    assert plan["steps"][-1]["pattern"] == "FSSSSSSSSF"
    matrix[4][2] = None  # type: ignore[call-overload]
    (tmp_path / "m.json").write_text(json.dumps({"matrix": matrix}))
    refused = run(
        "search", "--engine", PYTHON_ENGINE, "--strategy", "similarity_dp", "--similarity", tmp_path / "m.json"
    )
    assert refused.status == 2 and "matrix[4][2]" in refused.err


def test_budget_names_the_layers() -> None:
    done = run("search", "--engine", PYTHON_ENGINE, "--loss-budget", 0.05, "--json")
    plan = done.json()
    steps = [step for step in greedy_by_hand() if step[1] <= 1.55]
    assert trajectory(plan) == steps and plan["state"] == "budget"
    last = steps[-1][0]
    over = {layer for layer in range(1, 10) if last[layer] == "F"}
    assert {step["layer"] for step in plan["over_budget"]} == over == {3, 5, 7}
    assert (
        "WARNING: sharing any of the layers 3 (by 0.22660 = 15.1 %), 7 " in done.err
        and "over the budget of +0.05" in done.err
    )
    uniform = run("search", "--engine", PYTHON_ENGINE, "--strategy", "uniform", "--loss-budget", 0.05)
    assert "WARNING: 7 of 10 patterns are over the budget" in uniform.err
    assert "WARNING" not in run("search", "--engine", PYTHON_ENGINE, "--loss-budget", 5).err


def test_killed_anywhere_and_resumed(tmp_path: Path) -> None:
    """The tool itself is killed whenever the journal has grown by a random number of answers, until a search ends."""
    slow = tmp_path / "slow.sh"
    slow.write_text(f'#!/bin/sh\nwhile read -r line; do sleep 0.02; echo "$line"; done | {PYTHON_ENGINE}\n')
    slow.chmod(0o755)
    journal = tmp_path / "j"
    draw = random.Random(5)
    command = [*PROGRAM, "search", "--engine", str(slow), "--journal", "j", "--plan", "plan.json", "--workers", "2"]

    def answers() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    kills = 0
    while True:
        child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)
        until, soon = answers() + draw.randint(0, 8), time.monotonic() + draw.uniform(0.0, 0.1)
        while child.poll() is None and (answers() < until or time.monotonic() < soon):
            time.sleep(0.001)
        if child.poll() is not None:
            break
        child.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        child.communicate()
        kills += 1
        if answers():  # as if a line had been cut while it was written
            with open(journal, "ab") as file:
                file.write(draw.choice([b"", b'{"tell":', b"\0\0\0"]))
    assert child.returncode == 0, child.communicate()[1]
    plan = json.loads((tmp_path / "plan.json").read_text())
    fresh = run("search", "--engine", PYTHON_ENGINE, "--json").json()
    assert kills >= 4
    assert plan["steps"] == fresh["steps"] and plan["evaluations"] == EVALUATIONS
    assert sum(b"tell" in line for line in journal.read_bytes().splitlines()) == EVALUATIONS
    assert load_plan(tmp_path / "plan.json").at(5).pattern == "FSSFSFSFFS"


@pytest.mark.parametrize("size", [0, 1, 40, -1])
def test_journal_cut_in_any_line(size: int, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    assert run("search", "--engine", PYTHON_ENGINE, "--journal", journal).status == 0
    whole = journal.read_bytes()
    os.truncate(journal, size if size >= 0 else len(whole) + size)
    plan = run("search", "--engine", PYTHON_ENGINE, "--journal", journal, "--json").json()
    assert trajectory(plan) == greedy_by_hand() and journal.read_bytes() == whole


def test_similarity_is_asked_for_once(tmp_path: Path) -> None:
    """A second measurement could differ in a bit; then the journal would be that of another search."""
    options = ["--strategy", "similarity_dp", "--num-full", 2, "--max-full", 4, "--journal", tmp_path / "j", "--json"]
    first = run("search", "--engine", PYTHON_ENGINE, *options)
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join(lines[:2]))
    second = run("search", "--engine", PYTHON_ENGINE, *options)
    assert trajectory(first.json()) == trajectory(second.json())
    assert "similarity" in first.err and "asking the engine" not in second.err


def test_journal_of_another_search(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    run("search", "--engine", PYTHON_ENGINE, "--journal", journal, "--num-full", 8)
    before = journal.read_bytes()
    refused = run("search", "--engine", PYTHON_ENGINE, "--journal", journal, "--num-full", 7)
    assert refused.status == 2 and "num_full 8" in refused.err and str(journal) in refused.err
    assert journal.read_bytes() == before
    journal.write_text("something else\n")
    refused = run("search", "--engine", PYTHON_ENGINE, "--journal", journal)
    assert refused.status == 2 and journal.read_text() == "something else\n"


def test_journal_has_one_writer(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    hanging = f"{PYTHON_ENGINE} hang 3"
    child = subprocess.Popen(
        [*PROGRAM, "search", "--engine", hanging, "--journal", str(journal)], stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 20
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= 4) and time.monotonic() < until:
            time.sleep(0.02)
        refused = run("search", "--engine", PYTHON_ENGINE, "--journal", journal)
        assert refused.status == 2 and "another search is writing" in refused.err
        shown = run("show", journal)  # reading is allowed
        assert shown.status == 0 and "not finished" in shown.out
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 130
    finally:
        child.kill()
        child.wait()


FAULTS = {
    "exit": "ended with status 7",
    "kill": "was ended by SIGKILL",
    "garbage": "a line that is not JSON",
    "error": "says: no more memory",
    "wrong-id": "answered id 13; it was asked for id 12",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_engine_that_fails(fault: str, tmp_path: Path) -> None:
    done = run(
        "search", "--engine", f"{PYTHON_ENGINE} {fault} 12", "--journal", tmp_path / "j", "--plan", tmp_path / "p"
    )
    assert done.status == 3 and FAULTS[fault] in done.err and "pattern FFFSFFFFFS" in done.err
    assert "goes on from there" in done.err and not (tmp_path / "p").exists() and done.out == ""
    if fault == "exit":
        assert "the engine: out of memory" in done.err
    plan = run("search", "--engine", PYTHON_ENGINE, "--journal", tmp_path / "j", "--json").json()
    assert trajectory(plan) == greedy_by_hand() and plan["evaluations"] == EVALUATIONS


def test_engine_that_hangs(tmp_path: Path) -> None:
    done = run("search", "--engine", f"{PYTHON_ENGINE} hang 4", "--timeout", 0.5, timeout=20)
    assert done.status == 3 and "has not answered for 0.5 s" in done.err


def test_one_of_two_engines_fails(tmp_path: Path) -> None:
    mark = tmp_path / "mark"  # whoever makes this folder is the one that fails
    engine = f"sh -c 'if mkdir {mark} 2>/dev/null; then exec {PYTHON_ENGINE} exit 3; else exec {PYTHON_ENGINE}; fi'"
    done = run("search", "--engine", engine, "--workers", 2, "--json")
    assert trajectory(done.json()) == greedy_by_hand()
    assert "ended with status 7" in done.err and "going on with 1 more" in done.err


@pytest.mark.parametrize("fault", ["nan", "null", "reject"])
def test_rejections(fault: str) -> None:
    done = run("search", "--engine", f"{PYTHON_ENGINE} {fault} 9", "--json", "--num-full", 9)
    plan = done.json()  # layer 9, which is the best, was not to be
    assert plan["steps"][-1]["layer"] == 2 and "rejected: pattern FFFFFFFFFS" in done.err
    done = run("search", "--engine", f"{PYTHON_ENGINE} {fault} 0", "--json")
    assert done.status == 1 and json.loads(done.out)["state"] == "exhausted" and json.loads(done.out)["steps"] == []
    assert "rejected the pattern to start from" in done.err


def test_what_is_unknown_is_noted_once() -> None:
    done = run("search", "--engine", f"{PYTHON_ENGINE} chatty", "--json", "--quiet")
    assert trajectory(done.json()) == greedy_by_hand()
    for words in ("'loading weights ...'", "unknown type 'progress'", "unknown field 'extra'"):
        assert done.err.count(words) == 1


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ('{"type":"ready","protocol":2,"num_layers":4}', "speaks protocol 2; this program speaks 1"),
        ('{"type":"ready","protocol":1}', "without num_layers"),
        ('{"type":"ready","num_layers":"four"}', "num_layers is 'four'; it must be a whole number"),
        ('{"num_layers":4}', 'without "type"'),
        ('{"type":7}', 'without "type"'),
        ("[1,2]", 'before it sent "ready"'),
        ('{"type":"loss","id":0,"loss":1}', "sent 'loss'; it was asked for \"ready\""),
    ],
)
def test_bad_first_lines(first: str, message: str, tmp_path: Path) -> None:
    engine = tmp_path / "engine.sh"
    engine.write_text(f"#!/bin/sh\nprintf '%s\\n' '{first}'\n")
    engine.chmod(0o755)
    done = run("search", "--engine", engine)
    assert done.status == 3 and message in done.err


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ('{"type":"loss","id":0}', "loss is missing; it must be a number"),
        ('{"type":"loss","id":0,"loss":"1.5"}', "loss is '1.5'; it must be a number"),
        ('{"type":"loss","loss":1.5}', "id is missing"),
        ('{"type":"loss","id":0,"loss":1.5,"metrics":[1]}', "metrics is an array of 1; it must be an object"),
        ('{"type":"loss","id":0,"loss":1.5,"metrics":{"a":"b"}}', "a is 'b'; it must be a number"),
        ('{"type":"ready","num_layers":5}', "has 5 layers; 4 are asked for"),
        ('{"type":"overlap","layers":[0]}', 'asked for "loss" or "reject"'),
    ],
)
def test_bad_answers(answer: str, message: str, tmp_path: Path) -> None:
    engine = tmp_path / "engine.sh"
    engine.write_text(f"#!/bin/sh\nread -r line\nprintf '%s\\n' '{answer}'\ncat >/dev/null\n")
    engine.chmod(0o755)
    done = run("search", "--engine", engine, "--num-layers", 4)
    assert done.status == 3 and message in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "no-such-program"], "'no-such-program' cannot be started: No such file or directory"),
        (["--engine", "'"], "cannot be read"),
        (["--engine", "x", "--plugin", "y"], "--engine and --plugin"),
        (["--plugin", "y"], "no installed package has an engine 'y'"),
        (["--workers", "2"], "--workers is 2"),
        (["--json"], "--json needs standard output"),
        (["--num-full", "0"], "argument --num-full: 0 is not at least 1"),
        (["--keep-full", "1,x"], "argument --keep-full: 'x' is no layer"),
        (["--start", "FXF"], "--start: letter 1 of the pattern 'FXF' is 'X'; allowed are F and S"),
        (["--engine", PYTHON_ENGINE, "--start", "FSF"], "start: pattern has 3 letters"),
        (["--engine", PYTHON_ENGINE, "--num-full", "11"], "num_full is 11"),
        (["--engine", PYTHON_ENGINE, "--keep-full", "10"], "keep_full"),
        (["--engine", PYTHON_ENGINE, "--num-blocks", "2"], "num_blocks"),
        (["--engine", PYTHON_ENGINE, "--loss-budget", "-1"], "loss_budget is -1; it must be 0 or more"),
        (["--engine", PYTHON_ENGINE, "--plan", "/no/such/folder/plan"], "there is no such folder"),
        (["--engine", PYTHON_ENGINE, "--journal", "/no/such/folder/j"], "cannot be used as a journal"),
        (["--plan", "same", "--journal", "./same", "--engine", PYTHON_ENGINE], "--plan and --journal are both same"),
        (["--engine", PYTHON_ENGINE, "--similarity", "/no/such/file"], "/no/such/file: cannot be read"),
        (["--strategy", "gready"], "invalid choice: 'gready'"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    done = run("search", *arguments)
    assert done.status == 2 and message in done.err, done.err


def test_no_engine_at_all() -> None:
    done = run("search")
    assert done.status == 3 and "there is no --engine" in done.err


def test_a_grandchild_does_not_survive(tmp_path: Path) -> None:
    """The engine hangs in a program that it has started; an interrupt ends both, soon."""
    engine = f"sh -c '{PYTHON_ENGINE} hang 2; true'"
    begin = time.monotonic()
    child = subprocess.Popen(
        [*PROGRAM, "search", "--engine", engine, "--journal", str(tmp_path / "j")], stderr=subprocess.PIPE
    )
    while not ((tmp_path / "j").exists() and (tmp_path / "j").read_bytes().count(b"\n") >= 3):
        assert time.monotonic() - begin < 20
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=10)  # its end of the pipe is closed: nobody holds it any more
    assert child.returncode == 130 and b"goes on from there" in errors


class Plugin:
    """An engine without a process."""

    name, num_layers, loss_unit = "plug-in", toy.LAYERS, "bits"

    def __init__(self, fails_at: int = -1) -> None:
        self.fails_at = fails_at
        self.asked: list[Evaluate] = []

    def evaluate(self, request: Evaluate) -> Loss | Reject:
        self.asked.append(request)
        if len(self.asked) == self.fails_at:
            raise RuntimeError("out of memory")
        return Loss(toy.loss(request.pattern))

    def overlap(self, pattern: str) -> Any:
        raise NotImplementedError

    def similarity(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        raise AssertionError("search() leaves engines open")


def test_search_from_python(tmp_path: Path) -> None:
    engine: Engine = Plugin()
    plan = search([engine], Settings(num_full=4), journal=tmp_path / "j", name="mine")
    assert [(s.pattern, s.loss, s.layer) for s in plan.steps] == greedy_by_hand(4)
    assert (plan.name, plan.engine, plan.loss_unit) == ("mine", "plug-in", "bits")
    again = Plugin()  # nothing is left to be asked
    assert search([again], Settings(num_full=4), journal=tmp_path / "j", name="mine") == plan and not again.asked


def test_a_plugin_that_raises(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"plug-in: RuntimeError\('out of memory'\)"):
        search([Plugin(5)], Settings())
    plan = search([Plugin(5), Plugin(), Plugin(2)], Settings())
    assert [(s.pattern, s.loss, s.layer) for s in plan.steps] == greedy_by_hand()


def test_plugin_of_a_package(tmp_path: Path) -> None:
    """An installed package offers an engine; its text comes through."""
    (tmp_path / "far.py").write_text(
        "from indexcache.tool.protocol import Loss\n"
        "class E:\n"
        "  loss_unit = ''\n"
        "  def __init__(self, text): self.name, self.num_layers = 'far', int(text)\n"
        "  def evaluate(self, request): return Loss(request.pattern.count('S'))\n"
        "  def close(self): print('closed')\n"
    )
    info = tmp_path / "far-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[indexcache.engines]\nfar = far:E\n")
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = run("search", "--plugin", "far:3", "--quiet", env=os.environ | {"PYTHONPATH": paths})
    assert done.status == 0 and "FSS" in done.out and "closed" in done.out


def test_a_half_written_answer_is_cut_off(tmp_path: Path) -> None:
    """Before anything is appended: a line that is glued to half of another is lost."""
    options = ["--strategy", "similarity_dp", "--num-full", 3, "--journal", tmp_path / "j", "--json"]
    (tmp_path / "j.answers").write_text('{"type":"simil')
    first = run("search", "--engine", PYTHON_ENGINE, *options).json()
    again = run("search", "--engine", PYTHON_ENGINE, *options)
    assert again.json() == first and "asking" not in again.err
    assert [json.loads(line)["type"] for line in (tmp_path / "j.answers").read_text().splitlines()] == [
        "similarity", "ready", "loss", "loss"
    ]  # fmt: skip


def test_the_engine_of_the_protocols_page(tmp_path: Path) -> None:
    """What the page shows is what works, with a function that a reader would have to write."""
    page = (ROOT / "docs" / "search-protocol.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "engine.py").write_text(f"def mean_loss_of_the_calibration_set(p): return p.count('S')\n{program}")
    engine = f"{sys.executable} {tmp_path / 'engine.py'}"
    plan = run("search", "--engine", engine, "--num-full", 14, "--json").json()
    assert plan["engine"] == "mine" and plan["steps"][-1]["pattern"] == "FSS" + "F" * 13
    for message in re.findall(r"```json\n(.*?)```", page, re.DOTALL):
        for line in message.splitlines():
            assert json.loads(line)["type"] in ("ready", "loss", "reject", "overlap", "similarity", "error")
