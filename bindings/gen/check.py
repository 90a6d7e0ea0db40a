# SPDX-License-Identifier: Apache-2.0
"""The rules beyond the grammar: layout, names, initialisers, statuses, lifecycles, references in prose."""

import re
from collections.abc import Iterator

from model import SCALARS, Constant, Function, Header, Struct, Type, first_word, is_status
from reserved import languages_reserving
from tokens import HeaderError

_MAX_STRUCT_SIZE = 4096  # IC_ERROR_STRUCT_SIZE: the guard against garbage in struct_size
_STALE = range(20, 30)  # IC_STATUS_IS_STALE


def check_header(header: Header) -> list[HeaderError]:
    """Everything that is wrong, in the order of the header. Fills the layout of the structs."""
    problems = [problem for rule in _RULES for problem in rule(header)]
    return sorted(problems, key=lambda problem: problem.line)


def _names(header: Header) -> Iterator[HeaderError]:
    for declaration in (*header.aliases, *header.handles, *header.callbacks, *header.structs, *header.functions):
        if not re.fullmatch(r"ic(_[a-z0-9]+)+", declaration.name):
            yield HeaderError(declaration.line, f"{declaration.name} must be ic_ and words in small letters")
    fields = [(f, f"field {s.name}.{f.name}") for s in header.structs for f in s.fields]
    params = [(p, f"parameter {p.name} of {f.name}") for f in (*header.functions, *header.callbacks) for p in f.params]
    for item, what in fields + params:
        languages = languages_reserving(item.name)
        if languages:
            yield HeaderError(item.line, f"{what} is a reserved word of {', '.join(languages)}")
        elif not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", item.name):
            yield HeaderError(item.line, f"{what} must be words in small letters")


def _layout(header: Header) -> Iterator[HeaderError]:
    for struct in header.structs:
        offset, alignment = 0, 1
        for field in struct.fields:
            field.size = header.size_of(field.type)
            unit = field.size // (field.type.array or 1)
            padding = -offset % unit
            if padding:
                yield HeaderError(field.line, f"{padding} bytes of padding before {struct.name}.{field.name}")
            field.offset = offset + padding
            offset = field.offset + field.size
            alignment = max(alignment, unit)
        struct.size = offset + -offset % alignment
        if struct.size != offset:
            yield HeaderError(struct.line, f"{struct.size - offset} bytes of padding at the end of {struct.name}")
        if struct.size > _MAX_STRUCT_SIZE:
            yield HeaderError(struct.line, f"{struct.name} has {struct.size} bytes; allowed: {_MAX_STRUCT_SIZE}")


def _struct_size(header: Header) -> Iterator[HeaderError]:
    for struct in header.structs:
        first = struct.fields[0]
        sized = first.name == "struct_size" and first.type == Type("size_t")
        if struct.frozen and any(f.name == "struct_size" for f in struct.fields):
            yield HeaderError(struct.line, f"{struct.name} is @frozen and has struct_size: it must be one or the other")
        elif not struct.frozen and not sized:
            yield HeaderError(
                first.line, f"the first field of {struct.name} must be size_t struct_size (or tag it @frozen)"
            )
        if header.struct_kind(struct) == "unused":
            yield HeaderError(struct.line, f"{struct.name} is used by no function and no struct")


def _initialisers(header: Header) -> Iterator[HeaderError]:
    structs = {struct.init_name: struct for struct in header.structs}
    for initialiser in header.initialisers:
        struct = structs.get(initialiser.name)
        if not struct:
            yield HeaderError(initialiser.line, f"{initialiser.name} initialises no struct of this header")
            continue
        wanted = [_zero(header, struct, field) for field in struct.fields]
        values = list(initialiser.values)
        if len(values) != len(wanted):
            yield HeaderError(initialiser.line, f"{initialiser.name} has {len(values)} values for {len(wanted)} fields")
        for field, value, zero in zip(struct.fields, values, wanted, strict=False):
            if value != zero and len(values) == len(wanted):
                yield HeaderError(initialiser.line, f"{initialiser.name} gives {field.name} {value}; it must be {zero}")
    for struct in header.structs:
        if not struct.frozen and not header.initialiser_of(struct):
            yield HeaderError(struct.line, f"{struct.name} has no {struct.init_name}")


def _zero(header: Header, struct: Struct, field) -> str:
    """Zero is always the default, so every field but struct_size has the same initialiser in every language."""
    if field.name == "struct_size":
        return f"sizeof({struct.name})"
    if field.type.array:
        return "{0}"
    alias = next((a for a in header.aliases if a.name == field.type.base), None)
    scalar = not field.type.pointers and (field.type.base in SCALARS or (alias and not alias.target.pointers))
    return "0" if scalar else "NULL"


