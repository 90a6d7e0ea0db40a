# SPDX-License-Identifier: Apache-2.0
"""indexcache schedule: explanations as they are printed, exports as the shared vectors have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import VECTORS
from indexcache.tool.plan import Plan, Step, save_plan
from tool_process import run

CONFIGS = VECTORS / "config"
CASES = json.loads((VECTORS / "cases.json").read_text())
TO = {
    "IC_ENGINE_VLLM": "vllm",
    "IC_ENGINE_SGLANG": "sglang",
    "IC_ENGINE_TENSORRT_LLM": "trtllm",
    "IC_ENGINE_TRANSFORMERS": "transformers",
}

EXPLAINED = """\
layers: 4; 2 Full, 2 Shared
pattern: FSSF
hash: 0x539e35ff87498230
architecture: every sparse layer has an indexer (nothing says that one is absent)
override: desc: pattern
groups:
  layer 0 Full, read by Shared layers 1 2
  layer 3 Full, read by nobody else
indexers that do not run: 1 2
warnings:
  2 layers have an indexer that this schedule does not run: an approximation unless the model was trained for it; measure \
it on contexts far longer than k
"""


def test_explain() -> None:
    done = run("schedule", "explain", "--pattern", "FSSF")
    assert (done.status, done.out, done.err) == (0, EXPLAINED, "")


def test_explain_as_json() -> None:
    found = run("schedule", "explain", "--pattern", "FSS", "--num-mtp-layers", 1, "--json").json()
    assert found["pattern"] == "FSS" and found["num_full"] == 1 and found["conflict"] is None
    assert [layer["source_layer"] for layer in found["layers"]] == [0, 0, 0, 3]
    assert [layer["mode"] for layer in found["layers"]] == ["full", "shared", "shared", "full"]
    assert [layer["is_mtp"] for layer in found["layers"]] == [False, False, False, True]


@pytest.mark.parametrize("case", CASES["resolved"], ids=lambda case: str(case["config"]))
def test_published_configs(case: dict[str, str]) -> None:
    done = run("schedule", "explain", CONFIGS / case["config"])
    assert done.status == 0 and f"pattern: {case['pattern']}\n" in done.out


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: str(case["config"]))
def test_models_of_another_kind(case: dict[str, str]) -> None:
    done = run("schedule", "explain", CONFIGS / case["config"])
    assert done.status == 2 and case["message"] in done.err and done.out == ""


@pytest.mark.parametrize("case", CASES["exported"], ids=lambda case: str(case["file"]))
def test_exports(case: dict[str, str]) -> None:
    pattern = ["--pattern", case["pattern"]] if "pattern" in case else []
    done = run("schedule", "export", "--to", TO[case["engine"]], CONFIGS / case["config"], *pattern)
    assert (done.status, done.out) == (0, (VECTORS / "schedule" / case["file"]).read_text())


def test_freq_and_offset() -> None:
    found = run("schedule", "explain", "--num-layers", 8, "--freq", 4, "--offset", 3, "--json").json()
    assert found["pattern"] == "FFFSSSFS"


def test_fields_that_disagree(tmp_path: Path) -> None:
    config = json.loads((CONFIGS / "glm-5.2.json").read_text())
    config["index_topk_freq"] = 5
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    done = run("schedule", "explain", path)
    assert done.status == 1 and "disagreements:" in done.out and "first at layer 6 (Full / Shared)" in done.out
    assert "the fields disagree" in done.err and "--precedence" in done.err
    accepted = run("schedule", "explain", path, "--precedence")
    assert (accepted.status, accepted.out, accepted.err) == (0, done.out, "")
    assert run("schedule", "export", "--to", "vllm", path).status == 2  # nothing is run on a guess
    assert run("schedule", "export", "--to", "vllm", path, "--precedence").status == 0


def _plan(path: Path, budget: float | None = None) -> Path:
    steps = (
        Step(4, "FFFF", 1.0),
        Step(3, "FFSF", 1.01, 2),
        Step(2, "FSSF", 1.1, 1),
        Step(1, "FSSS", 2.0, 3),
    )
    save_plan(path, Plan("greedy", steps, baseline_loss=1.0, loss_budget=budget))
    return path


def test_of_a_plan(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "plan.json")

    def pattern(*options: object) -> str:
        return str(run("schedule", "explain", "--json", "--plan", plan, *options).json()["pattern"])

    assert pattern("--num-full", 2) == "FSSF"
    assert pattern("--max-increase", 0.05) == "FFSF"
    assert pattern("--max-increase", 0) == "FFFF"
    refused = run("schedule", "export", "--to", "vllm", "--plan", plan)
    assert refused.status == 2 and "Give --num-full N, one of 1, 2, 3, 4, or --max-increase X" in refused.err
    refused = run("schedule", "export", "--to", "vllm", "--plan", plan, "--num-full", 5)
    assert refused.status == 2 and "it has 1, 2, 3, 4" in refused.err
    refused = run("schedule", "explain", plan)
    assert refused.status == 2 and f"give it as --plan {plan}" in refused.err
    _plan(plan, 0.2)  # a search with a budget has chosen already
    assert pattern() == "FSSF"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing says what the model looks like"),
        (["no-such.json"], "no-such.json: cannot be read: No such file or directory"),
        (["--pattern", "FX"], "letter 1 of the pattern 'FX' is 'X'; allowed are F and S"),
        (["--pattern", "SF"], "layer 0 Shared"),
        (["--pattern", "FS", "--num-layers", "3"], "letters"),
        (["--offset", "3", "--num-layers", "4"], "--offset is given without --freq"),
        (["--num-full", "3", "--num-layers", "4"], "--plan, which is not given"),
        (["--num-layers", "4", "--indexer-layers", "0", "--pattern", "FFSS"], "layer 1"),
        (["--plan", "x", "--pattern", "FS"], "--plan is given with --pattern"),
        (["--freq", "0", "--num-layers", "4"], "argument --freq: 0 is not at least 1"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    done = run("schedule", "explain", *arguments)
    assert done.status == 2 and message in done.err, done.err


def test_what_an_engine_cannot_express() -> None:
    config = CONFIGS / "deepseek-v4-flash.json"
    done = run("schedule", "export", "--to", "transformers", config, "--freq", 2)
    assert done.status == 1 and done.out == "" and "transformers cannot run this schedule: " in done.err
    assert "10 Shared layers" in done.err


def test_export_needs_an_engine() -> None:
    assert "--to" in run("schedule", "export", "--pattern", "FS").err
    done = run("schedule", "export", "--to", "llama", "--pattern", "FS")
    assert done.status == 2 and "'vllm', 'sglang', 'trtllm', 'transformers'" in done.err
    assert "explain or export" in run("schedule").err
