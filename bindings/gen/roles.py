# SPDX-License-Identifier: Apache-2.0
"""What a field or parameter is for: what an emitter of another language must know beyond its C type.

Told from types, from fixed name patterns and from the constants that a doc comment names.
"""

import re
from dataclasses import dataclass

from model import SCALARS, Field, Function, Header, Struct, is_status

# Parameters have no comments of their own.
_PARAM_FAMILIES = {"backend": "IC_BACKEND", "engine": "IC_ENGINE", "location": "IC_MEMORY", "faults": "IC_FAULT"}


@dataclass(frozen=True)
class Role:
    """kind is one of

    size           struct_size
    reserved       must be zero, no name in other languages
    value          a plain number (or bool-like 0 and 1)
    enum, flags    an int32_t with values of a constant family, a uint32_t with its bits; group is the family
    callback, user a function pointer, and the void * that it gets back; of is the callback's field
    text           const char *, zero-terminated
    sized_text     const char * and its length in bytes; of names that
    chars          a char array, zero-terminated text
    handle, struct a pointer to one; NULL where the comment allows it
    array, count   host memory and its number of elements; of names the partner
    buffer         device memory; of names its size in bytes
    bytes          the size of a buffer or of a sized_text; of names it
    device         device memory whose shape the comment gives
    numbers        an array of scalars by value
    stream         ic_stream
    """

    kind: str
    group: str | None = None
    of: str | None = None


def field_roles(header: Header, struct: Struct) -> list[Role]:
    return [_field(header, struct, field) for field in struct.fields]


def param_roles(header: Header, function: Function) -> list[Role]:
    """The same for parameters. A pointer that is an out or inout parameter keeps the role of what it points at."""
    return [_param(header, function, index) for index in range(len(function.params))]


def families(header: Header) -> dict[str, list]:
    """Constants by family, in the order of the header; ic_status and the version are not among them."""
    found: dict[str, list] = {}
    for constant in header.public_constants():
        group = header.constant_group(constant)
        if group and not is_status(constant):
            found.setdefault(group, []).append(constant)
    return found


def is_text_function(function: Function) -> bool:
    """(..., char *buffer, size_t *size): asked twice, first for the size."""
    return [p.type.spelled() for p in function.params[-2:]] == ["char *", "size_t *"]


def receiver(header: Header, function: Function) -> str | None:
    """The handle whose method a function is: the type of its first parameter; for a create function the created one."""
    handles = {h.name for h in header.handles}
    for handle, create, _ in header.lifecycles():
        if function.name == create:
            return handle
    first = function.params[0].type if function.params else None
    return first.base if first and first.pointers == 1 and first.base in handles else None


def method_name(header: Header, function: Function) -> str:
    """The name without ic_ and the receiver's name: forward, get_info, workspace_size ..."""
    handle = receiver(header, function)
    return function.name.removeprefix((handle or "ic") + "_").removeprefix("ic_")


def camel(name: str) -> str:
    """ic_context_desc -> ContextDesc, IC_CPU_ISA -> CpuIsa"""
    return "".join(word.capitalize() for word in re.sub(r"^(ic|IC)_", "", name).split("_"))


def _field(header: Header, struct: Struct, field: Field) -> Role:
    names = {f.name: f for f in struct.fields}
    name, type_ = field.name, field.type
    if name == "struct_size" and not struct.frozen:
        return Role("size")
    if name.startswith("reserved") or (name == "flags" and field.doc == "must be 0"):
        return Role("reserved")
    if any(c.name == type_.base for c in header.callbacks):
        return Role("callback")
    if type_.base == "void" and name.endswith("_user"):
        return Role("user", of=_callbacks_of(header, struct, name))
    if type_.pointers:
        if f"num_{name}" in names and (type_.base not in SCALARS or header.struct_kind(struct) == "desc"):
            return Role("array", of=f"num_{name}")
        if type_.base == "void" and f"{name}_size" in names:
            return Role("buffer", of=f"{name}_size")
        if type_.base == "char" and f"{name}_size" in names:
            return Role("sized_text", of=f"{name}_size")
        return _pointer(header, type_)
    if type_.array:
        return Role("chars" if type_.base == "char" else "numbers")
    partner = names.get(name.removeprefix("num_"))
    if name.startswith("num_") and partner and _field(header, struct, partner).kind == "array":
        return Role("count", of=partner.name)
    partner = names.get(name.removesuffix("_size"))
    if name.endswith("_size") and partner and partner.type.pointers:
        return Role("bytes", of=partner.name)
    return _scalar(header, type_.base, field.doc)


def _callbacks_of(header: Header, struct: Struct, user: str) -> str | None:
    stem = user.removesuffix("_user")
    names = {c.name for c in header.callbacks}
    fields = [f.name for f in struct.fields if f.type.base in names]
    return next((name for name in fields if name == stem or name.startswith(stem + "_")), None)


def _pointer(header: Header, type_) -> Role:
    if type_.base == "char":
        return Role("text")
    for kind, declared in (("handle", header.handles), ("struct", header.structs)):
        if any(d.name == type_.base for d in declared):
            return Role(kind)
    return Role("device")


def _scalar(header: Header, base: str, prose: str) -> Role:
    group = _group_in(header, base, prose)
    if group:
        return Role("flags" if base == "uint32_t" else "enum", group=group)
    return Role("value")


def _group_in(header: Header, base: str, prose: str) -> str | None:
    """The one family of base's signedness whose constants a comment names."""
    if base not in ("int32_t", "uint32_t"):
        return None
    known = families(header)
    named = set()
    for word in re.findall(r"\bIC_\w+\*?", prose):
        for group, constants in known.items():
            if constants[0].unsigned == (base == "uint32_t") and (
                any(c.name == word for c in constants) or word == group + "_*"
            ):
                named.add(group)
    return named.pop() if len(named) == 1 else None


def _param(header: Header, function: Function, index: int) -> Role:
    param = function.params[index]
    names = {p.name: p for p in function.params}
    name, type_ = param.name, param.type
    if any(a.name == type_.base and a.target.pointers for a in header.aliases):
        return Role("stream")
    if type_.base == "void" and type_.pointers:
        partner = next((n for n in (f"{name}_size", "size") if n in names), None)
        return Role("buffer", of=partner) if partner else Role("user")
    if type_.base == "char" and type_.pointers and not type_.const:
        return Role("chars", of="size")
    if type_.pointers and type_.base not in SCALARS:
        return _pointer(header, type_)
    for partner in (name.removesuffix("_size"), "buffer"):
        if name.endswith("size") and partner in names and partner != name:
            return Role("bytes", of=partner)
    if type_.base in ("int32_t", "uint32_t"):
        group = _PARAM_FAMILIES.get(name)
        if name == "flags":
            words = [f"IC_{word.upper()}" for word in reversed(function.name.split("_"))]  # ic_cache_export: IC_EXPORT
            group = next((word for word in words if word in families(header)), None)
        if group in families(header):
            return Role("flags" if type_.base == "uint32_t" else "enum", group=group)
    return Role("value")
