# SPDX-License-Identifier: Apache-2.0
"""Puts the steps of tests/gpu/run.sh together: a table, a JSON result file and the log beside it."""

import argparse
import datetime
import json
import pathlib
import re
import subprocess
import sys


def read_steps(work: pathlib.Path) -> list[dict]:
    """One entry per step; a step that left no result file, or ran no test, has failed."""
    steps = []
    for line in (work / "steps").read_text().splitlines():
        name, status, seconds, command = line.split("\t")
        result_file = work / f"{name}.json"
        result = json.loads(result_file.read_text()) if result_file.exists() else {"testsuites": []}
        cases = [(suite["name"], case) for suite in result["testsuites"] for case in suite["testsuite"]]
        run = [(suite, case) for suite, case in cases if case["status"] == "RUN" and case["result"] == "COMPLETED"]
        failed = [f"{suite}.{case['name']}" for suite, case in run if case.get("failures")]
        steps.append(
            {
                "name": name,
                "command": command,
                "exit_status": int(status),
                "seconds": round(float(seconds), 1),
                "tests_run": len(run),
                "tests_failed": failed,
                "passed": int(status) == 0 and len(run) > 0 and not failed,
            }
        )
    return steps


def describe_card() -> dict:
    fields = ["name", "driver_version", "compute_cap", "memory.total"]
    query = [
        "nvidia-smi",
        f"--query-gpu={','.join(fields)}",
        "--format=csv,noheader",
        "--id=0",
    ]
    try:
        line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return {
            "card": "unknown",
            "driver": "unknown",
            "compute_capability": "unknown",
            "memory": "unknown",
        }
    values = [value.strip() for value in line.split(",")]
    return dict(zip(["card", "driver", "compute_capability", "memory"], values, strict=True))


def sanitizer_version() -> str | None:
    try:
        text = subprocess.run(
            ["compute-sanitizer", "--version"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\d+\.\d+\.\d+", text)
    return found.group(0) if found else "unknown"


def print_table(steps: list[dict]) -> None:
    print(f"\n{'step':<12} {'result':<8} {'tests':>6} {'failed':>7} {'seconds':>8}")
    for step in steps:
        result = "passed" if step["passed"] else "FAILED"
        print(
            f"{step['name']:<12} {result:<8} {step['tests_run']:>6} {len(step['tests_failed']):>7} {step['seconds']:>8}"
        )
        for name in step["tests_failed"]:
            print(f"    {name}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    steps = read_steps(args.work)
    now = datetime.datetime.now(datetime.timezone.utc)
    log = "\n".join((args.work / f"{step['name']}.log").read_text() for step in steps)
    seed = re.search(r"^seed: (\d+)$", log, re.MULTILINE)
    result = {
        **describe_card(),
        "commit": args.commit,
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": int(seed.group(1)) if seed else None,
        "passed": all(step["passed"] for step in steps),
        "tests_run": sum(step["tests_run"] for step in steps),
        "compute_sanitizer": sanitizer_version(),
        "steps": steps,
    }
    slug = re.sub(r"[^a-z0-9]+", "-", result["card"].lower().removeprefix("nvidia ")).strip("-")
    stem = f"{slug}-{now:%Y-%m-%d}-tests"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n")
    (args.out / f"{stem}.log").write_text(log)
    print_table(steps)
    if result["compute_sanitizer"] is None:
        print("compute-sanitizer is not on this machine: memory accesses have not been checked")
    print(f"{result['card']}, driver {result['driver']}, commit {args.commit}: {args.out / stem}.json")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
