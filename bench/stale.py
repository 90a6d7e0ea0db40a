# SPDX-License-Identifier: Apache-2.0
"""Names the result files of bench/results that are older than the code they measured, by the commit that each states.

An old result is no error: it says what was so. A document that quotes it as if it were so now is one, so this fails when
README.md or a page of docs/ names such a file. Without the history to compare with it says so and fails for nothing.
"""

import json
import pathlib
import re
import subprocess
import sys

GPU_CODE = ["kernels", "lib/cuda"]
CPU_CODE = ["lib/cpu"]


class Results:
    def __init__(self, root: pathlib.Path):
        self.root = root

    def git(self, *arguments: str) -> str | None:
        """Output, or None when git cannot say."""
        try:
            run = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return run.stdout

    def changed_since(self, commit: str, paths: list[str]) -> list[str] | None:
        """Files that differ from a commit, the ones not committed yet among them; None when it is not in the history."""
        if self.git("cat-file", "-e", f"{commit}^{{commit}}") is None:
            return None
        committed = self.git("diff", "--name-only", commit, "--", *paths)
        new = self.git("ls-files", "--others", "--exclude-standard", "--", *paths)
        if committed is None or new is None:
            return None
        return sorted({*committed.split(), *new.split()})

    def state(self, path: pathlib.Path) -> tuple[bool, str]:
        """Whether a result is known to be stale, and what there is to say of it; nothing when it is current."""
        data = json.loads(path.read_text())
        commit = str(data.get("commit", ""))
        if not re.fullmatch(r"[0-9a-f]{7,64}(-dirty)?", commit):
            return True, "it names no commit"
        if commit.endswith("-dirty"):
            return True, f"it was measured beside {commit.removesuffix('-dirty')}, with changes that no commit has"
        changed = self.changed_since(commit, GPU_CODE if "card" in data else CPU_CODE)
        if changed is None:
            return False, f"its commit {commit[:12]} is not in this history: nothing to compare with"
        if not changed:
            return False, ""
        names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        return True, f"changed since {commit[:12]}: {names}"

    def documents(self) -> list[pathlib.Path]:
        return [
            path for path in [self.root / "README.md", *sorted((self.root / "docs").rglob("*.md"))] if path.exists()
        ]

    def quotes(self, stem: str) -> list[str]:
        """Where a document names the result or what lies beside it (log, text), as file:line."""
        name = re.compile(re.escape(stem) + r"\.(json|md|txt|log)\b")
        return [
            f"{path.relative_to(self.root)}:{number}"
            for path in self.documents()
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if name.search(line)
        ]

    def report(self) -> int:
        failed = 0
        for path in sorted((self.root / "bench" / "results").glob("*.json")):
            stale, text = self.state(path)
            if text:
                print(f"{path.relative_to(self.root)}: {'older than the code; ' if stale else ''}{text}")
            for place in self.quotes(path.stem) if stale else []:
                print(f"    {place} quotes it")
                failed = 1
        return failed


if __name__ == "__main__":
    sys.exit(Results(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])).report())
