# SPDX-License-Identifier: Apache-2.0
"""Go: shim.h and shim.c, one C call that does an operation and fetches its message; generated.go, constants, structs that
the caller fills, and copies of those that the library fills; the program that prints the layout. Handles and operations
are written by hand."""

import re

from go_text import SCALARS, Prose, constant_name, family_name, first_lines, go_name
from model import FUNCTION_MACRO_SAMPLES, Constant, Field, Function, Header, Struct, is_status
from roles import Role, families, field_roles

FOLDER = "bindings/go"
_VIEW = "ic_index_view"  # the struct that the library fills and the caller gives back


def emit(header: Header) -> dict[str, str]:
    return {
        f"{FOLDER}/shim.h": _shim_header(header),
        f"{FOLDER}/shim.c": _shim(header),
        f"{FOLDER}/generated.go": _generated(header),
        f"{FOLDER}/internal/layout/main.go": _layout(header),
    }


# ---- shim.h, shim.c


def _can_fail(header: Header) -> list[Function]:
    return [f for f in header.functions if f.returns.base == "ic_status" and not f.returns.pointers]


def _shim_params(header: Header, function: Function) -> str:
    pointers = {a.name for a in header.aliases if a.target.pointers}
    return ", ".join(
        f"uintptr_t {p.name}" if p.type.base in pointers else p.type.declare(p.name) for p in function.params
    )


def _signature(header: Header, function: Function) -> str:
    return f"ic_go_result {function.name.replace('ic_', 'ic_go_', 1)}({_shim_params(header, function)})"


def _shim_header(header: Header) -> str:
    major, minor, _ = header.version()
    text = first_lines("operations with their messages.") + (
        "// clang-format off\n#ifndef INDEXCACHE_GO_SHIM_H\n#define INDEXCACHE_GO_SHIM_H\n\n#include <indexcache.h>\n\n"
        f"#if IC_VERSION_MAJOR != {major} || IC_VERSION_MINOR != {minor}\n"
        f'#error "this Go module is for libindexcache {major}.{minor}.x; pkg-config finds another version"\n#endif\n\n'
        "// A goroutine may be on another OS thread after a C call, and the library keeps messages by thread: so the\n"
        "// message comes with the status. From malloc; NULL when there is none.\n"
        "typedef struct ic_go_result {\n  char *message;\n  ic_status status;\n} ic_go_result;\n\n"
        "// Streams are numbers here: never memory of Go.\n"
    )
    text += "".join(_signature(header, function) + ";\n" for function in _can_fail(header))
    return text + "\n#endif\n"


def _shim(header: Header) -> str:
    pointers = {a.name for a in header.aliases if a.target.pointers}
    text = first_lines("operations with their messages.") + (
        '// clang-format off\n#include "shim.h"\n\n#include <stdlib.h>\n\n'
        "static ic_go_result result(ic_status status) {\n  ic_go_result result = {NULL, status};\n"
        "  if (status != IC_OK) {\n    size_t size = ic_last_error(NULL, 0) + 1;\n"
        "    result.message = (char *)malloc(size);\n    if (result.message != NULL) {\n"
        "      ic_last_error(result.message, size);\n    }\n  }\n  return result;\n}\n"
    )
    if not any(f.name == "ic_last_error" for f in header.functions):
        text = text.replace("ic_last_error(NULL, 0) + 1", "1").replace(
            "ic_last_error(result.message, size)", "result.message[0] = 0"
        )
    for function in _can_fail(header):
        arguments = ", ".join(
            f"({p.type.base}){p.name}" if p.type.base in pointers else p.name for p in function.params
        )
        text += f"\n{_signature(header, function)} {{\n  return result({function.name}({arguments}));\n}}\n"
    return text


# ---- generated.go


def _generated(header: Header) -> str:
    prose = Prose(header)
    text = first_lines("constants, inputs and copies of outputs.")
    text += '\npackage indexcache\n\n// #include "shim.h"\nimport "C"\n\nimport "unsafe"\n'
    text += _constants(header, prose)
    for handle in header.handles:
        name = go_name(handle.name)
        text += (
            f"\n// raw is the C handle; NULL when it is closed or was never there, which the library answers to.\n"
            f"func (h *{name}) raw() *C.{handle.name} {{\n\tif h == nil {{\n\t\treturn nil\n\t}}\n"
            f"\treturn (*C.{handle.name})(h.address())\n}}\n"
        )
    for struct in header.structs:
        kind = header.struct_kind(struct)
        if kind != "output":
            text += _input(header, prose, struct)
        if kind in ("output", "inout"):
            text += _copy(header, prose, struct)
    return text


