# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that need an engine, and starting it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator

from .checked import InputError
from .engine import ChildEngine, Engine, StdioEngine, plugin
from .progress import Progress


def add_engine_options(parser: argparse.ArgumentParser, *, workers: bool) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine",
        metavar="CMD",
        help="program to start; it reads requests from its standard input and answers on its standard output. Without "
        "--engine and --plugin the engine is whatever is connected to this program's own standard input and output",
    )
    group.add_argument(
        "--plugin", metavar="NAME[:TEXT]", help='engine of an installed package (entry points "indexcache.engines")'
    )
    if workers:
        group.add_argument(
            "--workers", type=count, default=1, metavar="N", help="engines to start; they evaluate at the same time"
        )
    group.add_argument(
        "--num-layers",
        type=count,
        default=0,
        metavar="N",
        help='layers that have an indexer; needed when the engine does not send "ready"',
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        metavar="S",
        help="longest wait for one answer, and for the start, in seconds (default: no limit)",
    )


@contextlib.contextmanager
def engines_of(options: argparse.Namespace, progress: Progress) -> Iterator[list[Engine]]:
    """The engines that the options ask for; closed at the end."""
    workers = getattr(options, "workers", 1)
    if options.engine is not None and options.plugin is not None:
        raise InputError("--engine and --plugin are both given; one engine is enough")
    if options.engine is None and workers > 1 and options.plugin is None:
        raise InputError(
            f"--workers is {workers}, but without --engine there is one engine, behind standard input and output"
        )
    engines: list[Engine] = []
    try:
        for number in range(workers):
            if options.plugin is not None:
                engines.append(plugin(options.plugin))
            elif options.engine is not None:
                engines.append(
                    ChildEngine(
                        options.engine,
                        number=number if workers > 1 else None,
                        num_layers=options.num_layers,
                        timeout=options.timeout,
                        note=progress.note,
                        stderr=progress.note,
                    )
                )
            else:
                if sys.stdin.isatty():
                    progress.note(
                        "speaking with an engine over standard input and output; --engine CMD starts one (--help)"
                    )
                engines.append(StdioEngine(num_layers=options.num_layers, timeout=options.timeout, note=progress.note))
        yield engines
    finally:
        for engine in engines:
            engine.close()


def speaks_over_stdout(options: argparse.Namespace) -> bool:
    return options.engine is None and options.plugin is None


def count(text: str) -> int:
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def seconds(text: str) -> float:
    value = real(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def layer_list(text: str) -> tuple[int, ...]:
    """Layers and ranges: "0,3,8-11"."""
    layers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise argparse.ArgumentTypeError(f"{part!r} is no layer; write layers and ranges, such as 0,3,8-11")
        layers.extend(range(int(first), int(last if dash else first) + 1))
    return tuple(dict.fromkeys(layers))
