# SPDX-License-Identifier: Apache-2.0
"""Reads the public header. Refuses, with the line, what it does not understand; check.py has the other rules.

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

from declarations import DeclarationParser
from doc_comment import parse_doc
from model import FUNCTION_MACROS, Constant, Header, Initialiser, Macro
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
_NUMBER = re.compile(r"0x[0-9a-fA-F]+u|0|[1-9][0-9]*")
_BANNER = re.compile(r"/\*\s*={20,}\n \* (\S.*\S)\n \* =+ \*/")


def read_header(text: str) -> Header:
    return _HeaderParser(tokenize(text)).parse()


class _HeaderParser(DeclarationParser):
    def __init__(self, tokens: list[Token]):
        super().__init__(tokens)
        self.header.comments = [(t.line, t.text) for t in tokens if t.kind in ("doc", "comment")]
        self.last_constant: tuple[Constant, int] | None = None  # and the line that it ends on

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
                found = repr(token.text) if token.kind != "end" else "the end of the file"
                raise HeaderError(token.line, f"{message} {wanted.text!r} here, found {found}")

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

    # ---- macros ------------------------------------------------------------------------------------------------------

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
                raise HeaderError(
                    token.line, f"{name} is a function-like macro that bindings/gen/model.py does not know"
                )
            names = tuple(p.strip() for p in params.split(","))
            body = " ".join(body.split())
            self.header.macros.append(Macro(**self.common(name, token.line), params=names, body=body))
        elif name.endswith("_INIT"):
            self.header.initialisers.append(
                Initialiser(**self.common(name, token.line), values=parse_initialiser(name, body, token.line))
            )
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


def _plain(token: Token) -> str:
    """A directive without its comment and with single spaces; other tokens as they are."""
    if token.kind != "directive":
        return token.text
    return " ".join(re.sub(r"/\*.*?\*/", " ", token.text).split())


def parse_initialiser(name: str, body: str, line: int) -> tuple[str, ...]:
    match = re.fullmatch(r"\{\s*(.*?)\s*\}", " ".join(body.split()))
    if not match:
        raise HeaderError(line, f"{name} must be {{ value, value ... }}")
    return tuple(value.strip() for value in match[1].split(","))
