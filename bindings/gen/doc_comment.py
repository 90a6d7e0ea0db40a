# SPDX-License-Identifier: Apache-2.0
"""Doc comments: the text without its frame, and the tags that close it (@since, @errors, @frozen)."""

import re

from model import Doc
from tokens import HeaderError, Token

_TAG = re.compile(r"(?:^|(?<=\s))@(\w+)")


def parse_doc(token: Token, field: bool = False) -> Doc:
    """Strips the comment's frame and cuts off the tags, which must come last."""
    lines = token.text[3:-2].split("\n")
    lines = [lines[0].strip()] + [re.sub(r"^\s*\*(?: {1,2}|$)", "", line).rstrip() for line in lines[1:]]
    text = "\n".join(lines).strip()
    pieces = _TAG.split(text)
    tags: dict[str, str] = {}
    for tag, value in zip(pieces[1::2], pieces[2::2], strict=True):
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


def blocks(text: str) -> list[tuple[str, str]]:
    """A doc comment's text cut into ("text", paragraph on one line) and ("code", indented lines as they are)."""
    result: list[tuple[str, str]] = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines):
            result.append(("code", "\n".join(line[4:] for line in lines)))
        else:
            result.append(("text", " ".join(line.strip() for line in lines)))
    return result
