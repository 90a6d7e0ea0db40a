# SPDX-License-Identifier: Apache-2.0
"""indexcache search"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import quality
from .checked import InputError, Reader, check_pattern, read_text
from .engine_options import (
    add_engine_options,
    count,
    engines_of,
    layer_list,
    real,
    speaks_over_stdout,
    whole,
)
from .overlap import Matrix
from .plan import STRATEGY_NAMES, save_plan
from .progress import Progress
from .protocol import EngineError, check_similarity
from .report import trajectory_row
from .search import DEFAULT_SAMPLES, Settings, search
from .table import table

DESCRIPTION = """\
Finds out which layers can share their indices: asks an engine for the loss under one F/S pattern after the other and
accepts, step by step, the layer that costs least when it is Shared.

An engine is any program that answers lines of JSON; of a model with N layers a whole greedy search asks N(N-1)/2 times:

  asked     {"type":"evaluate","id":3,"pattern":"FFSF","first_layer":2,"accepted":"FFFF"}
  answers   {"type":"loss","id":3,"loss":0.7431}

The rest of the protocol: indexcache protocol (docs/search-protocol.md of the repository).
"""

EXAMPLES = """\
examples:
  indexcache search --engine './engine --model m' --journal s.jsonl --plan plan.json
        the whole trajectory. Killed? The same command goes on where it was
  indexcache search --engine ./engine --workers 4 --num-full 8 --loss-budget 0.02 --plan plan.json
        four engines at once; stops at 8 Full layers, or where sharing costs more than 0.02
  indexcache search --engine ./engine --strategy uniform --plan uniform.json
        a baseline to compare with: indexcache show plan.json uniform.json --html report.html
  mkfifo q a; ./engine <q >a & indexcache search --num-layers 16 --plan plan.json >q <a
        somebody else starts the engine; both open q first, or they would wait for each other

exit status: 0 found, 1 the engine rejected all that could be tried, 2 wrong arguments, 3 the engine failed (the journal
is kept), 130 interrupted.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "search",
        help="find out which layers can share, with any engine",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_engine_options(parser, workers=True)
    asked = parser.add_argument_group("search")
    asked.add_argument(
        "--strategy",
        choices=STRATEGY_NAMES,
        default="greedy",
        help="greedy (default); greedy_blocks: fewer evaluations, for pipelines; to compare with: uniform, "
        "similarity_dp, random",
    )
    asked.add_argument("--num-full", type=count, metavar="N", help="fewest Full layers to reach (default: 1)")
    asked.add_argument(
        "--max-full",
        type=count,
        metavar="N",
        help="not greedy: most Full layers to look at (default: --num-full; without both all numbers)",
    )
    asked.add_argument(
        "--start", metavar="PATTERN", help="pattern to start from (default: all Full); its Shared layers stay"
    )
    asked.add_argument("--keep-full", type=layer_list, default=(), metavar="LAYERS", help="stay Full, such as 0,3,8-11")
    asked.add_argument(
        "--num-blocks", type=count, default=0, metavar="P", help="greedy_blocks: blocks, one per pipeline stage"
    )
    asked.add_argument(
        "--loss-budget",
        type=real,
        metavar="X",
        help="how much the loss may be above the baseline's: greedy strategies stop before it, and name what is above",
    )
    asked.add_argument(
        "--similarity",
        metavar="FILE",
        help='similarity_dp: JSON {"matrix": [[...]]}, entry [l][j] for layer l reading layer j (default: the engine '
        "is asked)",
    )
    asked.add_argument(
        "--num-samples",
        type=count,
        metavar="N",
        help=f"random: patterns per number of Full layers (default: {DEFAULT_SAMPLES})",
    )
    asked.add_argument("--seed", type=whole, default=0, metavar="N", help="random: which patterns")
    output = parser.add_argument_group("output")
    output.add_argument("--journal", metavar="FILE", help="keep every answer there; resume from it when it exists")
    output.add_argument("--plan", metavar="FILE", help="write what was found, for indexcache show and schedule export")
    output.add_argument("--name", default="", help="of the plan, in tables and legends (default: the strategy)")
    output.add_argument("--json", action="store_true", help="print the plan as JSON instead of a table")
    output.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(options: argparse.Namespace) -> int:
    if options.json and speaks_over_stdout(options):
        raise InputError("--json needs standard output, which the engine is behind; use --plan FILE or --engine CMD")
    if options.start is not None:
        check_pattern(options.start, "--start", options.num_layers)
    if options.plan and not Path(options.plan).resolve().parent.is_dir():
        raise InputError(f"--plan {options.plan}: there is no such folder")
    if options.plan and options.journal and Path(options.plan).resolve() == Path(options.journal).resolve():
        raise InputError(f"--plan and --journal are both {options.plan}; they are two files")
    settings = Settings(
        strategy=options.strategy,
        num_full=options.num_full,
        max_full=options.max_full,
        start=options.start,
        keep_full=options.keep_full,
        num_blocks=options.num_blocks,
        loss_budget=options.loss_budget,
        similarity=load_similarity(options.similarity) if options.similarity else None,
        num_samples=options.num_samples,
        seed=options.seed,
    )
    progress = Progress(quiet=options.quiet)
    try:
        with engines_of(options, progress) as engines:
            plan = search(engines, settings, journal=options.journal, progress=progress, name=options.name)
    except (EngineError, KeyboardInterrupt):
        progress.finish()
        if options.journal:
            progress.note(f"the answers so far are in {options.journal}; the same command goes on from there")
        else:
            progress.note("the answers so far are lost; --journal FILE keeps them")
        raise
    progress.finish()
    if options.plan:
        save_plan(options.plan, plan)
    out = sys.stderr if speaks_over_stdout(options) else sys.stdout
    if options.json:
        print(json.dumps(plan.to_dict()), file=out)
    else:
        print(table([trajectory_row(step, plan.baseline_loss) for step in plan.steps]), end="", file=out)
    for warning in quality.warnings(plan):
        progress.note(warning)
    if options.plan:
        progress.note(
            f"wrote {options.plan}; indexcache show draws it, indexcache schedule export makes a configuration of it"
        )
    return 1 if plan.state == "exhausted" and len(plan.steps) < 2 else 0


def load_similarity(path: str) -> Matrix:
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    matrix = Reader.of(data, path).matrix("matrix", len(data.get("matrix") or ()))
    if not matrix:
        raise InputError(f"{path}: matrix is missing; it must be an array of rows, one per layer")
    return check_similarity(matrix, path)
