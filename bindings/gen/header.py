# SPDX-License-Identifier: Apache-2.0
"""Reads the public header. Refuses, with the line, everything that it does not understand; check.py has the other rules.

Between a fixed beginning and a fixed end the header is a sequence of declarations, each with a doc comment before it:

    #define IC_NAME 1 | (-1) | 0x1u                 a constant; directly following ones may share the comment
    #define IC_STRUCT_INIT { ... }                  an initialiser
    #define IC_NAME(a) expression                   one of the macros that model.py knows
    typedef int32_t ic_name;                        a scalar under another name
    typedef struct CUstream_st *ic_stream;          a foreign pointer
    typedef struct ic_name ic_name;                 a handle
    typedef result (*ic_name_fn)(parameters);       a callback
    typedef struct ic_name { fields } ic_name;      a struct
    IC_API result ic_name(parameters);              a function

Declarations stand below a section title. Tags close a doc comment: @since, @errors, @frozen.
"""

import re

from model import (FUNCTION_MACROS, SCALARS, Alias, Callback, Constant, Doc, Field, Function, Handle, Header,
                   Initialiser, Macro, Parameter, Struct, Type)
from tokens import HeaderError, Token, tokenize

_BEGINNING = """
#ifndef INDEXCACHE_H
#define INDEXCACHE_H
#include <stddef.h>
#include <stdint.h>
#if defined(__GNUC__) || defined(__clang__)
#define IC_API __attribute__((visibility("default")))
#else
#define IC_API
#endif
#ifdef __cplusplus
extern "C" {
#endif
"""
_END = """
#ifdef __cplusplus
}
#endif
#endif
"""
_FOREIGN_POINTERS = {"ic_stream": "CUstream_st"}
_NUMBER = re.compile(r"0x[0-9a-fA-F]+u|0|[1-9][0-9]*")
_TAG = re.compile(r"(?:^|(?<=\s))@(\w+)")
_BANNER = re.compile(r"/\*\s*={20,}\n \* (\S.*\S)\n \* =+ \*/")


