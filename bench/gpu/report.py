# SPDX-License-Identifier: Apache-2.0
"""Puts what gpu_bench measured beside limits, peers and goals: a JSON file, a Markdown table and one line."""

import argparse
import datetime
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

SECTIONS = {
    "full_prefill": "Full layer, prefill: the last 8192 rows of a context, causal, fp8, exact top-k 2048 (sustained)",
    "scores_prefill": "The same rows, scores alone, written as fp32 (sustained)",
    "full_prompt": "Full layer, a whole prompt in parts of 8192 rows, fp8, 32 heads (sustained)",
    "full_decode": "Full layer, decode: one query per request, fp8 keys in pages of 64 (median)",
    "scores_decode": "The same, scores alone",
    "topk": "Top-k 2048 alone, fp32 scores, clustered unless named otherwise (median)",
    "mla_prefill": "Sparse MLA, prefill, bf16 KV, 2048 random indices (sustained)",
    "mla_decode": "Sparse MLA, decode, fp8 KV in pages of 64, 2048 random indices (median)",
    "prepare_queries": "Preparation of queries, bf16 to e4m3 (median)",
    "prepare_keys": "Preparation of keys, bf16 to e4m3 pages (median)",
    "remap": "Logical indices to slots, k 2048, calls one by one (median)",
    "shared_layer": "Call of a Shared layer, host time",
}


def describe_card() -> dict:
    fields = {"driver": "driver_version", "memory": "memory.total", "power_limit": "power.limit"}
    query = ["nvidia-smi", f"--query-gpu={','.join(fields.values())}", "--format=csv,noheader", "--id=0"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return dict.fromkeys(fields, "unknown")
    return dict(zip(fields, (value.strip() for value in line.split(",")), strict=True))


def read_rows(measured: dict, peers: dict) -> list[dict]:
    """One entry per benchmark, with what is known of its peers."""
    known = {row["row"]: row for row in peers["rows"]}
    rows = []
    for entry in measured["benchmarks"]:
        name = re.sub(r"/(iterations:\d+|manual_time)", "", entry["name"])
        base, _, pool = name.partition("/pool:")
        peer = known.get(base, {})
        row = {"row": name, "unit": entry.get("time_unit") or peer.get("unit"), "pool": pool or None}
        if entry.get("error_occurred"):
            row["error"] = entry["error_message"]
        else:
            row["time"] = entry["real_time"]
            for key in ("samples", "sets", "calls", "best_us", "mean_us", "FLOP/s", "B/s"):
                if key in entry:
                    row[key] = entry[key]
        for key in ("limit", "peer", "peer_name", "must", "goal"):
            row[key] = peer.get(key)
        rows.append(row)
    return rows


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def mean(row: dict) -> float | None:
    """The mean beside a median, in the row's unit."""
    return row["mean_us"] / {"us": 1, "ms": 1e3}[row["unit"]] if "mean_us" in row else None


def reaches(row: dict, name: str) -> bool:
    """Whether the median and the mean are at or under a figure of the peers' file."""
    return row[name] is not None and max(row["time"], mean(row) or 0) <= row[name]


def verdict(row: dict) -> str:
    for name in ("goal", "must"):
        if reaches(row, name):
            return name
    return "" if row["goal"] is None else "-"


def markdown(result: dict, peers: dict) -> str:
    lines = [
        f"# {result['card']}, {result['date'][:10]}",
        "",
        f"Driver {result['driver']}, {result['memory']}, power limit {result['power_limit']}; commit {result['commit']}.",
        "Times of what users call, through the C API: CUDA events around replays of a graph, inputs rotated past the L2",
        "(bench/gpu/measure.h). Mean: beside a median, that of the same replays one behind the other for 0.3 s; must and",
        "goal are reached where both are. Full layers and top-k are checked for exactness in the same run. Peers, must and goal:",
        f"{peers['source']} Limits, of that card:",
        "; ".join(f"{names}: {text}" for names, text in peers["limits"].items()) + ".",
    ]
    for section, title in SECTIONS.items():
        rows = [row for row in result["rows"] if row["row"].split("/")[0] == section]
        if not rows:
            continue
        unit = rows[0]["unit"]
        lines += ["", f"## {title}, {unit}", ""]
        lines += ["| case | measured | mean | limit | / limit | peer | peer / ours | must | goal | reached |"]
        lines += ["|---|---|---|---|---|---|---|---|---|---|"]
        for row in rows:
            case = " ".join(row["row"].split("/")[1:]).replace(":", " ") or "one call"
            if "error" in row:
                lines.append(
                    f"| {case} | {row['error']} | | {number(row['limit'])} | | {number(row['peer'])} | | | | |"
                )
                continue
            over = row["time"] / row["limit"] if row["limit"] else None
            gain = row["peer"] / row["time"] if row["peer"] else None
            cells = [case, number(row["time"]), number(mean(row)), number(row["limit"]), number(over)]
            cells += [number(row["peer"]), number(gain), number(row["must"]), number(row["goal"]), verdict(row)]
            lines.append("| " + " | ".join(cells) + " |")
    names = sorted({f"{row['row'].split('/')[0]}: {row['peer_name']}" for row in result["rows"] if row["peer_name"]})
    lines += ["", "Peers: " + "; ".join(names) + "."]
    return "\n".join(lines) + "\n"


def summary(result: dict) -> str:
    good = [row for row in result["rows"] if "time" in row]
    with_peer = [row for row in good if row["peer"]]
    with_goal = [row for row in good if row["goal"] is not None]
    goals = sum(reaches(row, "goal") for row in with_goal)
    musts = [row for row in good if row["must"] is not None]
    over = [row["time"] / row["limit"] for row in with_goal if row["limit"]]
    return (
        f"{result['card']}, driver {result['driver']}, commit {result['commit'][:12]}: {len(good)} of "
        f"{len(result['rows'])} rows measured in {result['seconds']:.0f} s; faster than the peer in "
        f"{sum(row['time'] < row['peer'] for row in with_peer)} of {len(with_peer)}, must reached in "
        f"{sum(reaches(row, 'must') for row in musts)} of {len(musts)}, goal in {goals} of {len(with_goal)}; "
        f"median {statistics.median(over) if over else 0:.1f} times the limit"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path, help="JSON output of gpu_bench")
    parser.add_argument("--commit", required=True)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    measured = json.loads(arguments.measured.read_text())
    peers = json.loads((HERE / "peers.json").read_text())
    now = datetime.datetime.now(datetime.timezone.utc)
    result = {
        "card": measured["context"]["card"],
        "compute_capability": measured["context"]["compute_capability"],
        **describe_card(),
        "cuda": measured["context"]["cuda"],
        "library": json.loads(measured["context"]["library"]),
        "commit": arguments.commit,
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": arguments.seconds,
        "rows": read_rows(measured, peers),
    }
    slug = re.sub(r"[^a-z0-9]+", "-", result["card"].lower().removeprefix("nvidia ")).strip("-")
    stem = f"{slug}-{now:%Y-%m-%d}-bench"
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.out / f"{stem}.md").write_text(markdown(result, peers))
    print(markdown(result, peers))
    print(f"{arguments.out / stem}.md")
    print(summary(result))
    return 0 if all("time" in row for row in result["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
