# SPDX-License-Identifier: Apache-2.0
"""The comparisons of this folder find what they are for. Needs libclang (requirements.txt)."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import agree
import libclang_agrees

HEADER = (agree.ROOT / "include" / "indexcache.h").read_text(encoding="utf-8")

# A change of the header and a word of what must be said about it.
MUTATIONS = {
    "a field moves": ("  int32_t backend;\n", "  int32_t moved;\n  int32_t backend;\n", "moved"),
    "a field's type": ("  float softmax_scale;", "  int32_t softmax_scale;", "int32_t softmax_scale"),
    "a constant": ("#define IC_DTYPE_BF16 3", "#define IC_DTYPE_BF16 6", "IC_DTYPE_BF16 = 6"),
    "a const": ("const ic_batch *batch);", "ic_batch *batch);", "ic_cache_begin(ic_cache * cache, ic_batch * batch)"),
    "a parameter": ("ic_cache_reset(ic_cache *cache)", "ic_cache_reset(ic_cache *cache, int32_t how)", "int32_t how"),
    "a result": ("IC_API uint32_t ic_version(void)", "IC_API int32_t ic_version(void)", "int32_t ic_version"),
    "an array": ("char name[64];", "char name[60];", "name[60]"),
    "a function": ("IC_API uint32_t ic_version(void);", "", "uint32_t ic_version"),
    "a callback": ("(void *user, size_t size);", "(void *user, uint32_t size);", "ic_alloc_fn"),
    "an alias": ("typedef int32_t ic_status;", "typedef uint32_t ic_status;", "ic_status = uint32_t"),
}


class Reports(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(agree.differences(agree.expected()), [])
        self.assertGreater(len(agree.expected()), 350)

    def test_missing_doubled_and_other_lines(self):
        facts = agree.expected()
        self.assertEqual(len(agree.differences(facts[1:])), 1)
        self.assertEqual(len(agree.differences([*facts, facts[0]])), 1)
        self.assertEqual(len(agree.differences([*facts[1:], facts[0] + "0"])), 2)
        self.assertEqual(len(agree.differences([])), len(facts))


class Libclang(unittest.TestCase):
    def run_on(self, text: str) -> subprocess.CompletedProcess:
        with tempfile.TemporaryDirectory() as folder:
            header = Path(folder) / "indexcache.h"
            header.write_text(text, encoding="utf-8")
            command = [sys.executable, libclang_agrees.__file__, str(header)]
            return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_sees_everything(self):
        kinds = {fact.split()[0] for fact in libclang_agrees.facts_of_generator()}
        self.assertEqual(kinds, {"function", "callback", "constant", "alias", "handle", "struct", "field"})
        self.assertEqual(self.run_on(HEADER).returncode, 0)

    def test_mutations(self):
        for name, (before, after, word) in MUTATIONS.items():
            with self.subTest(name):
                self.assertIn(before, HEADER)
                result = self.run_on(HEADER.replace(before, after, 1))
                self.assertEqual(result.returncode, 1, result.stdout)
                self.assertIn(word, result.stderr)


if __name__ == "__main__":
    unittest.main()
