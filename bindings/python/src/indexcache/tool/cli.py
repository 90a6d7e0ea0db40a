# SPDX-License-Identifier: Apache-2.0
"""The program `indexcache`: which command, and how it ends."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import indexcache as ic

from . import command_overlap, command_protocol, command_schedule, command_search, command_show
from .checked import InputError
from .protocol import EngineError

WRONG_INPUT, ENGINE_FAILED, INTERRUPTED = 2, 3, 130

EPILOG = """\
examples:
  indexcache schedule explain config.json            who computes, who reads, what disagrees
  indexcache search --engine CMD --plan plan.json    which layers can share, measured
  indexcache show plan.json --html report.html       the result as tables and pictures
  indexcache schedule export --to vllm config.json --plan plan.json --num-full 8

indexcache COMMAND --help tells more. How to write an engine: indexcache protocol (docs/search-protocol.md).
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="indexcache",
        description="Index sharing for DeepSeek Sparse Attention: which layers can share their indices, at which cost.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"indexcache {'.'.join(map(str, ic.version()))}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for command in (command_search, command_show, command_schedule, command_overlap, command_protocol):
        command.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "run"):
        parser.print_help()
        return WRONG_INPUT
    signal.signal(signal.SIGTERM, _interrupt)  # so that engines are ended and files closed
    try:
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except (InputError, ic.ArgumentError, ic.UnsupportedError, ic.StateError) as error:
        message = error.message if isinstance(error, ic.Error) else str(error)
        # "desc" is the C interface's word for the arguments.
        return _fail(message.removeprefix("desc: ").removeprefix("desc->"), WRONG_INPUT)
    except EngineError as error:
        return _fail(str(error), ENGINE_FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # of `indexcache show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str, status: int) -> int:
    print(f"indexcache: {message}", file=sys.stderr)
    return status
