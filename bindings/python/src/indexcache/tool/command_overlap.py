# SPDX-License-Identifier: Apache-2.0
"""indexcache overlap"""

from __future__ import annotations

import argparse
import json
import sys

from .blocks import MAGIC, overlap_of_blocks
from .checked import InputError, check_pattern
from .engine_options import add_engine_options, engines_of, speaks_over_stdout
from .overlap import Overlap
from .picture_options import add_picture_options, write_pictures
from .plan_files import load_result
from .progress import Progress
from .protocol import EngineError
from .report import OVERLAP_CAUTION, Report
from .table import table

WIDEST_MATRIX = 24  # layers that a terminal has room for

DESCRIPTION = """\
How much do the layers of a model select the same keys? Entry [i][j] is about layer i reading the indices of layer j:
  recall   share of layer i's own keys that are among layer j's
  jaccard  keys common to both, of all keys of both
  mass     share of layer i's attention weight that lies on layer j's keys (engines only)

Either an engine measures it (see indexcache protocol), or exported index blocks of one forward, a file per layer
(ic_cache_export), are compared by the library.

Overlap shows where sharing has a chance; it does not show what sharing costs. That is what indexcache search is for.
"""

EXAMPLES = """\
examples:
  indexcache overlap --engine ./engine --html overlap.html
  indexcache overlap --engine ./engine --json > overlap.json
  indexcache overlap layer-*.icix --svg pictures
        blocks that an engine has exported
  indexcache overlap overlap.json --groups FFSSFSSS --png pictures
        what was measured before, with the groups of a pattern drawn in

exit status: 0 fine, 2 wrong arguments, 3 the engine failed, 130 interrupted.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "overlap",
        help="measure how much layers select the same keys",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="exported blocks, one per layer; or what --json has printed"
    )
    add_engine_options(parser, workers=False)
    parser.add_argument("--pattern", metavar="PATTERN", help="the model runs under this one (default: all Full)")
    parser.add_argument(
        "--groups", default="", metavar="PATTERN", help="draw the groups of this pattern (default: of --pattern)"
    )
    parser.add_argument("--json", action="store_true", help="print the matrices as JSON")
    add_picture_options(parser)


def run(options: argparse.Namespace) -> int:
    progress = Progress()
    by_engine = not options.files
    if options.files and (options.engine or options.plugin):
        raise InputError("files and an engine are both given; the overlap comes from one of them")
    to_engine = by_engine and speaks_over_stdout(options)
    if to_engine and options.json:
        raise InputError("--json needs standard output, which the engine is behind; use --engine CMD, or --html FILE")
    if to_engine and sys.stdin.isatty() and not options.num_layers:
        raise InputError("nothing to measure: give files of index blocks, or --engine CMD")
    overlap = _measure(options, progress) if by_engine else _read(options.files, progress)
    groups = options.groups or (overlap.pattern if "S" in overlap.pattern else "")
    if options.groups:
        check_pattern(options.groups, "--groups")
    out = sys.stderr if to_engine else sys.stdout
    if options.json:
        print(json.dumps(overlap.to_dict()))
    else:
        print(to_text(overlap, groups), end="", file=out)
    report = Report(title="Which layers select the same keys", overlap=overlap, groups_of=groups)
    write_pictures(options, report, progress.note)
    return 0


def _measure(options: argparse.Namespace, progress: Progress) -> Overlap:
    with engines_of(options, progress) as (engine,):
        if options.pattern:
            check_pattern(options.pattern, "--pattern", engine.num_layers)
        try:
            return engine.overlap(options.pattern or "F" * engine.num_layers)
        except EngineError:
            progress.finish()
            raise


def _read(paths: list[str], progress: Progress) -> Overlap:
    kinds = [_is_block(path) for path in paths]
    if all(kinds):
        if len(paths) < 2:
            raise InputError(f"{paths[0]} is a single block; comparing needs those of two layers or more")
        return overlap_of_blocks(paths, progress.note)
    if len(paths) > 1:
        odd = paths[kinds.index(False)]
        raise InputError(
            f'{odd}: is no exported block (it does not begin with "ICIX"); give blocks only, or one JSON file'
        )
    found = load_result(paths[0])
    if isinstance(found, Report) and found.overlap:
        return found.overlap
    if not isinstance(found, Overlap):
        raise InputError(f"{paths[0]}: has no overlap")
    return found


def _is_block(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def to_text(overlap: Overlap, groups: str) -> str:
    """Each layer with the one before it, and with the one that it reads under `groups`; small matrices as a whole."""
    place = {layer: index for index, layer in enumerate(overlap.layers)}
    rows = []
    for index, layer in enumerate(overlap.layers):
        row: dict[str, object] = {"layer": layer}
        before = overlap.layers[index - 1] if index else None
        for name, matrix in overlap.matrices().items():
            row[f"{name}, layer before"] = None if before is None else matrix[index][index - 1]
        if groups:
            source = max((s for s in range(min(layer, len(groups) - 1) + 1) if groups[s] == "F"), default=None)
            row["reads"] = "itself" if source == layer else source
            for name, matrix in overlap.matrices().items():
                row[name] = matrix[index][place[source]] if source in place and source is not None else None
        rows.append(row)
    text = table(rows)
    if len(overlap.layers) <= WIDEST_MATRIX:
        for name, matrix in overlap.matrices().items():
            text += f"\n{name}: rows are the layers that read\n"
            text += table(
                [
                    {"": layer, **{str(j): "-" if x is None else f"{x:.2f}" for j, x in zip(overlap.layers, row)}}
                    for layer, row in zip(overlap.layers, matrix)
                ]
            )
    return text + f"\n{OVERLAP_CAUTION}\n"
