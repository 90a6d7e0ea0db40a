# SPDX-License-Identifier: Apache-2.0
"""Rust, indexcache-sys: ffi.rs, the header as it is, with its layout asserted when it is compiled, and a report of that
layout for tests/bindings/layout."""

from functools import partial

from model import FUNCTION_MACRO_SAMPLES, Field, Function, Header, Parameter, Struct, Type, is_status
from rust_text import SCALARS, Prose, first_lines

_CRATE = "bindings/rust/indexcache-sys"
_IMPORTS = """
use core::ffi::{c_char, c_void};
use core::marker::{PhantomData, PhantomPinned};
use core::mem::{align_of, offset_of, size_of};
"""
_MACROS = {
    "IC_STATUS_IS_STALE": "(status: ic_status) -> bool {\n    status >= 20 && status <= 29\n}",
    "IC_K_PADDED": "(k: i32) -> i32 {\n    (k + 127) / 128 * 128\n}",
}


def emit(header: Header) -> dict[str, str]:
    return {f"{_CRATE}/src/ffi.rs": _ffi(header), f"{_CRATE}/examples/layout.rs": _report(header)}


def _ffi(header: Header) -> str:
    text = first_lines("the C interface as it is.") + _IMPORTS
    prose = Prose(partial(_c_link, {d.name for d in header.declarations()}))
    for constant in header.constants:
        type_ = "ic_status" if is_status(constant) else "u32" if constant.unsigned else "i32"
        value = f"{constant.value:#x}" if constant.unsigned else constant.value
        text += prose.of(constant.doc) + f"pub const {constant.name}: {type_} = {value};\n"
    for macro in header.macros:
        text += prose.of(macro.doc) + "#[allow(non_snake_case)]\n#[must_use]\n"
        text += f"pub const fn {macro.name}{_MACROS[macro.name]}\n"
    for alias in header.aliases:
        target = alias.target
        if target.pointers:
            foreign = target.base.removeprefix("struct ")
            text += f"\n/// A struct of somebody else, behind [`{alias.name}`].\n" + _opaque(foreign)
        text += prose.of(alias.doc) + f"pub type {alias.name} = {_type(target)};\n"
    for handle in header.handles:
        text += prose.of(handle.doc) + _opaque(handle.name)
    for callback in header.callbacks:
        function = f'unsafe extern "C" fn({_params(callback.params)}){_returns(callback.returns)}'
        text += prose.of(callback.doc) + f"pub type {callback.name} = Option<{function}>;\n"
    for struct in header.structs:
        text += prose.of(struct.doc) + "#[repr(C)]\n#[derive(Clone, Copy, Debug)]\n" + f"pub struct {struct.name} {{\n"
        for field in struct.fields:
            text += prose.text(field.doc, "    ") + f"    pub {field.name}: {_type(field.type)},\n"
        text += "}\n" + _init(header, struct)
    text += '\nextern "C" {\n' + "\n".join(_declaration(prose, f) for f in header.functions) + "}\n"
    return text + _assertions(header)


def _opaque(name: str) -> str:
    return (
        "#[repr(C)]\n#[derive(Debug)]\n"
        f"pub struct {name} {{\n    _opaque: [u8; 0],\n    _marker: PhantomData<(*mut u8, PhantomPinned)>,\n}}\n"
    )


def _type(type_: Type) -> str:
    text = SCALARS.get(type_.base, type_.base.removeprefix("struct "))
    if type_.array:
        return f"[{text}; {type_.array}]"
    for level in range(type_.pointers):
        text = ("*const " if type_.const and level == 0 else "*mut ") + text
    return text


def _params(params: list[Parameter]) -> str:
    return ", ".join(f"{p.name}: {_type(p.type)}" for p in params)


def _returns(type_: Type) -> str:
    return "" if type_ == Type("void") else f" -> {_type(type_)}"


def _declaration(prose: Prose, function: Function) -> str:
    return (
        prose.of(function.doc, "    ").lstrip("\n")
        + f"    pub fn {function.name}({_params(function.params)}){_returns(function.returns)};\n"
    )


