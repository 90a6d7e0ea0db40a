# SPDX-License-Identifier: Apache-2.0
"""What the header declares: the input of every emitter. Layouts are those of LP64, the library's only data model."""

from dataclasses import dataclass, field

POINTER_SIZE = 8
SCALARS = {
    "char": 1,
    "int32_t": 4,
    "uint32_t": 4,
    "int64_t": 8,
    "uint64_t": 8,
    "size_t": 8,
    "float": 4,
    "double": 8,
}

# The function-like macros of the header with their meaning, so that every language can have them and test them.
FUNCTION_MACROS = {
    "IC_STATUS_IS_STALE": lambda status: int(20 <= status <= 29),
    "IC_K_PADDED": lambda k: (k + 127) // 128 * 128,
}
FUNCTION_MACRO_SAMPLES = {
    "IC_STATUS_IS_STALE": (0, 1, 19, 20, 25, 29, 30, 61),
    "IC_K_PADDED": (1, 127, 128, 129, 2048, 4095, 4096),
}


@dataclass(frozen=True)
class Type:
    """[const] base, behind 0 to 2 pointers, or an array of base."""

    base: str
    const: bool = False
    pointers: int = 0
    array: int = 0

    def spelled(self) -> str:
        stars = "*" * self.pointers
        return ("const " if self.const else "") + self.base + (" " + stars if stars else "")

    def declare(self, name: str) -> str:
        separator = "" if self.pointers else " "
        return self.spelled() + separator + name + (f"[{self.array}]" if self.array else "")


@dataclass(frozen=True)
class Doc:
    """A doc comment: its text, and the tags that close it."""

    text: str
    line: int
    since: str | None = None
    errors: str | None = None
    frozen: bool = False


@dataclass
class Declaration:
    name: str
    doc: Doc
    section: str
    line: int


@dataclass
class Constant(Declaration):
    value: int
    unsigned: bool  # written with the suffix u: a flag bit


@dataclass
class Macro(Declaration):
    params: tuple[str, ...]
    body: str


@dataclass
class Initialiser(Declaration):
    values: tuple[str, ...]


@dataclass
class Alias(Declaration):
    """A scalar under another name (ic_status), or a pointer to a struct of somebody else (ic_stream)."""

    target: Type


@dataclass
class Handle(Declaration):
    pass


@dataclass
class Parameter:
    name: str
    type: Type
    line: int


@dataclass
class Callback(Declaration):
    returns: Type
    params: list[Parameter]


@dataclass
class Field:
    name: str
    type: Type
    doc: str
    line: int
    offset: int = 0
    size: int = 0


@dataclass
class Struct(Declaration):
    fields: list[Field]
    size: int = 0

    @property
    def frozen(self) -> bool:
        """Without struct_size: the struct can never change."""
        return self.doc.frozen

    @property
    def init_name(self) -> str:
        return self.name.upper() + "_INIT"


@dataclass
class Function(Declaration):
    returns: Type
    params: list[Parameter]


@dataclass
class Header:
    """Everything in the order of the header."""

    sections: list[str] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    macros: list[Macro] = field(default_factory=list)
    initialisers: list[Initialiser] = field(default_factory=list)
    aliases: list[Alias] = field(default_factory=list)
    handles: list[Handle] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    structs: list[Struct] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    comments: list[tuple[int, str]] = field(default_factory=list)

    def declarations(self) -> list[Declaration]:
        groups = (self.constants, self.macros, self.initialisers, self.aliases, self.handles, self.callbacks)
        return [d for group in (*groups, self.structs, self.functions) for d in group]

    def initialiser_of(self, struct: Struct) -> Initialiser | None:
        return next((i for i in self.initialisers if i.name == struct.init_name), None)

    def version(self) -> tuple[int, int, int]:
        value = {c.name: c.value for c in self.constants}
        return tuple(value[f"IC_VERSION_{part}"] for part in ("MAJOR", "MINOR", "PATCH"))

    def public_constants(self) -> list[Constant]:
        """All constants but the version, which is the only one that may change."""
        return [c for c in self.constants if not c.name.startswith("IC_VERSION_")]

    def size_of(self, type_: Type) -> int:
        """Bytes of a value (for an array: of all of it). Handles and structs have no size here: never held by value."""
        if type_.pointers or any(c.name == type_.base for c in self.callbacks):
            return POINTER_SIZE
        alias = next((a for a in self.aliases if a.name == type_.base), None)
        size = self.size_of(alias.target) if alias else SCALARS[type_.base]
        return size * (type_.array or 1)

    def directions(self, function: Function) -> list[str]:
        """in, out, inout or scratch for every parameter, from constness and three fixed patterns."""
        handles = {h.name for h in self.handles}
        result = []
        for index, param in enumerate(function.params):
            type_ = param.type
            before = function.params[index - 1] if index else None
            if type_.pointers == 0 or type_.const:
                result.append("in")
            elif param.name == "workspace":
                result.append("scratch")
            elif type_.pointers == 1 and type_.base in handles:
                result.append("inout")  # the object's state changes
            elif type_.base == "size_t" and before and before.type == Type("char", pointers=1):
                result.append("inout")  # text functions: room on entry, length on return
            else:
                result.append("out")
        return result

    def struct_kind(self, struct: Struct) -> str:
        """desc and args by name; the others by who writes them: input, output or inout."""
        for suffix in ("desc", "args"):
            if struct.name.endswith("_" + suffix):
                return suffix
        uses = {t.const for f in self.functions for p in f.params if (t := p.type).base == struct.name}
        uses |= {t.const for s in self.structs for f in s.fields if (t := f.type).base == struct.name}
        if not uses:
            return "unused"
        return "inout" if len(uses) == 2 else "input" if True in uses else "output"

    def lifecycles(self) -> list[tuple[str, str, str]]:
        return [(h.name, h.name + "_create", h.name + "_destroy") for h in self.handles]

    def constant_group(self, constant: Constant) -> str | None:
        """The family of a constant: ic_status, else what all constants with the same first word share ("IC_CPU_ISA").
        None for a plain constant that stands alone."""
        if is_status(constant):
            return "ic_status"
        words = [c.name.split("_") for c in self.constants if first_word(c) == first_word(constant)]
        if len(words) == 1:
            return f"IC_{first_word(constant)}" if constant.unsigned else None  # the first flag of its family
        common = 0
        while common < min(map(len, words)) - 1 and len({w[common] for w in words}) == 1:
            common += 1
        return "_".join(words[0][:common])


def first_word(constant: Constant) -> str:
    return constant.name.split("_")[1]


def is_status(constant: Constant) -> bool:
    return constant.name == "IC_OK" or constant.name.startswith("IC_ERROR_")
