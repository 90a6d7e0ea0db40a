# SPDX-License-Identifier: Apache-2.0
"""Generates everything that follows from include/indexcache.h, or checks it. See README.md in this folder.

python3 bindings/gen                        write the generated files
python3 bindings/gen --check                fail when a generated file differs from what would be written
python3 bindings/gen --against OLD.json     fail when the header breaks what the api.json of an older version promised
python3 bindings/gen --against-tags         the same against every release of this series that is tagged in git
"""

import argparse
import difflib
import importlib
import json
import sys
from pathlib import Path

import emit_json
import release_gate
from abi_diff import compare
from check import check_header
from header import read_header
from model import Header
from tokens import HeaderError

# A new target is a module emit_<target>.py with emit(header) -> {path: text}.
EMITTERS = [importlib.import_module(path.stem) for path in sorted(Path(__file__).parent.glob("emit_*.py"))]
HEADER = "include/indexcache.h"


def generate(header: Header) -> dict[str, str]:
    """Path (below the repository's root) and text of every generated file."""
    files: dict[str, str] = {}
    for emitter in EMITTERS:
        files |= emitter.emit(header)
    return files


def load(path: Path) -> Header:
    """The checked header; prints every problem and ends the program when there is one."""
    try:
        header = read_header(path.read_text(encoding="utf-8"))
        problems = check_header(header)
    except HeaderError as problem:
        problems = [problem]
    for problem in problems:
        print(f"{HEADER}:{problem.line}: {problem.message}", file=sys.stderr)
    if problems:
        sys.exit(1)
    return header


def write(root: Path, files: dict[str, str]) -> int:
    for path, text in files.items():
        target = root / path
        if not target.exists() or target.read_bytes() != text.encode():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode())
            print(f"wrote {path}")
    return 0


def check(root: Path, files: dict[str, str]) -> int:
    stale = 0
    for path, text in files.items():
        target = root / path
        committed = target.read_bytes() if target.exists() else b""
        if committed != text.encode():
            stale += 1
            lines = [t.splitlines(keepends=True) for t in (committed.decode(errors="replace"), text)]
            sys.stderr.writelines(difflib.unified_diff(*lines, f"{path} (as it is)", f"{path} (from the header)"))
            print(f"{path} is not what the header gives: run python3 bindings/gen", file=sys.stderr)
    print(f"{len(files) - stale} of {len(files)} generated files are up to date")
    return int(stale > 0)


def against(old: dict, new: dict, name: str) -> int:
    violations = compare(old, new)
    for violation in violations:
        print(f"against {name}: {violation}", file=sys.stderr)
    if not violations:
        print(f"compatible with {name}")
    return int(bool(violations))


def against_tags(root: Path, new: dict) -> int:
    try:
        releases = release_gate.earlier_releases(root, new["version"])
    except release_gate.GateError as error:
        print(f"release gate: {error}", file=sys.stderr)
        return 1
    if not releases:
        print(
            f"release gate: {HEADER} begins a new series and no release of it is tagged: nothing to be compatible with"
        )
    return max([against(old, new, tag) for tag, old in releases], default=0)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bindings/gen", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--against", metavar="OLD.json", type=Path)
    mode.add_argument("--against-tags", action="store_true")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2], help="the repository")
    options = parser.parse_args()

    header = load(options.root / HEADER)
    if options.against:
        return against(
            json.loads(options.against.read_text(encoding="utf-8")), emit_json.api(header), str(options.against)
        )
    if options.against_tags:
        return against_tags(options.root, emit_json.api(header))
    files = generate(header)
    return check(options.root, files) if options.check else write(options.root, files)


if __name__ == "__main__":
    sys.exit(main())
