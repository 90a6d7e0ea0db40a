# SPDX-License-Identifier: Apache-2.0
"""agree.py NAME < report: fails when what a language reports of the layout is not what bindings/api.json says.

A report has, in any order, one line per fact (see expected()). A missing, a doubled and an unknown line are errors.
"""

import collections
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "bindings" / "gen"))

from model import FUNCTION_MACRO_SAMPLES, FUNCTION_MACROS  # noqa: E402


def expected() -> list[str]:
    api = json.loads((ROOT / "bindings" / "api.json").read_text(encoding="utf-8"))
    lines = []
    for struct in api["structs"]:
        name, fields = struct["name"], struct["fields"]
        alignment = max(field["size"] // field["type"].get("array", 1) for field in fields)
        lines.append(f"struct {name} {struct['size']} {alignment}")
        lines += [f"field {name} {field['name']} {field['offset']} {field['size']}" for field in fields]
    lines += [f"constant {constant['name']} {constant['value']}" for constant in api["constants"]]
    lines += [f"constant IC_VERSION_{part.upper()} {value}" for part, value in api["version"].items()]
    for macro in api["macros"]:
        name = macro["name"]
        lines += [f"macro {name} {sample} {FUNCTION_MACROS[name](sample)}" for sample in FUNCTION_MACRO_SAMPLES[name]]
    return lines


def differences(report: list[str]) -> list[str]:
    wanted, found = collections.Counter(expected()), collections.Counter(report)
    missing = [f"missing: {line}" for line in wanted - found]
    return missing + [f"not in api.json: {line}" for line in found - wanted]


def main() -> int:
    name = sys.argv[1]
    report = [line.strip() for line in sys.stdin if line.strip()]
    problems = differences(report)
    for problem in problems[:20]:
        print(f"{name}: {problem}", file=sys.stderr)
    if len(problems) > 20:
        print(f"{name}: and {len(problems) - 20} more", file=sys.stderr)
    print(f"{name}: {len(report)} facts, {len(problems)} differences")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
