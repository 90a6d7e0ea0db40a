# SPDX-License-Identifier: Apache-2.0
"""Parses the declarations of C itself: types, handles, callbacks, structs and functions."""

import re

from doc_comment import parse_doc
from model import SCALARS, Alias, Callback, Doc, Field, Function, Handle, Header, Parameter, Struct, Type
from tokens import HeaderError, Token

_FOREIGN_POINTERS = {"ic_stream": "CUstream_st"}


class DeclarationParser:
    """Reads from a list of tokens, adds to a Header. The doc comment before a declaration waits in doc."""

    def __init__(self, tokens: list[Token]):
        self.tokens = tokens
        self.position = 0
        self.header = Header()
        self.section: str | None = None
        self.doc: Doc | None = None

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

    # ---- types -------------------------------------------------------------------------------------------------------

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

    # ---- functions ---------------------------------------------------------------------------------------------------

    def function(self) -> None:
        line = self.take().line
        returns = self.type("a result")
        name = self.expect_name("a function name")
        if returns != Type("void") and returns != Type("char", True, 1):
            if returns.pointers:
                raise HeaderError(
                    line, f"{name.text} returns {returns.spelled()}; the only pointer allowed is const char *"
                )
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
                raise HeaderError(
                    self.peek().line, f"in {function}: a function pointer must be a named callback (ic_*_fn)"
                )
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
