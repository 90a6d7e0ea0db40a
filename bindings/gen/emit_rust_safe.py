# SPDX-License-Identifier: Apache-2.0
"""Rust, indexcache: generated.rs, constant families, builders of the structs that the caller fills, and copies of those
that the library fills. Handles and operations of the safe crate are written by hand."""

import re

from model import Constant, Field, Header, Struct, is_status
from roles import Role, camel, families, field_roles, method_name, receiver
from rust_text import SCALARS, Prose, first_lines

# Names of the safe crate that are not simply those of the header.
_FAMILY_NAMES = {"IC_LOG": "LogLevel", "IC_LAYER": "LayerMode", "IC_INDEX": "IndexKind", "IC_FAULT": "Faults"}
_FAMILY_NAMES |= {"IC_STRATEGY": "SearchStrategy", "IC_SEARCH": "SearchState"}
_FUNCTION_NAMES = {
    "ic_last_error": "Error::message",
    "ic_status_string": "Status",
    "ic_context_create": "Context::new",
    "ic_forward": "Step::forward",
    "ic_cache_begin": "Cache::begin",
    "ic_cache_remap": "Step::remap",
    "ic_cache_compact": "Step::compact",
    "ic_cache_export": "Step::export",
    "ic_cache_import": "Step::import",
    "ic_cache_memory_size": "CacheDesc::memory_size",
    "ic_device_get_caps": "device_caps",
    "ic_search_next": "Search::next_candidate",
}
_HAND_WRITTEN = {"ic_index_view"}
_STATUS_DOC = """\
/// Result of a call. Numbers never change their meaning; [`Display`](core::fmt::Display) is the library's own text.
"""


def emit(header: Header) -> dict[str, str]:
    return {"bindings/rust/indexcache/src/generated.rs": _safe(header)}


def _safe(header: Header) -> str:
    prose = Prose(_SafeLinks(header).link)
    text = first_lines("constant families, builders of inputs, copies of outputs.")
    text += (
        "\nuse crate::builder::{builder, entries};\nuse crate::family::{family, flags};\n"
        "use crate::memory::{Buffer, DeviceMut, DevicePtr};\nuse crate::{ffi, Attention, Indexer, Schedule, Topk};\n"
        "use core::ffi::{c_void, CStr};\nuse core::marker::PhantomData;\n"
    )
    statuses = [c for c in header.constants if is_status(c)]
    text += _family(prose, "Status", "ic_status", statuses, _STATUS_DOC)
    for group, constants in families(header).items():
        name, doc = family_name(group, constants[0]), _family_doc(prose, group, constants)
        text += _family(prose, name, group, constants, doc)
    for struct in header.structs:
        if struct.name in _HAND_WRITTEN:
            continue
        if header.struct_kind(struct) == "output":
            text += _copy(header, prose, struct)
        else:
            text += _builder(header, prose, struct)
    return text


def family_name(group: str, constant: Constant) -> str:
    return _FAMILY_NAMES.get(group) or camel(group) + ("Flags" if constant.unsigned else "")


def member_name(group: str, name: str) -> str:
    """IC_DTYPE, IC_DTYPE_F32 -> F32; ic_status, IC_ERROR_STALE -> STALE"""
    return (
        name.removeprefix("IC_ERROR_").removeprefix("IC_") if group == "ic_status" else name.removeprefix(group + "_")
    )


def _family_doc(prose: Prose, group: str, constants: list[Constant]) -> str:
    shared = len(constants) > 1 and constants[1].doc is constants[0].doc
    return prose.of(constants[0].doc).lstrip("\n") if shared else f"/// The constants `{group}_*`.\n"