def _constants(header: Header) -> Iterator[HeaderError]:
    families: dict[str, list[Constant]] = {}
    for constant in header.constants:
        families.setdefault("ic_status" if is_status(constant) else first_word(constant), []).append(constant)
        if constant.unsigned and (constant.value == 0 or constant.value & (constant.value - 1)):
            yield HeaderError(constant.line, f"{constant.name} is a flag (suffix u) but not exactly one bit")
    for family in families.values():
        first, seen = family[0], {}
        for constant in family:
            if first.name.startswith("IC_VERSION_"):
                continue
            if constant.value in seen:
                yield HeaderError(constant.line, f"{constant.name} has the value of {seen[constant.value]}")
            seen[constant.value] = constant.name
            if constant.unsigned != first.unsigned:
                yield HeaderError(
                    constant.line, f"{constant.name} and {first.name} are a flag and a plain number of one family"
                )
            if constant.section != first.section:
                yield HeaderError(constant.line, f"{constant.name} and {first.name} are one family in two sections")
    names = {c.name for c in header.constants}
    for wanted in ("IC_VERSION_MAJOR", "IC_VERSION_MINOR", "IC_VERSION_PATCH", "IC_OK"):
        if wanted not in names:
            yield HeaderError(1, f"{wanted} is not defined")
    for constant in filter(is_status, header.constants):
        if constant.name == "IC_OK" and constant.value != 0:
            yield HeaderError(constant.line, "IC_OK must be 0")
        stale = constant.name.startswith("IC_ERROR_STALE")
        if stale != (constant.value in _STALE):
            yield HeaderError(
                constant.line,
                f"{constant.name} is {constant.value}; 20 to 29 are for IC_ERROR_STALE*, and only for them",
            )


def _functions(header: Header) -> Iterator[HeaderError]:
    if any(c.name == "IC_VERSION_PATCH" for c in header.constants):
        version = header.version()
        for function in header.functions:
            since = function.doc.since
            if not since:
                yield HeaderError(function.line, f"{function.name} has no @since")
            elif version_key(since) > version:
                yield HeaderError(
                    function.line, f"{function.name} is from {since}, but this header is {'.'.join(map(str, version))}"
                )
    statuses = [c.name for c in header.constants if is_status(c)]
    for function in header.functions:
        for word in re.findall(r"\bIC_\w+\*?", function.doc.errors or ""):
            if not expand_status(word, statuses):
                yield HeaderError(function.doc.line, f"@errors of {function.name} names {word}, which is no status")


def _lifecycles(header: Header) -> Iterator[HeaderError]:
    functions = {f.name: f for f in header.functions}
    for handle, (name, create, destroy) in zip(header.handles, header.lifecycles(), strict=True):
        if not _creates(functions.get(create), name):
            yield HeaderError(handle.line, f"{name} needs {create}(..., {name} **out) that returns ic_status")
        found = functions.get(destroy)
        if not found or found.returns != Type("void") or [p.type for p in found.params] != [Type(name, pointers=1)]:
            yield HeaderError(handle.line, f"{name} needs void {destroy}({name} *)")


def _creates(function: Function | None, handle: str) -> bool:
    return (
        function is not None
        and function.returns == Type("ic_status")
        and function.params != []
        and function.params[-1].type == Type(handle, pointers=2)
    )


def _references(header: Header) -> Iterator[HeaderError]:
    """Prose names only what exists; a name may stand for all that begin with it (IC_DTYPE_*, IC_ERROR_CUDA_*)."""
    known = {d.name for d in header.declarations()} | {"IC_API"}
    for first_line, text in header.comments:
        for number, line in enumerate(text.split("\n")):
            for match in re.finditer(r"\b(?:ic|IC)_\w+\*?", line):
                word = match.group().rstrip("*")
                family = word if match.group().endswith("*") else word + "_"
                if word not in known and not any(name.startswith(family) for name in known):
                    yield HeaderError(first_line + number, f"a comment names {match.group()}, which does not exist")


def version_key(text: str) -> tuple[int, int, int]:
    parts = [int(part) for part in text.split(".")]
    return tuple(parts + [0] * (3 - len(parts)))


def expand_status(word: str, statuses: list[str]) -> list[str]:
    """The statuses that a word of @errors stands for: itself, or with a * all that begin with it."""
    if word.endswith("*"):
        return [name for name in statuses if name.startswith(word[:-1])]
    return [name for name in statuses if name == word]


_RULES = (_names, _layout, _struct_size, _initialisers, _constants, _functions, _lifecycles, _references)
