# SPDX-License-Identifier: Apache-2.0
"""Puts the steps of tests/gpu/run.sh together: a table, a JSON result file and the log beside it."""

import argparse
import datetime
import json
import pathlib
import re
import subprocess
import sys

NOT_ASKED_FOR = "not asked for"  # run.sh's words
PLANTED_FOUND = 99  # the exit status that run.sh asks the tools for
LOG_BYTES_OF_A_STEP = 24_000
HERE = pathlib.Path(__file__).parent
CPU_ONLY = [HERE / "shim" / "cpu_only.txt", HERE / "packages_cpu_only.txt"]
# What the test programs of other languages print: how many tests have run, and the name of one that failed.
PRINTED = {
    "rust": (r"^test result: .*?(\d+) passed; (\d+) failed", r"^test (\S+) \.\.\. FAILED$"),
    "go": (r"^--- (?:PASS|FAIL): ()()", r"^--- FAIL: (\S+)"),
    "python": (r"^(?=\d+ (?:passed|failed|error)).*? in [\d.]+s", r"^(?:FAILED|ERROR) (\S+)"),
}
# What the harness of a test says of every test; anything else has been recorded by the test.
KNOWN = {"name", "status", "result", "timestamp", "time", "classname", "failures", "file", "line", "value_param"}
KNOWN |= {"type_param"}


def read_steps(work: pathlib.Path) -> list[dict]:
    """One entry per step. A step that left no result file, or ran no test, has failed."""
    steps = []
    for line in (work / "steps").read_text().splitlines():
        name, kind, status, seconds, command = line.split("\t")
        step = {
            "name": name,
            "command": command.replace(f"--gtest_output=json:{work}/{name}.json", "").strip(),
            "exit_status": int(status),
            "seconds": round(float(seconds), 1),
            "tests_run": 1,
            "tests_failed": [],
        }
        if kind == "gtest":
            result_file = work / f"{name}.json"
            result = json.loads(result_file.read_text()) if result_file.exists() else {"testsuites": []}
            cases = [(suite["name"], case) for suite in result["testsuites"] for case in suite["testsuite"]]
            run = [(suite, case) for suite, case in cases if case["status"] == "RUN" and case["result"] == "COMPLETED"]
            step["tests_run"] = len(run)
            step["tests_failed"] = [f"{suite}.{case['name']}" for suite, case in run if case.get("failures")]
            recorded = {key: value for _, case in run for key, value in case.items() if key not in KNOWN}
            if recorded:
                step["recorded"] = recorded
            step["passed"] = int(status) == 0 and bool(run) and not step["tests_failed"]
        elif kind in PRINTED:
            step["tests_run"], step["tests_failed"] = read_printed(kind, (work / f"{name}.log").read_text())
            step["passed"] = int(status) == 0 and step["tests_run"] > 0 and not step["tests_failed"]
        elif kind == "planted":
            step["passed"] = int(status) == PLANTED_FOUND
        else:
            step["passed"] = int(status) == 0
        steps.append(step)
    return steps


def read_printed(kind: str, log: str) -> tuple[int, list[str]]:
    """How many tests a log speaks of, and which of them failed."""
    counted, failed = (re.compile(pattern, re.MULTILINE) for pattern in PRINTED[kind])
    if kind == "go":
        run = len(counted.findall(log))
    elif kind == "rust":
        run = sum(int(count) for counts in counted.findall(log) for count in counts)
    else:
        lines = [line.group(0) for line in counted.finditer(log)]
        run = sum(int(count) for line in lines for count in re.findall(r"(\d+) (?:passed|failed|error)", line))
    return run, failed.findall(log)


def read_lines(path: pathlib.Path) -> list[str]:
    return sorted({line for line in path.read_text().splitlines() if line}) if path.exists() else []


def read_left_out_steps(work: pathlib.Path) -> dict[str, str]:
    """Steps that were not run, with the reason."""
    return dict(line.split("\t") for line in read_lines(work / "left_out_steps"))


