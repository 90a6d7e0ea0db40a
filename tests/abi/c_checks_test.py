# SPDX-License-Identifier: Apache-2.0
"""layout.c and init.c hold in C and C++, and fail when the header says something else.

Compilers: $CC and $CXX, else cc and c++.
"""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from small_header import ROOT, mutate

COMPILERS = {
    "C11": [os.environ.get("CC", "cc"), "-std=c11"],
    "C++11": [os.environ.get("CXX", "c++"), "-std=c++11", "-x", "c++"],
    "C++20": [os.environ.get("CXX", "c++"), "-std=c++20", "-x", "c++"],
}
WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
HEADER = (ROOT / "include" / "indexcache.h").read_text()
POOL_INIT = "#define IC_POOL_INIT {sizeof(ic_pool), NULL, NULL, 0, 0, 0, 0}"


class CChecks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def build(self, name: str, language: str, header: str = HEADER) -> subprocess.CompletedProcess:
        (self.folder / "indexcache.h").write_text(header)
        source = ROOT / "tests" / "abi" / f"{name}.c"
        command = [*COMPILERS[language], *WARNINGS, f"-I{self.folder}", str(source), "-o", str(self.folder / name)]
        return subprocess.run(command, text=True, capture_output=True)

    def refused(self, name: str, header: str, message: str) -> None:
        for language in COMPILERS:
            with self.subTest(language):
                result = self.build(name, language, header)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(message, result.stderr)

    def test_the_header_passes(self):
        for name in ("layout", "init"):
            for language in COMPILERS:
                with self.subTest(f"{name} as {language}"):
                    result = self.build(name, language)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    subprocess.run([str(self.folder / name)], check=True)

    def test_layout_sees_a_moved_field(self):
        swapped = mutate(HEADER, "  int64_t capacity;\n", "")
        swapped = mutate(swapped, "  int64_t stride_bytes;\n", "  int64_t capacity;\n  int64_t stride_bytes;\n")
        self.refused("layout", swapped, "ic_pool")

    def test_layout_sees_another_size(self):
        self.refused("layout", mutate(HEADER, "  char name[64];", "  char name[72];"), "ic_device_caps")

    def test_init_sees_another_constant(self):
        self.refused("init", mutate(HEADER, "#define IC_DTYPE_E4M3 4", "#define IC_DTYPE_E4M3 7"), "IC_DTYPE_E4M3 == 4")

    def test_init_sees_a_signed_flag(self):
        self.refused(
            "init", mutate(HEADER, "#define IC_BATCH_KEEP 0x1u", "#define IC_BATCH_KEEP 0x1"), "IC_BATCH_KEEP == 0x1u"
        )

    def test_init_sees_a_changed_macro(self):
        self.refused(
            "init", mutate(HEADER, "(((k) + 127) / 128 * 128)", "(((k) + 127) / 64 * 64)"), "IC_K_PADDED(2048) == 2048"
        )

    def test_init_sees_a_missing_initialiser(self):
        self.refused("init", mutate(HEADER, POOL_INIT, POOL_INIT.replace(", 0}", "}")), "block_table")

    def test_init_sees_a_value_that_is_not_zero(self):
        for language in COMPILERS:
            with self.subTest(language):
                header = mutate(HEADER, POOL_INIT, POOL_INIT.replace("0, 0}", "1, 0}"))
                self.assertEqual(self.build("init", language, header).returncode, 0)
                result = subprocess.run([str(self.folder / "init")], text=True, capture_output=True)
                self.assertEqual(result.returncode, 1)
                self.assertEqual(result.stderr, "IC_POOL_INIT is not zero with struct_size set\n")


if __name__ == "__main__":
    unittest.main()
