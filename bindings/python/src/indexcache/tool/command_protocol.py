# SPDX-License-Identifier: Apache-2.0
"""indexcache protocol"""

from __future__ import annotations

import argparse
from pathlib import Path

from .checked import InputError, read_text

PAGE = "search-protocol.md"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "protocol",
        help="print how to write an engine",
        description="Prints the page about the protocol between this program and engines, with an engine in ten lines.",
    )
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    print(read_text(page()), end="")
    return 0


def page() -> Path:
    """In an installed package it lies beside this file, in a checkout with the documents."""
    here = Path(__file__).resolve()
    for path in (here.parent / PAGE, here.parents[5] / "docs" / PAGE):
        if path.exists():
            return path
    raise InputError(f"{PAGE} is not installed; it is in docs/ of the repository")
