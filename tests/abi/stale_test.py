# SPDX-License-Identifier: Apache-2.0
"""bench/stale.py in a small repository: which results are old, and when that is an error."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

STALE = pathlib.Path(__file__).parents[2] / "bench" / "stale.py"


class StaleTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for path in [
            "kernels/topk/select.cu",
            "lib/cpu/select.cpp",
            "lib/core/schedule.cpp",
            "README.md",
            "docs/a/b.md",
        ]:
            self.write(path, "1\n")
        self.git("init", "--quiet")
        self.first = self.commit()

    def git(self, *arguments: str) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        run = subprocess.run(
            ["git", *identity, *arguments], cwd=self.root, env=environment, capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    def write(self, path: str, text: str):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", "a change")
        return self.git("rev-parse", "HEAD")

    def result(self, name: str, commit: str, card: bool = True):
        self.write(f"bench/results/{name}.json", json.dumps({"commit": commit} | ({"card": "H200"} if card else {})))

    def stale(self) -> tuple[int, str]:
        run = subprocess.run([sys.executable, STALE, str(self.root)], capture_output=True, text=True, check=False)
        self.assertEqual(run.stderr, "")
        return run.returncode, run.stdout

    def test_a_current_result_says_nothing(self):
        self.result("h200-tests", self.first)
        self.result("cpu-bench", self.first, card=False)
        self.write("README.md", "[figures](bench/results/h200-tests.json)\n")
        self.write("lib/core/schedule.cpp", "no kernel\n")
        self.commit()
        self.assertEqual(self.stale(), (0, ""))

    def test_an_old_result_is_named_and_no_error(self):
        self.result("h200-tests", self.first)
        self.result("cpu-bench", self.first, card=False)
        self.write("kernels/topk/select.cu", "2\n")
        self.commit()
        status, text = self.stale()
        self.assertEqual(status, 0)
        self.assertIn("bench/results/h200-tests.json: older than the code", text)
        self.assertIn("kernels/topk/select.cu", text)
        self.assertNotIn("cpu-bench", text)

    def test_each_result_has_its_own_code(self):
        self.result("h200-tests", self.first)
        self.result("cpu-bench", self.first, card=False)
        self.write("lib/cpu/select.cpp", "2\n")
        status, text = self.stale()  # not committed yet
        self.assertEqual(status, 0)
        self.assertIn("cpu-bench.json: older than the code", text)
        self.assertNotIn("h200-tests", text)

    def test_a_new_file_counts(self):
        self.result("h200-tests", self.first)
        self.write("kernels/topk/merge.cu", "1\n")
        self.assertIn("kernels/topk/merge.cu", self.stale()[1])

    def test_a_document_that_quotes_an_old_result_is_an_error(self):
        self.result("h200-tests", self.first)
        self.write("kernels/topk/select.cu", "2\n")
        for document, link in [("README.md", "h200-tests.json"), ("docs/a/b.md", "h200-tests.log")]:
            with self.subTest(document):
                self.write(document, f"first line\nseven ([there](bench/results/{link}))\n")
                status, text = self.stale()
                self.assertEqual(status, 1)
                self.assertIn(f"{document}:2 quotes it", text)
                self.write(document, "seven, of h200-tests.jsonl and h200-tests\n")
        self.assertEqual(self.stale()[0], 0)

    def test_a_dirty_tree_is_no_commit(self):
        self.result("h200-tests", self.first + "-dirty")
        self.result("other-tests", "")
        status, text = self.stale()
        self.assertEqual(status, 0)
        self.assertIn("changes that no commit has", text)
        self.assertIn("names no commit", text)

    def test_without_the_history_nothing_is_claimed(self):
        self.result("h200-tests", "0123456789abcdef0123456789abcdef01234567")
        self.write("README.md", "bench/results/h200-tests.json\n")
        status, text = self.stale()
        self.assertEqual(status, 0)
        self.assertIn("is not in this history", text)

    def test_without_git_nothing_is_claimed(self):
        self.result("h200-tests", self.first)
        self.write("README.md", "bench/results/h200-tests.json\n")
        (self.root / ".git").rename(self.root / "moved")
        status, text = self.stale()
        self.assertEqual(status, 0)
        self.assertIn("is not in this history", text)


if __name__ == "__main__":
    unittest.main()