def _constants(header: Header, prose: Prose) -> str:
    version = [c for c in header.constants if c.name.startswith("IC_VERSION_")]
    text = _block(header, prose, "", version)
    statuses = [c for c in header.constants if is_status(c)]
    text += (
        "\n// Status is the result of a call, and what [errors.Is] finds in an [Error]. Numbers never change their meaning."
        "\ntype Status int32\n" + _block(header, prose, "Status", statuses)
    )
    grouped = {c.name for c in version + statuses}
    for group, constants in families(header).items():
        name = family_name(group, constants[0])
        shared = len(constants) > 1 and constants[1].doc is constants[0].doc
        text += "\n" + (prose.of(constants[0].doc) if shared else f"// {name} is one of {group}_*.\n")
        text += f"type {name} {'uint32' if constants[0].unsigned else 'int32'}\n"
        text += _block(header, prose, name, constants)
        grouped |= {c.name for c in constants}
    return text + _block(header, prose, "", [c for c in header.constants if c.name not in grouped])


def _block(header: Header, prose: Prose, type_: str, constants: list[Constant]) -> str:
    if not constants:
        return ""
    entries = []
    for index, constant in enumerate(constants):
        near = [c.doc for c in constants[max(index - 1, 0) : index + 2] if c is not constant]
        own = not any(doc is constant.doc for doc in near)
        name, value = constant_name(header, constant), hex(constant.value) if constant.unsigned else constant.value
        doc = prose.of(constant.doc, "\t") if own else f"\t// {constant.name}\n"
        entries.append(f"{doc}\t{name}{' ' + type_ if type_ else ''} = {value}\n")
    return "\nconst (\n" + "\n".join(entries) + ")\n"


def _group_type(header: Header, role: Role) -> str:
    return family_name(role.group, families(header)[role.group][0])


def _scalar(header: Header, field: Field) -> str:
    """The Go type of a plain number: aliases (ic_status) as what they stand for."""
    alias = next((a for a in header.aliases if a.name == field.type.base), None)
    return SCALARS[alias.target.base if alias else field.type.base]


def _given(header: Header, field: Field, role: Role) -> tuple[str, str] | None:
    """Type of a field that the caller sets, and the statement that sets the C struct's."""
    name, c = go_name(field.name), f"c.{field.name}"
    where = f"unsafe.Pointer(&{c})"
    if role.kind in ("size", "reserved", "count", "bytes"):
        return None
    if role.group:
        return _group_type(header, role), f"{c} = C.{field.type.base}(v.{name})"
    if role.kind == "value":
        return _scalar(header, field), f"{c} = C.{field.type.base}(v.{name})"
    if role.kind in ("callback", "user"):
        return "unsafe.Pointer", f"*(*unsafe.Pointer)({where}) = v.{name}"
    if role.kind == "text":
        return "string", f'{c} = (*C.char)(a.text("{field.name}", v.{name}))'
    if role.kind == "sized_text":
        size = f"c.{role.of} = C.size_t(len(v.{name}))"
        return "[]byte", f"a.array({where}, unsafe.Pointer(unsafe.SliceData(v.{name})))\n\t{size}"
    if role.kind == "handle":
        return f"*{go_name(field.type.base)}", f"{c} = v.{name}.raw()"
    if role.kind == "struct":
        return f"*{go_name(field.type.base)}", f"{c} = v.{name}.build(a)"
    if role.kind == "array":
        count = f"c.{role.of} = C.int32_t(len(v.{name}))"
        if field.type.base in SCALARS:
            return (
                f"[]{SCALARS[field.type.base]}",
                f"a.array({where}, unsafe.Pointer(unsafe.SliceData(v.{name})))\n\t{count}",
            )
        make = f"items := make([]C.{field.type.base}, len(v.{name}))"
        fill = f"for i := range items {{\n\t\t\tv.{name}[i].fill(a, &items[i])\n\t\t}}"
        pin = f"a.array({where}, unsafe.Pointer(unsafe.SliceData(items)))"
        body = f"if len(v.{name}) > 0 {{\n\t\t{make}\n\t\t{fill}\n\t\t{pin}\n\t}}"
        return f"[]{go_name(field.type.base)}", f"{body}\n\t{count}"
    if role.kind == "buffer":
        return "Buffer", f"v.{name}.store(a, {where})\n\tc.{role.of} = C.size_t(v.{name}.size)"
    if field.type.array:
        element = SCALARS[field.type.base]
        c_element = "char" if field.type.base == "char" else field.type.base
        return (
            f"[{field.type.array}]{element}",
            f"for i, item := range v.{name} {{\n\t\t{c}[i] = C.{c_element}(item)\n\t}}",
        )
    if field.type.base == "void":
        return "DeviceMemory", f"a.memory({where}, v.{name})"
    return f"DevicePtr[{SCALARS[field.type.base]}]", f"v.{name}.store(a, {where})"