def read_cpu_only(work: pathlib.Path, unseen: set[str]) -> tuple[dict[str, str], list[str]]:
    """Tests that were left out, with the reason; and names of the lists that are no test. Nobody can tell of the
    languages whose programs were not there."""
    reasons = {}
    for line in [line for path in CPU_ONLY for line in path.read_text().splitlines()]:
        if line.strip() and not line.startswith("#"):
            name, reason = line.split(None, 1)
            reasons[name] = reason.strip()
    left_out = read_lines(work / "cpu_only")
    unknown = [name for name in reasons if name not in left_out and name.partition(":")[0] not in unseen]
    return {name: reasons[name] for name in left_out}, unknown


def describe_card() -> dict:
    fields = ["name", "driver_version", "compute_cap", "memory.total"]
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    names = ["card", "driver", "compute_capability", "memory"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return dict.fromkeys(names, "unknown")
    return dict(zip(names, [value.strip() for value in line.split(",")], strict=True))


def sanitizer_version() -> str | None:
    try:
        text = subprocess.run(["compute-sanitizer", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\d+\.\d+\.\d+", text)
    return found.group(0) if found else "unknown"


def read_log(path: pathlib.Path) -> str:
    """Beginning and end of a step's log."""
    text = path.read_text(errors="replace") if path.exists() else ""
    if len(text) <= LOG_BYTES_OF_A_STEP:
        return text
    half = LOG_BYTES_OF_A_STEP // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} bytes are left out ...]\n{text[-half:]}"


def print_table(steps: list[dict]) -> None:
    print(f"\n{'step':<22} {'result':<8} {'tests':>6} {'failed':>7} {'seconds':>8}")
    for step in steps:
        result = "passed" if step["passed"] else "FAILED"
        print(
            f"{step['name']:<22} {result:<8} {step['tests_run']:>6} {len(step['tests_failed']):>7} {step['seconds']:>8}"
        )
        for name in step["tests_failed"]:
            print(f"    {name}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--tree", default="")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    steps = read_steps(args.work)
    left_out = read_left_out_steps(args.work)
    unseen = {name for name, why in left_out.items() if "programs are not in the folder" in why}
    cpu_only, unknown = read_cpu_only(args.work, unseen)
    now = datetime.datetime.now(datetime.timezone.utc)
    log = "\n".join(read_log(args.work / f"{step['name']}.log") for step in steps)
    seed = re.search(r"^seed: (\d+)$", log, re.MULTILINE)
    result = {
        **describe_card(),
        "commit": args.commit,
        "tree": args.tree or None,
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": int(seed.group(1)) if seed else None,
        "passed": all(step["passed"] for step in steps) and not unknown,
        "tests_run": sum(step["tests_run"] for step in steps),
        "compute_sanitizer": sanitizer_version(),
        "left_out_steps": left_out,
        "left_out_tests": cpu_only,
        "steps": steps,
    }
    slug = re.sub(r"[^a-z0-9]+", "-", result["card"].lower().removeprefix("nvidia ")).strip("-")
    # A run of some steps says nothing about the others: it has a name that nobody takes for a whole one.
    stem = f"{slug}-{now:%Y-%m-%d}-{'some-' if result['left_out_steps'] else ''}tests"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n")
    (args.out / f"{stem}.log").write_text(log)
    print_table(steps)
    for step in steps:
        for key, value in step.get("recorded", {}).items():
            print(f"{step['name']}: {key} {value}")
    if result["compute_sanitizer"] is None:
        print("compute-sanitizer is not on this machine: memory accesses have not been checked")
    for name in unknown:
        print(f"{' or '.join(path.name for path in CPU_ONLY)} names {name}, which is no test")
    for name, why in left_out.items():
        if why != NOT_ASKED_FOR:
            print(f"left out: {name}, {why}")
    if others := [name for name, why in left_out.items() if why == NOT_ASKED_FOR]:
        print(f"{NOT_ASKED_FOR}: {' '.join(others)}")
    print(f"{result['card']}, driver {result['driver']}, commit {args.commit}, {result['tests_run']} tests")
    print(f"{args.out / stem}.json")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
