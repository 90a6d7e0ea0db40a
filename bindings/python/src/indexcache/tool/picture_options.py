# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that draw, and writing the files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from .checked import InputError
from .plan import replace_file
from .png import to_png
from .report import Report, pictures, write_report


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument("--html", metavar="FILE", help="one page with everything, which needs no other file")
    group.add_argument("--svg", metavar="FOLDER", help="each picture as a file, in light and dark colours")
    group.add_argument("--png", metavar="FOLDER", help="the same as PNG; needs pip install 'indexcache[report]'")


def write_pictures(options: argparse.Namespace, report: Report, note: Callable[[str], None]) -> None:
    """Writes what is asked for, and says where it is."""
    if options.html:
        write_report(options.html, report)
        note(f"wrote {options.html}")
    if options.svg or options.png:
        drawn = pictures(report)
        if not drawn:
            raise InputError("there is nothing to draw")
        for folder, ending in ((options.svg, "svg"), (options.png, "png")):
            if folder:
                _write(Path(folder), ending, drawn)
                note(f"wrote {', '.join(os.path.join(folder, f'{name}.{ending}') for name in drawn)}")


def _write(folder: Path, ending: str, drawn: dict[str, str]) -> None:
    images = {name: to_png(svg) for name, svg in drawn.items()} if ending == "png" else {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            (folder / f"{name}.png").write_bytes(image)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error}") from None
    if ending == "svg":
        for name, svg in drawn.items():
            replace_file(folder / f"{name}.svg", svg)