def _input(header: Header, prose: Prose, struct: Struct) -> str:
    name = go_name(struct.name)
    entries, statements = [], []
    if not struct.frozen:
        statements.append("c.struct_size = C.size_t(unsafe.Sizeof(*c))")
    for field, role in zip(struct.fields, field_roles(header, struct)):
        given = _given(header, field, role)
        if not given:
            continue
        doc = prose.text(field.doc, "\t") or f"\t// {field.name}\n"
        if role.kind == "callback":
            doc += f"\t//\n\t// A C function ({field.type.base}), or nil.\n"
        if role.kind == "user":
            doc = f"\t// For {go_name(role.of or '')}: C memory, never Go's.\n"
        entries.append(f"{doc}\t{go_name(field.name)} {given[0]}\n")
        statements.append(given[1])
    if struct.name == _VIEW:
        entries.append("\t// the cache whose memory this is, or nil\n\tcache *Cache\n")
    text = "\n" + prose.of(struct.doc) + f"type {name} struct {{\n" + "\n".join(entries) + "}\n"
    body = "".join(f"\t{line}\n" for line in statements)
    text += f"\nfunc (v *{name}) fill(a *arena, c *C.{struct.name}) {{\n{body}}}\n"
    return text + (
        f"\nfunc (v *{name}) build(a *arena) *C.{struct.name} {{\n\tif v == nil {{\n\t\treturn nil\n\t}}\n"
        f"\tc := new(C.{struct.name})\n\ta.pin.Pin(c)\n\tv.fill(a, c)\n\treturn c\n}}\n"
    )


def _copied(header: Header, field: Field, role: Role) -> tuple[str, str]:
    c = f"c.{field.name}"
    if role.group:
        return _group_type(header, role), f"{_group_type(header, role)}({c})"
    if role.kind == "chars":
        return "string", f"C.GoString(&{c}[0])"
    if role.kind == "device":
        pointer = f"DevicePtr[{SCALARS[field.type.base]}]"
        return pointer, f"{pointer}{{address: *(*uintptr)(unsafe.Pointer(&{c}))}}"
    if re.match(r"1 (when|for) ", field.doc):
        return "bool", f"{c} != 0"
    return _scalar(header, field), f"{_scalar(header, field)}({c})"


def _copy(header: Header, prose: Prose, struct: Struct) -> str:
    name = go_name(struct.name)
    entries, statements = [], []
    for field, role in zip(struct.fields, field_roles(header, struct)):
        if role.kind in ("size", "reserved"):
            continue
        type_, value = _copied(header, field, role)
        written = re.sub(r"^1 (when|for)", r"True \1", field.doc) if type_ == "bool" else field.doc
        entries.append((prose.text(written, "\t") or f"\t// {field.name}\n") + f"\t{go_name(field.name)} {type_}\n")
        statements.append(f"\tv.{go_name(field.name)} = {value}\n")
    text = ""
    if header.struct_kind(struct) == "output":
        text += "\n" + prose.of(struct.doc) + f"type {name} struct {{\n" + "\n".join(entries) + "}\n"
    text += f"\nfunc (v *{name}) read(c *C.{struct.name}) {{\n{''.join(statements)}}}\n"
    if not struct.frozen:
        text += (
            f"\nfunc new{name}() *C.{struct.name} {{\n"
            f"\treturn &C.{struct.name}{{struct_size: C.size_t(unsafe.Sizeof(C.{struct.name}{{}}))}}\n}}\n"
        )
    return text


# ---- internal/layout


def _layout(header: Header) -> str:
    macros = {"IC_STATUS_IS_STALE": "truth(indexcache.Status(%d).IsStale())", "IC_K_PADDED": "indexcache.KPadded(%d)"}
    text = first_lines("prints the layout that Go sees.") + (
        "\n// Command layout prints sizes, offsets and values as Go has them.\npackage main\n\n"
        '// #cgo pkg-config: indexcache\n// #include <indexcache.h>\nimport "C"\n\nimport (\n\t"fmt"\n\t"unsafe"\n\n'
        '\tindexcache "libindexcache.invalid/go"\n)\n\n'
        'func structure(name string, size, alignment uintptr) {\n\tfmt.Println("struct", name, size, alignment)\n}\n\n'
        "func field(structure, name string, offset, size uintptr) {\n"
        '\tfmt.Println("field", structure, name, offset, size)\n}\n\n'
        'func constant(name string, value int64) {\n\tfmt.Println("constant", name, value)\n}\n\n'
        "func truth(value bool) int {\n\tif value {\n\t\treturn 1\n\t}\n\treturn 0\n}\n"
    )
    text += "\nfunc main() {\n"
    for struct in header.structs:
        text += f"\t{{\n\t\tvar c C.{struct.name}\n"
        text += f'\t\tstructure("{struct.name}", unsafe.Sizeof(c), unsafe.Alignof(c))\n'
        for field in struct.fields:
            f = f"c.{field.name}"
            text += f'\t\tfield("{struct.name}", "{field.name}", unsafe.Offsetof({f}), unsafe.Sizeof({f}))\n'
        text += "\t}\n"
    for constant in header.constants:
        text += f'\tconstant("{constant.name}", int64(indexcache.{constant_name(header, constant)}))\n'
    for macro in header.macros:
        for sample in FUNCTION_MACRO_SAMPLES[macro.name]:
            text += f'\tfmt.Println("macro", "{macro.name}", {sample}, {macros[macro.name] % sample})\n'
    return text + "}\n"
