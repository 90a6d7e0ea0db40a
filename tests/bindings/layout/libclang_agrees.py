# SPDX-License-Identifier: Apache-2.0
"""Clang's view of include/indexcache.h against bindings/api.json: every function, parameter, struct, field, offset,
callback and constant, in both directions. The generator has a parser of its own; this is the second opinion.

libclang_agrees.py [HEADER]: another header is for the test of this test.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from clang.cindex import CursorKind, Index, TranslationUnit, TypeKind

ROOT = Path(__file__).resolve().parents[3]
_STANDARD = re.compile(r"\bu?int(?:32|64)_t\b|\bsize_t\b")


def parse(header: Path) -> TranslationUnit:
    """The header, and behind it an enumerator for every constant, so that Clang computes the values."""
    names = re.findall(
        r"^#define (IC_[A-Z0-9_]+) (?!\{|\\$|__attribute__)(?=\S)", header.read_text(encoding="utf-8"), re.M
    )
    values = "".join(f"enum {{ value_of_{name} = {name} }};\n" for name in names if not name.endswith("_INIT"))
    main = f'#include "{header.name}"\n{values}'
    arguments = ["-std=c11", f"-I{header.parent}", *system_includes()]
    unit = Index.create().parse("main.c", arguments, [("main.c", main)])
    errors = [str(diagnostic) for diagnostic in unit.diagnostics if diagnostic.severity >= 3]
    if errors:
        raise SystemExit("\n".join(errors))
    return unit


def system_includes() -> list[str]:
    """libclang from PyPI has no stddef.h of its own: the compiler's."""
    said = subprocess.run(["cc", "-E", "-v", "-x", "c", "/dev/null"], capture_output=True, text=True, check=True).stderr
    listed = said.split("#include <...> search starts here:")[1].split("End of search list.")[0]
    return ["-nostdinc", *(f"-isystem{line.strip()}" for line in listed.strip().splitlines())]


def spelled(type_) -> str:
    """A type as the header writes it."""
    text = (
        type_.spelling.replace("struct ", "") if type_.kind != TypeKind.CONSTANTARRAY else spelled(type_.element_type)
    )
    return re.sub(r"\s*(\*+)$", r" \1", text)


def facts_of_clang(unit: TranslationUnit, header: str) -> set[str]:
    facts = set()
    for cursor in unit.cursor.get_children():
        if cursor.kind == CursorKind.ENUM_DECL:
            for value in cursor.get_children():
                facts.add(f"constant {value.spelling.removeprefix('value_of_')} = {value.enum_value}")
            continue
        if not cursor.location.file or Path(cursor.location.file.name).name != header:
            continue
        if cursor.kind == CursorKind.FUNCTION_DECL:
            params = [f"{spelled(p.type)} {p.spelling}" for p in cursor.get_arguments()]
            facts.add(f"function {spelled(cursor.result_type)} {cursor.spelling}({', '.join(params)})")
        elif cursor.kind == CursorKind.STRUCT_DECL and cursor.is_definition():
            type_ = cursor.type
            facts.add(f"struct {cursor.spelling} of {type_.get_size()} bytes")
            for field in type_.get_fields():
                array = f"[{field.type.element_count}]" if field.type.kind == TypeKind.CONSTANTARRAY else ""
                offset, size = field.get_field_offsetof() // 8, field.type.get_size()
                facts.add(
                    f"field {cursor.spelling}: {spelled(field.type)} {field.spelling}{array} at {offset}, {size} bytes"
                )
        elif cursor.kind == CursorKind.TYPEDEF_DECL:
            target = cursor.underlying_typedef_type
            if target.kind == TypeKind.POINTER and target.get_pointee().get_canonical().kind == TypeKind.FUNCTIONPROTO:
                function = target.get_pointee().get_canonical()
                # Canonical types have lost their standard names: compare those of the declared parameters.
                params = [
                    f"{spelled(p.type)} {p.spelling}" for p in cursor.get_children() if p.kind == CursorKind.PARM_DECL
                ]
                facts.add(f"callback {spelled(function.get_result())} {cursor.spelling}({', '.join(params)})")
            elif target.get_canonical().kind != TypeKind.RECORD:
                facts.add(f"alias {cursor.spelling} = {spelled(target)}")
            elif not target.get_declaration().is_definition() and target.get_size() < 0:
                facts.add(f"handle {cursor.spelling}")
    return facts


def facts_of_generator() -> set[str]:
    api = json.loads((ROOT / "bindings" / "api.json").read_text(encoding="utf-8"))

    def listed(declaration: dict) -> str:
        params = ", ".join(f"{p['type']['c']} {p['name']}" for p in declaration["params"])
        return f"{declaration['returns']['c']} {declaration['name']}({params})"

    facts = {f"function {listed(f)}" for f in api["functions"]} | {f"callback {listed(c)}" for c in api["callbacks"]}
    facts |= {f"constant {c['name']} = {c['value']}" for c in api["constants"]}
    facts |= {f"constant IC_VERSION_{part.upper()} = {value}" for part, value in api["version"].items()}
    facts |= {f"alias {a['name']} = {a['type']['c'].replace('struct ', '')}" for a in api["aliases"]}
    facts |= {f"handle {h['name']}" for h in api["handles"]}
    for struct in api["structs"]:
        facts.add(f"struct {struct['name']} of {struct['size']} bytes")
        for field in struct["fields"]:
            array = f"[{field['type']['array']}]" if "array" in field["type"] else ""
            place = f"at {field['offset']}, {field['size']} bytes"
            facts.add(f"field {struct['name']}: {field['type']['c']} {field['name']}{array} {place}")
    return facts


def main() -> int:
    header = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "include" / "indexcache.h"
    clang, generator = facts_of_clang(parse(header), header.name), facts_of_generator()
    for fact in sorted(clang - generator):
        print(f"only Clang sees: {fact}", file=sys.stderr)
    for fact in sorted(generator - clang):
        print(f"only api.json has: {fact}", file=sys.stderr)
    print(f"libclang: {len(clang & generator)} facts agree, {len(clang ^ generator)} differ")
    return int(clang != generator)


if __name__ == "__main__":
    sys.exit(main())