def read_header(text: str) -> Header:
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str):
        self.header = Header()
        self.tokens: list[Token] = []
        for token in tokenize(text):
            if token.kind in ("doc", "comment"):
                self.header.comments.append((token.line, token.text))
            self.tokens.append(token)
        self.position = 0
        self.section: str | None = None
        self.doc: Doc | None = None
        self.last_constant: tuple[Constant, int] | None = None  # and the line that it ends on

    # ---- tokens ----------------------------------------------------------------------------------------------------

    def peek(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.tokens[self.position]
        if token.kind != "end":
            self.position += 1
        return token

    def at(self, text: str) -> bool:
        token = self.peek()
        return token.kind not in ("doc", "comment") and token.text == text

    def expect(self, text: str, where: str) -> Token:
        token = self.take()
        if token.text != text:
            found = repr(token.text) if token.kind != "end" else "the end of the file"
            raise HeaderError(token.line, f"expected {text!r} {where}, found {found}")
        return token

    def expect_name(self, what: str) -> Token:
        token = self.take()
        if token.kind != "name":
            raise HeaderError(token.line, f"expected {what}, found {token.text!r}")
        return token

    # ---- the whole file --------------------------------------------------------------------------------------------

    def parse(self) -> Header:
        self.fixed(_BEGINNING, "the header must begin with")
        while not self.at_end_of_body():
            self.item()
        if self.doc:
            raise HeaderError(self.doc.line, "doc comment without a declaration")
        self.fixed(_END, "the header must end with")
        if self.peek().kind != "end":
            raise HeaderError(self.peek().line, "nothing may follow the closing #endif")
        return self.header

    def fixed(self, frame: str, message: str) -> None:
        for wanted in tokenize(frame.lstrip()):
            if wanted.kind == "end":
                return
            while self.peek().kind in ("doc", "comment"):
                self.take()
            token = self.take()
            if _plain(token) != _plain(wanted):
                raise HeaderError(token.line, f"{message} {wanted.text!r} here, found {token.text!r}")

    def at_end_of_body(self) -> bool:
        token = self.peek()
        return token.kind == "end" or (token.kind == "directive" and _plain(token) == "#ifdef __cplusplus")

    def item(self) -> None:
        token = self.peek()
        if token.kind in ("doc", "comment"):
            if self.doc:
                raise HeaderError(self.doc.line, "doc comment without a declaration")
            if token.kind == "doc":
                self.doc = parse_doc(token)
            else:
                self.banner(token)
            self.take()
        elif token.kind == "directive":
            self.define(self.take())
        elif self.at("typedef"):
            self.typedef()
        elif self.at("IC_API"):
            self.function()
        else:
            raise HeaderError(token.line, f"{token.text!r} is neither #define, typedef nor an IC_API function")

    def banner(self, token: Token) -> None:
        match = _BANNER.fullmatch(token.text)
        if match:
            self.section = match[1]
            if self.section in self.header.sections:
                raise HeaderError(token.line, f"second section with the title {self.section!r}")
            self.header.sections.append(self.section)
        elif "====" in token.text:
            raise HeaderError(token.line, "a section title is one line between two lines of =")

    def common(self, name: str, line: int) -> dict:
        """Takes the pending doc comment for a declaration."""
        if not self.doc:
            raise HeaderError(line, f"{name} has no doc comment")
        if not self.section:
            raise HeaderError(line, f"{name} stands before the first section title")
        if any(d.name == name for d in self.header.declarations()):
            raise HeaderError(line, f"{name} is declared twice")
        doc, self.doc = self.doc, None
        return {"name": name, "doc": doc, "section": self.section, "line": line}

    # ---- macros ----------------------------------------------------------------------------------------------------

    def define(self, token: Token) -> None:
        text = re.sub(r"\\\n", " ", token.text)
        text = re.sub(r"/\*.*?\*/", " ", text).rstrip()
        match = re.fullmatch(r"#define (\w+)(?:\(([^()]*)\)(?=\s))?\s+(\S.*)", text)
        if not match:
            if text.startswith("#define"):
                raise HeaderError(token.line, f"a macro without a value: {text}")
            raise HeaderError(token.line, f"directive that is not understood: {text}")
        name, params, body = match[1], match[2], match[3]
        if not re.fullmatch(r"IC_[A-Z0-9_]*[A-Z0-9]", name):
            raise HeaderError(token.line, f"{name} must start with IC_ and be in capitals")
        if params is not None:
            if name not in FUNCTION_MACROS:
                raise HeaderError(token.line, f"{name} is a function-like macro that bindings/gen/model.py does not know")
            names = tuple(p.strip() for p in params.split(","))
            body = " ".join(body.split())
            self.header.macros.append(Macro(**self.common(name, token.line), params=names, body=body))
        elif name.endswith("_INIT"):
            self.header.initialisers.append(
                Initialiser(**self.common(name, token.line), values=parse_initialiser(name, body, token.line)))
        else:
            self.constant(name, body, token)

    def constant(self, name: str, body: str, token: Token) -> None:
        negative = re.fullmatch(r"\(-([1-9][0-9]*)\)", body)
        if not negative and not _NUMBER.fullmatch(body):
            raise HeaderError(token.line, f"the value of {name} is {body}; allowed: 1, (-1), 0x1u")
        unsigned = body.endswith("u")
        value = -int(negative[1]) if negative else int(body.rstrip("u"), 0)
        limits = (0, 2**32 - 1) if unsigned else (-(2**31), 2**31 - 1)
        if not limits[0] <= value <= limits[1]:
            raise HeaderError(token.line, f"the value of {name} does not fit into 32 bits")
        if not self.doc and self.last_constant:
            before, last_line = self.last_constant
            if last_line + 1 == token.line and before.unsigned == unsigned:
                self.doc = before.doc
        constant = Constant(**self.common(name, token.line), value=value, unsigned=unsigned)
        self.header.constants.append(constant)
        self.last_constant = (constant, token.last_line)

    # ---- types -----------------------------------------------------------------------------------------------------

    def typedef(self) -> None:
        line = self.take().line
        if self.at("struct"):
            self.take()
            tag = self.expect_name("a struct name")
            if self.at("{"):
                self.struct(tag)
            elif self.at("*"):
                self.foreign_pointer(tag)
            else:
                name = self.expect_name("the handle's name")
                self.same_name(tag, name)
                self.expect(";", f"after handle {name.text}")
                self.header.handles.append(Handle(**self.common(name.text, line)))
            return
        if self.peek().text in ("enum", "union"):
            raise HeaderError(line, f"{self.peek().text} is not allowed: its size or layout is the compiler's choice")
        type_ = self.type("typedef")
        if self.at("("):
            self.callback(type_, line)
            return
        name = self.expect_name("a type name")
        self.expect(";", f"after typedef {name.text}")
        if type_.base not in SCALARS or type_.pointers or type_.const:
            raise HeaderError(line, f"{name.text} must be another name of a plain scalar")
        self.header.aliases.append(Alias(**self.common(name.text, line), target=type_))

    def foreign_pointer(self, tag: Token) -> None:
        self.take()
        name = self.expect_name("a type name")
        self.expect(";", f"after typedef {name.text}")
        if _FOREIGN_POINTERS.get(name.text) != tag.text:
            raise HeaderError(tag.line, f"struct {tag.text} * as {name.text} is not a foreign pointer that is known")
        target = Type("struct " + tag.text, pointers=1)
        self.header.aliases.append(Alias(**self.common(name.text, tag.line), target=target))

    @staticmethod
    def same_name(tag: Token, name: Token) -> None:
        if tag.text != name.text:
            raise HeaderError(name.line, f"struct {tag.text} must be typedefed to its own name, not {name.text}")

    def callback(self, returns: Type, line: int) -> None:
        self.expect("(", "in a callback typedef")
        self.expect("*", "in a callback typedef")
        name = self.expect_name("the callback's name")
        self.expect(")", f"after the name of callback {name.text}")
        if not name.text.endswith("_fn"):
            raise HeaderError(name.line, f"callback {name.text} must end with _fn")
        params = self.parameters(name.text)
        self.expect(";", f"after callback {name.text}")
        self.header.callbacks.append(Callback(**self.common(name.text, line), returns=returns, params=params))

    def struct(self, tag: Token) -> None:
        self.take()
        fields: list[Field] = []
        while not self.at("}"):
            doc = ""
            while self.peek().kind in ("doc", "comment"):
                token = self.take()
                if token.kind == "comment" or doc:
                    raise HeaderError(token.line, f"in {tag.text}: one doc comment per field, and no other comment")
                doc = parse_doc(token, field=True).text
            if doc and self.at("}"):
                raise HeaderError(self.peek().line, f"in {tag.text}: doc comment without a field")
            fields.append(self.field(tag.text, fields, doc))
        self.take()
        name = self.expect_name(f"the name after struct {tag.text}")
        self.same_name(tag, name)
        self.expect(";", f"after struct {name.text}")
        if not fields:
            raise HeaderError(tag.line, f"struct {tag.text} has no fields")
        self.header.structs.append(Struct(**self.common(name.text, tag.line), fields=fields))

    def field(self, struct: str, before: list[Field], doc: str) -> Field:
        type_ = self.type(f"struct {struct}")
        if self.at("("):
            raise HeaderError(self.peek().line, f"in {struct}: a function pointer must be a named callback (ic_*_fn)")
        name = self.expect_name("a field name")
        array = 0
        if self.at("["):
            self.take()
            count = self.take()
            if not re.fullmatch(r"[1-9][0-9]*", count.text):
                raise HeaderError(count.line, f"in {struct}: the length of {name.text} must be a plain number above 0")
            array = int(count.text)
            self.expect("]", f"after the length of {name.text}")
        if self.at(","):
            raise HeaderError(name.line, f"in {struct}: one field per declaration")
        if self.at(":"):
            raise HeaderError(name.line, f"in {struct}: {name.text} is a bit field")
        if self.at("["):
            raise HeaderError(name.line, f"in {struct}: {name.text} has more than one dimension")
        self.expect(";", f"after field {struct}.{name.text}")
        self.held_by_value(type_, f"field {struct}.{name.text}", name.line, array)
        if any(f.name == name.text for f in before):
            raise HeaderError(name.line, f"in {struct}: second field {name.text}")
        return Field(name.text, Type(type_.base, type_.const, type_.pointers, array), doc, name.line)

    def type(self, where: str) -> Type:
        """[const] base {*}. Only names that are already declared."""
        const = self.at("const")
        if const:
            self.take()
        if self.peek().text in ("struct", "union", "enum"):
            raise HeaderError(self.peek().line, f"in {where}: nested or untypedefed {self.peek().text}")
        base = self.expect_name(f"a type in {where}")
        header = self.header
        declared = (*header.aliases, *header.handles, *header.callbacks, *header.structs)
        if base.text != "void" and base.text not in SCALARS and all(d.name != base.text for d in declared):
            raise HeaderError(base.line, f"in {where}: unknown type {base.text}")
        pointers = 0
        while self.at("*"):
            self.take()
            pointers += 1
        if self.at("const"):
            raise HeaderError(base.line, f"in {where}: const must stand first")
        if pointers > 2 or (pointers == 2 and (const or all(h.name != base.text for h in header.handles))):
            raise HeaderError(base.line, f"in {where}: {'*' * pointers} is only allowed as ** of a handle")
        return Type(base.text, const, pointers)

    def held_by_value(self, type_: Type, what: str, line: int, array: int = 0) -> None:
        if type_.pointers:
            if array:
                raise HeaderError(line, f"{what} is an array of pointers")
            return
        if type_.base == "void" or any(h.name == type_.base for h in self.header.handles):
            raise HeaderError(line, f"{what} has type {type_.base} by value")
        if any(s.name == type_.base for s in self.header.structs):
            raise HeaderError(line, f"{what} holds struct {type_.base} by value; structs are passed by pointer")
        if type_.const:
            raise HeaderError(line, f"{what} is const by value")
        if type_.base == "char" and not array:
            raise HeaderError(line, f"{what} is a single char, whose sign is the compiler's choice")
        if array and type_.base not in SCALARS:
            raise HeaderError(line, f"{what} is an array of {type_.base}; allowed: of a plain scalar")

    # ---- functions -------------------------------------------------------------------------------------------------

    def function(self) -> None:
        line = self.take().line
        returns = self.type("a result")
        name = self.expect_name("a function name")
        if returns != Type("void") and returns != Type("char", True, 1):
            if returns.pointers:
                raise HeaderError(line, f"{name.text} returns {returns.spelled()}; the only pointer allowed is const char *")
            self.held_by_value(returns, f"the result of {name.text}", line)
        params = self.parameters(name.text)
        self.expect(";", f"after function {name.text}")
        self.header.functions.append(Function(**self.common(name.text, line), returns=returns, params=params))

    def parameters(self, function: str) -> list[Parameter]:
        opening = self.expect("(", f"after {function}")
        if self.at(")"):
            raise HeaderError(opening.line, f"{function}() is not a prototype in C: write (void)")
        if self.at("void") and self.tokens[self.position + 1].text == ")":
            self.take()
            self.take()
            return []
        params: list[Parameter] = []
        while True:
            if self.at("..."):
                raise HeaderError(self.peek().line, f"{function} has variable arguments")
            type_ = self.type(function)
            if self.at("("):
                raise HeaderError(self.peek().line, f"in {function}: a function pointer must be a named callback (ic_*_fn)")
            if self.peek().kind != "name":
                raise HeaderError(self.peek().line, f"in {function}: parameter {len(params) + 1} has no name")
            name = self.take()
            if self.at("["):
                raise HeaderError(name.line, f"in {function}: {name.text} is an array; write a pointer")
            self.held_by_value(type_, f"parameter {name.text} of {function}", name.line)
            if any(p.name == name.text for p in params):
                raise HeaderError(name.line, f"in {function}: second parameter {name.text}")
            params.append(Parameter(name.text, type_, name.line))
            if self.at(")"):
                self.take()
                return params
            self.expect(",", f"between the parameters of {function}")


def _plain(token: Token) -> str:
    """A directive without its comment and with single spaces; other tokens as they are."""
    if token.kind != "directive":
        return token.text
    return " ".join(re.sub(r"/\*.*?\*/", " ", token.text).split())


def parse_initialiser(name: str, body: str, line: int) -> tuple[str, ...]:
    match = re.fullmatch(r"\{ (.*) \}", " ".join(body.split()))
    if not match:
        raise HeaderError(line, f"{name} must be {{ value, value ... }}")
    return tuple(value.strip() for value in match[1].split(","))


def parse_doc(token: Token, field: bool = False) -> Doc:
    """Strips the comment's frame and cuts off the tags, which must come last."""
    lines = token.text[3:-2].split("\n")
    lines = [lines[0].strip()] + [re.sub(r"^\s*\*(?: {1,2}|$)", "", line).rstrip() for line in lines[1:]]
    text = "\n".join(lines).strip()
    pieces = _TAG.split(text)
    tags: dict[str, str] = {}
    for tag, value in zip(pieces[1::2], pieces[2::2]):
        line = token.line + token.text.count("\n", 0, token.text.index("@" + tag))
        if field or tag not in ("since", "errors", "frozen"):
            raise HeaderError(line, f"unknown tag @{tag}" + (" in the comment of a field" if field else ""))
        if tag in tags:
            raise HeaderError(line, f"second @{tag} in one comment")
        tags[tag] = " ".join(value.split())
        if tag == "since" and not re.fullmatch(r"\d+\.\d+(\.\d+)?", tags[tag]):
            raise HeaderError(line, f"@since must be followed by a version and nothing else, found {tags[tag]!r}")
        if tag == "frozen" and tags[tag]:
            raise HeaderError(line, f"@frozen takes no text, found {tags[tag]!r}")
        if tag == "errors" and not tags[tag]:
            raise HeaderError(line, "@errors without a status")
    if not pieces[0].strip():
        raise HeaderError(token.line, "empty doc comment")
    return Doc(pieces[0].strip(), token.line, tags.get("since"), tags.get("errors"), "frozen" in tags)
