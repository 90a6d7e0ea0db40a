# SPDX-License-Identifier: Apache-2.0
"""Runs the CPU benchmarks and the tiny model, prints a table, and keeps what was measured, where and at which commit."""

import argparse
import datetime
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, text=True, capture_output=True).stdout.strip()


def commit() -> str:
    try:
        # Like the build's own id: a tree that differs in anything but results is not that commit.
        changed = output("git", "status", "--porcelain", "--", ".", ":!bench/results", ":!docs", ":!README.md")
        return output("git", "rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown"


def processor() -> str:
    match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return match.group(1) if match else platform.machine()


def run_program(program: Path, options: list[str]) -> list[dict]:
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [program, f"--benchmark_out={out.name}", "--benchmark_out_format=json", *options]
        subprocess.run(command, check=True, stdout=sys.stderr)
        rows = json.loads(Path(out.name).read_text())["benchmarks"]
    return [dict(row, program=program.name) for row in rows if row.get("aggregate_name", "median") == "median"]


def run_tiny_model(program: Path, runs: int) -> dict:
    rates = []
    for _ in range(runs):
        text = subprocess.run(
            [program, "--pattern", "F" * 16, "--device", "cpu", "--json"], check=True, text=True, capture_output=True
        ).stdout
        rates.append(json.loads(text)["tokens_per_second"])
    return {"schedule": "all_full", "tokens_per_second_median": statistics.median(rates), "tokens_per_second": rates}


def table(result: dict) -> str:
    lines = [
        f"{result['processor']}, {result['threads']} hardware threads, {result['date']}, commit {result['commit']}",
        "",
        f"{'benchmark':<66}{'time':>12}  rate",
    ]
    for row in result["benchmarks"]:
        name = " ".join(filter(None, [row["name"].removesuffix("_median"), row.get("label", "")]))
        rates = [f"{row[key]:.1f} {key}" for key in row if key.endswith("/s") and key != "items_per_second"]
        lines.append(f"{name:<66}{row['real_time']:>9.4g} {row['time_unit']}  {', '.join(rates)}")
    tiny = result["tiny_model"]
    lines += ["", f"tiny model, all Full: {tiny['tokens_per_second_median']:.0f} tokens/s (transformers, eager: 435)"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path, help="folder of a build with benchmarks and examples")
    parser.add_argument("--out", type=Path, help="folder for <machine>-<date>-bench.json; without it nothing is kept")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each measurement; medians are reported")
    arguments, options = parser.parse_known_args()
    if not any(option.startswith("--benchmark_min_time") for option in options):
        options.append("--benchmark_min_time=0.1")  # of each repetition; all of this takes less than three minutes
    options += [f"--benchmark_repetitions={arguments.runs}", "--benchmark_report_aggregates_only=true"]

    programs = sorted(path for path in (arguments.build / "bench").glob("*_bench") if path.is_file())
    result = {
        "processor": processor(),
        "threads": int(output("nproc")),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "benchmarks": [row for program in programs for row in run_program(program, options)],
        "tiny_model": run_tiny_model(arguments.build / "examples" / "tiny_lm" / "tiny_lm", arguments.runs),
    }
    print(table(result))
    if arguments.out:
        machine = re.sub(r"[^a-z0-9]+", "-", result["processor"].lower()).strip("-")
        arguments.out.mkdir(parents=True, exist_ok=True)
        stem = arguments.out / f"{machine}-{result['date']}-bench"
        stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
        stem.with_suffix(".txt").write_text(table(result) + "\n")


if __name__ == "__main__":
    main()
