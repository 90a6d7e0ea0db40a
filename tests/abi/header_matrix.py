# SPDX-License-Identifier: Apache-2.0
"""header_matrix.py HEADER: the header alone, and twice, in every supported standard with gcc and clang."""

import subprocess
import sys

STANDARDS = {"c": ["c99", "c11", "c17"], "c++": ["c++11", "c++14", "c++17", "c++20"]}
COMPILERS = {"c": ["gcc", "clang-16"], "c++": ["g++", "clang++-16"]}
WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


def main():
    header = sys.argv[1]
    failures = 0
    for language, standards in STANDARDS.items():
        flags = WARNINGS + (["-Wstrict-prototypes", "-Wmissing-prototypes"] if language == "c" else [])
        for compiler in COMPILERS[language]:
            for standard in standards:
                command = [compiler, "-x", language, f"-std={standard}", *flags, "-fsyntax-only", "-"]
                source = f'#include "{header}"\n' * 2
                result = subprocess.run(command, input=source, capture_output=True, text=True)
                print(compiler, standard, "ok" if result.returncode == 0 else f"FAILED\n{result.stderr}")
                failures += result.returncode != 0
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
