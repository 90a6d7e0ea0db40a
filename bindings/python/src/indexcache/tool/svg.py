# SPDX-License-Identifier: Apache-2.0
"""A drawing as SVG text: shapes, words, and the colours of all pictures.

Colours are classes, so that a viewer in dark mode gets dark pictures. The palette is that of Okabe and Ito, which
people with any kind of colour vision tell apart, and every series has a marker and a dash of its own besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"

# Per series: light and dark background.
SERIES = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff9e4a"),
    ("#007d5c", "#3ddcb0"),
    ("#b0508a", "#e6a0cc"),
    ("#6b4fbb", "#b8a5f2"),
    ("#8a6d00", "#f0e442"),
)
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "1 2")
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "ring")

# class: (properties, light colour, dark colour)
_INKS = {
    "paper": ("fill", "#ffffff", "#14181d"),
    "text": ("fill", "#1c2127", "#e8ebef"),
    "quiet": ("fill", "#566069", "#a3adb8"),
    "grid": ("stroke", "#dde2e7", "#2f363e"),
    "axis": ("stroke", "#7b858f", "#7b858f"),
    "mark": ("stroke", "#1c2127", "#e8ebef"),
    "band": ("fill", "#c9ced4", "#3d454e"),
    "full": ("fill", "#0072b2", "#56b4e9"),
    "on-full": ("fill", "#ffffff", "#0b1015"),
    "shared": ("fill", "#e4e8ec", "#2c333b"),
    "on-shared": ("fill", "#566069", "#a3adb8"),
    "none": ("fill", "#f2f4f6", "#1e242b"),
    "ink-fixed": ("fill", "#10151a", "#10151a"),
    "on-full-fixed": ("fill", "#ffffff", "#ffffff"),
    "alarm": ("stroke", "#b3261e", "#ff8a80"),
    "alarm-text": ("fill", "#b3261e", "#ff8a80"),
}


def _rules(dark: bool) -> str:
    rules = [f".ic-{name}{{{ink}:{colours[dark]}}}" for name, (ink, *colours) in _INKS.items()]
    for number, pair in enumerate(SERIES):
        rules.append(f".ic-line{number}{{stroke:{pair[dark]}}}.ic-fill{number}{{fill:{pair[dark]}}}")
    return "".join(rules)


STYLE = f"{_rules(False)}@media (prefers-color-scheme:dark){{{_rules(True)}}}"


def number(value: float) -> str:
    """A coordinate, as short as it may be."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def text_width(text: str, size: float) -> float:
    """About what a text takes; a little more than in common fonts."""
    return size * sum(0.34 if letter in "iljtfI.,:;|'() " else 0.62 for letter in text)


class Drawing:
    """Shapes on a page of width x height pixels; `alt` is what a screen reader says."""

    def __init__(self, width: float, height: float, alt: str) -> None:
        self.width = width
        self.height = height
        self.alt = alt
        self._parts: list[str] = []

    def _add(self, tag: str, css: str, title: str, attributes: Mapping[str, object]) -> None:
        words = [f' class="{" ".join("ic-" + name for name in css.split())}"'] if css else []
        for name, value in attributes.items():
            if value is not None and value != "":
                text = number(value) if isinstance(value, float) else str(value)
                words.append(f' {name.rstrip("_").replace("_", "-")}="{escape(text)}"')
        inner = f"<title>{escape(title)}</title></{tag}>" if title else ""
        self._parts.append(f"<{tag}{''.join(words)}{'>' + inner if inner else '/>'}")

    def rect(
        self, x: float, y: float, width: float, height: float, css: str = "", *, title: str = "", **attributes: object
    ) -> None:
        place = {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}
        self._add("rect", css, title, {**place, **attributes})

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str, **attributes: object) -> None:
        place = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
        self._add("line", css, "", {**place, **attributes})

    def polyline(self, points: Sequence[tuple[float, float]], css: str, **attributes: object) -> None:
        self._add("polyline", css, "", {"points": _points(points), "fill": "none", **attributes})

    def polygon(
        self, points: Sequence[tuple[float, float]], css: str, *, title: str = "", **attributes: object
    ) -> None:
        self._add("polygon", css, title, {"points": _points(points), **attributes})

    def marker(self, kind: str, x: float, y: float, series: int, *, size: float = 4.0, title: str = "") -> None:
        """The mark of a series at a point."""
        fill = f"fill{series}"
        if kind == "square":
            self.rect(x - size, y - size, 2 * size, 2 * size, fill, title=title)
        elif kind == "triangle":
            r = size * 1.25
            self.polygon([(x, y - r), (x + r, y + r * 0.8), (x - r, y + r * 0.8)], fill, title=title)
        elif kind == "diamond":
            r = size * 1.35
            self.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill, title=title)
        elif kind == "cross":
            shape = f"M{number(x - size)} {number(y - size)}l{number(2 * size)} {number(2 * size)}"
            shape += f"m0 {number(-2 * size)}l{number(-2 * size)} {number(2 * size)}"
            self._add("path", f"line{series}", title, {"d": shape, "stroke_width": 2.2, "fill": "none"})
        elif kind == "ring":
            place = {"cx": float(x), "cy": float(y), "r": float(size), "stroke_width": 2.0}
            self._add("circle", f"paper line{series}", title, place)
        else:
            self._add("circle", fill, title, {"cx": float(x), "cy": float(y), "r": float(size)})

    def text(
        self,
        x: float,
        y: float,
        words: str,
        css: str = "text",
        *,
        size: float = 13,
        anchor: str = "start",
        mono: bool = False,
        bold: bool = False,
        turned: bool = False,
    ) -> None:
        """Words whose baseline is at y; turned = read from below."""
        parts = [f'<text class="ic-{css}" x="{number(x)}" y="{number(y)}" font-size="{number(size)}"']
        parts.append(f' font-family="{escape(MONO if mono else FONT)}"')
        if anchor != "start":
            parts.append(f' text-anchor="{anchor}"')
        if bold:
            parts.append(' font-weight="600"')
        if turned:
            parts.append(f' transform="rotate(-90 {number(x)} {number(y)})"')
        self._parts.append(f"{''.join(parts)}>{escape(words)}</text>")

    def svg(self, *, standalone: bool = True) -> str:
        """The text of a file; or what goes into an HTML page, which then has STYLE itself."""
        width, height = number(self.width), number(self.height)
        size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        if standalone:
            size = f'xmlns="http://www.w3.org/2000/svg" {size}'
        head = f'<svg {size} role="img" aria-label="{escape(self.alt)}">'
        style = f"<style>{STYLE}</style>" if standalone else ""
        paper = f'<rect class="ic-paper" width="{width}" height="{height}"/>'
        return "\n".join([head + style, paper, *self._parts, "</svg>", ""])


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)
