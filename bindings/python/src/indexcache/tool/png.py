# SPDX-License-Identifier: Apache-2.0
"""SVG text as a PNG picture, through an optional package."""

from __future__ import annotations

import importlib

from .checked import InputError


def to_png(svg: str, scale: float = 2.0) -> bytes:
    """The picture in light colours, scale pixels for each unit of the drawing."""
    try:
        cairosvg = importlib.import_module("cairosvg")
    except ImportError:
        raise InputError(
            "PNG needs the package cairosvg, which is not installed: pip install 'indexcache[report]'; "
            "--svg and --html need nothing"
        ) from None
    except OSError as error:  # the package is there; the library that it loads is not
        raise InputError(f"PNG needs the library cairo (Debian: apt-get install libcairo2): {error}") from None
    png: bytes = cairosvg.svg2png(bytestring=svg.encode(), scale=scale)
    return png