def _family(prose: Prose, name: str, group: str, constants: list[Constant], doc: str) -> str:
    macro = "flags" if constants[0].unsigned else "family"
    text = f"\n{macro}! {{\n" + _indent(doc) + f"    {name} {{\n"
    for index, constant in enumerate(constants):
        before = constants[index - 1].doc if index else None
        own = not (constant.doc is before or (len(constants) > index + 1 and constants[index + 1].doc is constant.doc))
        text += prose.of(constant.doc, "        ").lstrip("\n") if own else f"        /// `{constant.name}`\n"
        text += f"        {member_name(group, constant.name)} = {constant.name},\n"
    return text + "    }\n}\n"


def _indent(text: str) -> str:
    return "".join("    " + line + "\n" for line in text.splitlines())


def _copy(header: Header, prose: Prose, struct: Struct) -> str:
    """A struct that the library fills: plain public fields."""
    name = camel(struct.name)
    text = prose.of(struct.doc) + "#[derive(Clone, Debug, PartialEq)]\n#[non_exhaustive]\n" + f"pub struct {name} {{\n"
    values = ""
    for field, role in zip(struct.fields, field_roles(header, struct)):
        if role.kind in ("size", "reserved"):
            continue
        type_, value = _copied(header, struct, field, role)
        written = re.sub(r"^1 (when|for)", r"True \1", field.doc) if type_ == "bool" else field.doc
        text += (prose.text(written, "    ") or f"    /// `{field.name}`\n") + f"    pub {field.name}: {type_},\n"
        values += f"            {field.name}: {value},\n"
    return (
        text
        + "}\n"
        + f"\nimpl From<&ffi::{struct.name}> for {name} {{\n    fn from(raw: &ffi::{struct.name}) -> Self {{\n"
        f"        Self {{\n{values}        }}\n    }}\n}}\n"
    )


def _group_type(header: Header, role: Role) -> str:
    return family_name(role.group, families(header)[role.group][0])


def _copied(header: Header, struct: Struct, field: Field, role: Role) -> tuple[str, str]:
    """Type of a field of a copy, and its value: 1 and 0 as bool, -1 as None where the comments say so."""
    value = f"raw.{field.name}"
    if role.group:
        return _group_type(header, role), f"{_group_type(header, role)}({value})"
    if role.kind == "chars":
        return "String", f"crate::text::from_chars(&{value})"
    if re.match(r"1 (when|for) ", field.doc):
        return "bool", f"{value} != 0"
    every = '-1 stands for "none"' in struct.doc.text and field.name not in ("layer", "num_consumers")
    if field.type.base == "int32_t" and (every or re.search(r"(?<!\w)-1 = ", field.doc)):
        return "Option<i32>", f"({value} >= 0).then_some({value})"
    return SCALARS[field.type.base], value


def _builder(header: Header, prose: Prose, struct: Struct) -> str:
    """A struct that the caller fills: the C struct itself, with a setter per field and a lifetime for what it points
    at."""
    name = camel(struct.name)
    roles = field_roles(header, struct)
    borrows = _borrows(header, struct)
    lifetime = "<'a>" if borrows else ""
    derive = "Clone, Debug" if not any(_exclusive(f, r) for f, r in zip(struct.fields, roles)) else "Debug"
    marker = "    borrowed: PhantomData<&'a ()>,\n" if borrows else ""
    text = prose.of(struct.doc) + f"#[derive({derive})]\n#[repr(transparent)]\npub struct {name}{lifetime} {{\n"
    text += f"    raw: ffi::{struct.name},\n{marker}}}\n"
    text += f"\nbuilder!({name}{lifetime}, {struct.name}{', borrowed' if borrows else ''});\n"
    text += f"\nimpl{lifetime} {name}{lifetime} {{\n"
    setters = [_setter(header, prose, struct, f, r) for f, r in zip(struct.fields, roles)]
    return text + "\n".join(s for s in setters if s) + "}\n"


def _borrows(header: Header, struct: Struct) -> bool:
    roles = field_roles(header, struct)
    return any(field.type.pointers and role.kind != "user" for field, role in zip(struct.fields, roles))


