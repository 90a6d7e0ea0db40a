# SPDX-License-Identifier: Apache-2.0
"""indexcache overlap: matrices of an engine, and exported blocks compared with numpy."""

from __future__ import annotations

import json
from pathlib import Path

import indexcache as ic
import numpy as np
import pytest
from conftest import Problem, rows_of
from tool_process import AWK_ENGINE, PYTHON_ENGINE, SHELL_ENGINE, run


def test_of_an_engine(tmp_path: Path) -> None:
    found = run("overlap", "--engine", PYTHON_ENGINE, "--json").json()
    assert found["layers"] == list(range(10)) and found["k"] == 64 and found["rows"] == 512
    assert found["recall"][3][1] == 0.81 and found["mass"][1][3] is None and found["pattern"] == "F" * 10
    (tmp_path / "o.json").write_text(json.dumps(found))
    again = run("overlap", tmp_path / "o.json", "--json").json()
    assert again == found
    text = run("overlap", tmp_path / "o.json", "--groups", "FSSFFFFFFF").out
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:11]}
    assert lines["0"] == ["-", "-", "-", "itself", "1.00000", "1.00000", "1.00000"]
    assert lines["2"] == ["0.90000", "0.90000", "0.95000", "0", "0.81000", "0.81000", "0.90250"]
    assert "does not tell what sharing costs" in text


def test_pattern_reaches_the_engine(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run("overlap", "--engine", f"sh -c 'tee {log} | {PYTHON_ENGINE}'", "--pattern", "FSFSFFFFFF", "--json")
    assert done.json()["pattern"] == "FSFSFFFFFF"
    assert json.loads(log.read_text().splitlines()[0]) == {"type": "overlap", "pattern": "FSFSFFFFFF"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["--engine", PYTHON_ENGINE, "--pattern", "FS"],
            2,
            "--pattern: the pattern has 2 letters; the model has 10 layers",
        ),
        (["--engine", f"{PYTHON_ENGINE} error 0"], 3, "says: no more memory"),
        (["--engine", SHELL_ENGINE], 3, "says: this engine can only evaluate"),
        (["--engine", AWK_ENGINE, "--num-layers", "10", "--timeout", "0.3"], 3, "has not answered"),
        (["--engine", PYTHON_ENGINE, "--groups", "FX"], 2, "--groups: letter 1"),
        (["--engine", PYTHON_ENGINE, "--groups", "FS", "--html", "/tmp/x"], 2, "2 letters; the overlap has layer 9"),
        (["x", "--engine", "y"], 2, "files and an engine"),
        (["no-such-file"], 2, "no-such-file: cannot be read"),
        ([str(Path(__file__))], 2, "is neither a plan nor the journal"),
    ],
)
def test_what_is_refused(arguments: list[str], status: int, message: str) -> None:
    done = run("overlap", *arguments)
    assert done.status == status and message in done.err, done.err


def _blocks(context: ic.Context, folder: Path) -> tuple[list[Path], list[list[list[int]]]]:
    """Blocks of three Full layers with queries of their own."""
    problem = Problem(context, "FFFF", num_slots=4)
    problem.cache.begin(problem.batch)
    paths, sets = [], []
    for layer in (0, 2, 3):
        problem.q += np.float32(0.5) * np.random.default_rng(layer).standard_normal(problem.q.shape, np.float32)
        sets.append(rows_of(problem.full(layer)()))
        path = folder / f"layer-{layer}.icix"
        path.write_bytes(bytes(problem.cache.export_block(layer).memoryview().cast("B")))
        paths.append(path)
    return paths, sets


def test_of_blocks(context: ic.Context, tmp_path: Path) -> None:
    paths, sets = _blocks(context, tmp_path)
    found = run("overlap", *reversed(paths), "--json").json()
    assert found["layers"] == [0, 2, 3] and found["k"] == Problem.K and found["rows"] == 2 and found["mass"] is None
    for i, mine in enumerate(sets):
        for j, others in enumerate(sets):
            both = [len(set(a) & set(b)) for a, b in zip(mine, others)]
            recall = np.mean([n / len(a) for n, a in zip(both, mine)])
            jaccard = np.mean([n / len(set(a) | set(b)) for n, a, b in zip(both, mine, others)])
            assert found["recall"][i][j] == pytest.approx(recall, abs=1e-6)
            assert found["jaccard"][i][j] == pytest.approx(jaccard, abs=1e-6)
    assert 0 < found["recall"][0][2] < 1


def test_blocks_that_do_not_fit(context: ic.Context, tmp_path: Path) -> None:
    paths, _ = _blocks(context, tmp_path)
    whole = paths[0].read_bytes()
    odd = tmp_path / "odd"

    def refused(content: bytes, *others: Path) -> str:
        odd.write_bytes(content)
        done = run("overlap", odd, *others)
        assert done.status == 2
        return done.err

    assert "is cut off" in refused(whole[:-1], paths[1])
    assert "a header of 64 bytes" in refused(whole[:40], paths[1])
    assert "is no exported block" in refused(b"{}", paths[1])
    assert "version 7" in refused(whole[:4] + b"\7" + whole[5:], paths[1])
    assert "both of layer 2" in refused(paths[1].read_bytes(), paths[1])
    assert "is a single block" in refused(whole)
    fewer = whole[:28] + b"\1" + whole[29:]
    assert "has 1: they are not of one forward" in refused(fewer, paths[1])
    other = whole[:8] + b"\1" * 8 + whole[16:]
    odd.write_bytes(other)
    assert "different schedules" in run("overlap", odd, paths[1]).err
    negative = bytearray(whole)
    negative[64:68] = b"\xff" * 4  # a length
    assert "row 0 has -1 indices; 0 to 8 are allowed" in refused(bytes(negative), paths[1])
    twice = bytearray(whole)
    twice[76:80] = twice[72:76]  # the first two indices
    assert "row 0 is no list of ascending positions" in refused(bytes(twice), paths[1])
