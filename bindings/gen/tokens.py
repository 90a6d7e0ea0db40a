# SPDX-License-Identifier: Apache-2.0
"""Tokens of the public header, each with its line, and the error that names a line."""

import re
from dataclasses import dataclass


class HeaderError(Exception):
    """Something in the header that the dialect does not allow."""

    def __init__(self, line: int, message: str):
        super().__init__(f"{line}: {message}")
        self.line = line
        self.message = message


@dataclass(frozen=True)
class Token:
    kind: str  # doc, comment, directive, string, number, name, punct, end
    text: str
    line: int

    @property
    def last_line(self) -> int:
        return self.line + self.text.count("\n")


_PATTERN = re.compile(
    r"""
    (?P<doc>/\*\*(?!/)(?s:.*?)\*/)
  | (?P<comment>/\*(?s:.*?)\*/)
  | (?P<line_comment>//)
  | (?P<open_comment>/\*)
  | (?P<directive>^\#(?:\\\n|[^\n])*)
  | (?P<string>"[^"\n]*")
  | (?P<number>[0-9]\w*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<space>\s+)
  | (?P<punct>\.\.\.|.)
    """,
    re.VERBOSE | re.MULTILINE,
)

_REFUSED = {
    "line_comment": "// comment; the header is C89-clean in its comments: use /* */",
    "open_comment": "comment that never ends",
}


def tokenize(text: str, first_line: int = 1) -> list[Token]:
    """All tokens of text but white space, closed by one of kind "end"."""
    tokens = []
    line = first_line
    for match in _PATTERN.finditer(text):
        kind, word = match.lastgroup, match.group()
        if not word.isascii():
            offset = next(i for i, c in enumerate(word) if not c.isascii())
            raise HeaderError(line + word.count("\n", 0, offset), f"character {word[offset]!r} is not ASCII")
        if kind in _REFUSED:
            raise HeaderError(line, _REFUSED[kind])
        if kind == "punct" and word == "#":
            raise HeaderError(line, "a preprocessor directive must start in the first column")
        if kind != "space":
            tokens.append(Token(kind, word, line))
        line += word.count("\n")
    tokens.append(Token("end", "", line))
    return tokens
