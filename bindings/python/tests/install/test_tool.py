# SPDX-License-Identifier: Apache-2.0
"""The program `indexcache` of the installed wheel, where there is neither numpy nor cairosvg."""

import importlib.metadata
import json
import shlex
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("indexcache")
ENGINE = """
import json, sys
print(json.dumps({"type": "ready", "protocol": 1, "num_layers": 4}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["type"] == "quit":
        break
    print(json.dumps({"type": "loss", "id": request["id"], "loss": request["pattern"].count("S")}), flush=True)
"""


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_version() -> None:
    assert run("--version").stdout == f"indexcache {importlib.metadata.version('indexcache')}\n"


def test_from_a_search_to_an_engine(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(ENGINE)
    engine = shlex.join([sys.executable, str(tmp_path / "engine.py")])
    plan = tmp_path / "plan.json"
    done = run("search", "--engine", engine, "--journal", tmp_path / "j", "--plan", plan)
    assert done.returncode == 0, done.stderr
    done = run("show", plan, "--html", tmp_path / "r.html")
    assert done.returncode == 0 and "FSSF" in done.stdout and "<svg " in (tmp_path / "r.html").read_text()
    done = run("schedule", "export", "--to", "vllm", "--plan", plan, "--num-full", 2)
    assert json.loads(done.stdout)["index_topk_pattern"] == "FSSF"
    done = run("show", plan, "--png", tmp_path)
    assert done.returncode == 2 and "pip install 'indexcache[report]'" in done.stderr


def test_protocol_page() -> None:
    assert run("protocol").stdout.startswith("# The search protocol\n")