def _init(header: Header, struct: Struct) -> str:
    values = "".join(f"        {f.name}: {_zero(header, struct, f)},\n" for f in struct.fields)
    size = "all zero" if struct.frozen else "`struct_size` set, everything else zero"
    return (
        f"impl {struct.name} {{\n    /// {struct.init_name}: {size}.\n"
        f"    pub const INIT: Self = Self {{\n{values}    }};\n}}\n"
        f"impl Default for {struct.name} {{\n    fn default() -> Self {{\n        Self::INIT\n    }}\n}}\n"
    )


def _zero(header: Header, struct: Struct, field: Field) -> str:
    if field.name == "struct_size" and not struct.frozen:
        return "size_of::<Self>()"
    if field.type.array:
        return f"[0; {field.type.array}]"
    if field.type.pointers:
        return "core::ptr::null()" if field.type.const else "core::ptr::null_mut()"
    if any(c.name == field.type.base for c in header.callbacks):
        return "None"
    return "0.0" if field.type.base in ("float", "double") else "0"


def _assertions(header: Header) -> str:
    text = "\n// Layout, checked by every compilation.\nconst _: () = {\n"
    for alias in header.aliases:
        text += f"    assert!(size_of::<{alias.name}>() == {header.size_of(alias.target)});\n"
    for callback in header.callbacks:
        text += f"    assert!(size_of::<{callback.name}>() == 8);\n"
    for struct in header.structs:
        text += f"    assert!(size_of::<{struct.name}>() == {struct.size});\n"
        text += f"    assert!(align_of::<{struct.name}>() == {_alignment(header, struct)});\n"
        for field in struct.fields:
            text += f"    assert!(offset_of!({struct.name}, {field.name}) == {field.offset});\n"
    return text + "};\n"


def _alignment(header: Header, struct: Struct) -> int:
    return max(field.size // (field.type.array or 1) for field in struct.fields)


def _report(header: Header) -> str:
    """A program that prints what the compiler made of ffi.rs, in the form that tests/bindings/layout compares."""
    text = first_lines("a report of ffi.rs.")
    text += "//! Prints sizes, offsets and values for tests/bindings/layout.\n"
    text += "\nuse core::mem::{align_of, offset_of, size_of};\nuse indexcache_sys::*;\n"
    text += (
        "\nfn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {\n    size_of::<F>()\n}\n"
        "\nmacro_rules! layout {\n    ($name:ident: $($field:ident)*) => {\n"
        '        println!("struct {} {} {}", stringify!($name), size_of::<$name>(), align_of::<$name>());\n'
        "        $(println!(\n"
        '            "field {} {} {} {}",\n            stringify!($name),\n            stringify!($field),\n'
        "            offset_of!($name, $field),\n            size_of_field(|s: &$name| &s.$field)\n        );)*\n"
        "    };\n}\n"
        "\nmacro_rules! constants {\n    ($($name:ident)*) => {\n"
        '        $(println!("constant {} {}", stringify!($name), $name);)*\n    };\n}\n'
        "\nmacro_rules! samples {\n    ($name:ident: $($sample:literal)*) => {\n"
        '        $(println!("macro {} {} {}", stringify!($name), $sample, i64::from($name($sample)));)*\n    };\n}\n'
        "\nfn main() {\n"
    )
    for struct in header.structs:
        text += f"    layout!({struct.name}: {' '.join(f.name for f in struct.fields)});\n"
    text += "    constants!(\n" + "".join(f"        {c.name}\n" for c in header.constants) + "    );\n"
    for macro in header.macros:
        text += f"    samples!({macro.name}: {' '.join(map(str, FUNCTION_MACRO_SAMPLES[macro.name]))});\n"
    return text + "}\n"


def _c_link(known: set[str], name: str) -> str:
    return f"[`{name}`]" if name in known and not name.endswith("_INIT") else f"`{name}`"