def _generic(header: Header, name: str) -> str:
    """A struct's Rust name with its lifetime."""
    struct = next(s for s in header.structs if s.name == name)
    return camel(name) + ("<'a>" if _borrows(header, struct) else "")


def _exclusive(field: Field, role: Role) -> bool:
    return role.kind in ("device", "buffer") and not field.type.const


def _setter(header: Header, prose: Prose, struct: Struct, field: Field, role: Role) -> str:
    if role.kind in ("size", "reserved", "count", "bytes", "callback", "user"):
        return ""
    name, base = field.name, SCALARS.get(field.type.base)
    lifetime = "'static" if "outlive" in field.doc else "'a"  # what the call alone looks at, or what it makes as well
    if role.kind == "value":
        argument, body = base, f"self.raw.{name} = {name};"
    elif role.group:
        argument, body = _group_type(header, role), f"self.raw.{name} = {name}.0;"
    elif role.kind == "text":
        argument, body = "&'a CStr", f"self.raw.{name} = {name}.as_ptr();"
    elif role.kind == "sized_text":
        argument = "&'a [u8]"
        body = f"self.raw.{name} = {name}.as_ptr().cast();\n        self.raw.{role.of} = {name}.len();"
    elif role.kind == "handle":
        argument, body = f"&'a {camel(field.type.base)}", f"self.raw.{name} = {name}.as_raw();"
    elif role.kind == "struct":
        argument, body = f"&'a {_generic(header, field.type.base)}", f"self.raw.{name} = {name}.as_raw();"
    elif role.kind == "array":
        element = base or _generic(header, field.type.base)
        argument = f"&'a [{element}]"
        body = f"self.raw.{name} = {name}.as_ptr().cast();\n        self.raw.{role.of} = entries({name}.len());"
    elif role.kind == "buffer":
        argument = f"impl Into<Buffer<{lifetime}>>"
        body = f"let {name} = {name}.into();\n        self.raw.{name} = {name}.as_ptr();\n"
        body += f"        self.raw.{role.of} = {name}.size();"
    elif field.type.array:
        element = f"core::ffi::{base}" if role.kind == "chars" else base
        argument, body = f"[{element}; {field.type.array}]", f"self.raw.{name} = {name};"
    else:
        pointer = "DevicePtr" if field.type.const else "DeviceMut"
        argument, body = f"impl Into<{pointer}<{lifetime}, {base}>>", f"self.raw.{name} = {name}.into().as_ptr();"
    doc = prose.text(field.doc, "    ") or f"    /// `{name}`\n"
    signature = f"    #[must_use]\n    pub fn {name}(mut self, {name}: {argument}) -> Self"
    return f"{doc}{signature} {{\n        {body}\n        self\n    }}\n"


class _SafeLinks:
    """Names of the header as those of the safe crate."""

    def __init__(self, header: Header):
        self.names = {s.name: camel(s.name) for s in header.structs}
        self.names |= {h.name: camel(h.name) for h in header.handles}
        for group, constants in families(header).items():
            self.names[group + "_*"] = self.names[group] = family_name(group, constants[0])
            for constant in constants:
                self.names[constant.name] = family_name(group, constant) + "::" + member_name(group, constant.name)
        for constant in filter(is_status, header.constants):
            self.names[constant.name] = "Status::" + member_name("ic_status", constant.name)
        for function in header.functions:
            method = method_name(header, function).removeprefix("get_")
            handle = receiver(header, function)
            if not function.name.endswith("_destroy"):
                self.names[function.name] = f"{camel(handle)}::{method.replace('create', 'new')}" if handle else method
        self.names |= _FUNCTION_NAMES
        self.names["IC_ERROR_*"] = "Status"
        self.names |= {"IC_ALL_ROWS": "ALL_ROWS", "IC_K_PADDED": "k_padded", "IC_STATUS_IS_STALE": "Status::is_stale"}

    def link(self, name: str) -> str:
        target = self.names.get(name)
        return f"[`{target}`](crate::{target})" if target else f"`{name}`"
