# SPDX-License-Identifier: Apache-2.0
"""What the built libraries ask of a system and what they give: binary.py CHECK FILE...

exports LIB.so SYMBOLS.txt    exported names and the list are the same, in both directions
needs LIB.so                  only libraries and symbol versions that distributions of 2022 have; no executable stack
archive LIB.a SYMBOLS.txt     the only global names are the exported ones, and nothing of C++ is left to be found
isa OBJECT...                 code for newer processors shares no inline function with the rest and does not run at load
"""

import re
import subprocess
import sys
from pathlib import Path

# Newest version of each symbol family that may be asked for. libgcc_s answers for unwinding on every system with gcc's
# C++ runtime; linking it in instead would ask for GLIBC_2.35 (_dl_find_object).
NEWEST = {"GLIBC": (2, 34), "GCC": (12, 0, 0)}
NEEDED = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def readelf(*args):
    return subprocess.run(["readelf", "-W", *args], check=True, capture_output=True, text=True).stdout


def symbols(path, table="--syms"):
    """Named symbols of a file as (name, binding, section); section "UND" is undefined."""
    found = []
    for line in readelf(table, path).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[0].rstrip(":").isdigit() and fields[3] not in ("SECTION", "FILE"):
            rest = line.split(maxsplit=7)
            section = next(f for f in fields[6:] if not f.startswith("["))
            name = rest[7].split(" ")[0] if fields[6] == section else fields[-1]
            found.append((name, fields[4], section))
    return found


def listed(path):
    names = [line.split("#")[0].strip() for line in Path(path).read_text().splitlines()]
    return {name for name in names if name}


def compare(what, got, expected):
    problems = [f"{what}: {name} is there but not in the list" for name in sorted(got - expected)]
    return problems + [f"{what}: {name} is in the list but not there" for name in sorted(expected - got)]


def exports(library, list_path):
    names = {
        re.sub(r"@@?.*", "", name)
        for name, binding, section in symbols(library, "--dyn-syms")
        if section not in ("UND", "ABS") and binding != "LOCAL"
    }
    return compare("exports", names, listed(list_path))


def needs(library):
    dynamic = readelf("--dynamic", library)
    problems = [f"needs {name}" for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) if name not in NEEDED]
    if "(TEXTREL)" in dynamic:
        problems.append("has text relocations")
    if not re.search(r"GNU_STACK.* RW ", readelf("--segments", library)):
        problems.append("does not mark its stack as not executable")
    asked = 0
    for name, _, section in symbols(library, "--dyn-syms"):
        match = re.search(r"@@?([A-Z]+)[A-Z_]*_([0-9.]+)$", name)
        if section != "UND" or not match:
            continue
        asked += 1
        family, version = match[1], tuple(int(part) for part in match[2].split("."))
        if family not in NEWEST or version > NEWEST[family]:
            problems.append(f"asks for {name}")
    return problems if asked else ["no versioned symbol was found; is this a shared library?"]


def archive(path, list_path):
    found = symbols(path)
    names = {name for name, binding, section in found if section != "UND" and binding != "LOCAL"}
    problems = compare("global names", names, listed(list_path))
    for name, _, section in found:  # _ZGT…: hooks of transactional memory, weak and absent everywhere
        if section == "UND" and name.startswith("_Z") and not name.startswith("_ZGT"):
            problems.append(f"leaves {name} undefined")
    return problems


def isa(*objects):
    problems = [] if objects else ["no object was given"]
    for path in objects:
        for name, binding, section in symbols(path):
            if section != "UND" and binding in ("WEAK", "UNIQUE"):
                problems.append(f"{path}: {name} may be chosen by the linker for every processor")
        if re.search(r"\.(init_array|ctors)", readelf("--sections", path)):
            problems.append(f"{path}: runs code when the library is loaded")
    return problems


def main():
    check = {"exports": exports, "needs": needs, "archive": archive, "isa": isa}[sys.argv[1]]
    problems = check(*sys.argv[2:])
    print("\n".join(problems) or f"{sys.argv[1]}: as it should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
