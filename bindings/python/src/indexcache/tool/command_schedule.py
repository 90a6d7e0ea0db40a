# SPDX-License-Identifier: Apache-2.0
"""indexcache schedule explain, indexcache schedule export"""

from __future__ import annotations

import argparse
import json
import sys

import indexcache as ic

from .checked import InputError
from .schedule_options import add_schedule_options, schedule_of

ENGINES = {"vllm": "vllm", "sglang": "sglang", "trtllm": "tensorrt_llm", "transformers": "transformers"}

EXPLAIN_EXAMPLES = """\
examples:
  indexcache schedule explain config.json
        what this model was trained with
  indexcache schedule explain config.json --freq 4 --offset 3
        what one Full layer in four would mean for it
  indexcache schedule explain --pattern FSFS --json

exit status: 0 fine, 1 fields of the config disagree (the explanation names all of them), 2 wrong arguments.
"""

EXPORT_EXAMPLES = """\
examples:
  indexcache schedule export --to vllm config.json --plan plan.json --num-full 8
        a search's pattern with 8 Full layers, as JSON for --hf-overrides
  vllm serve MODEL --hf-overrides "$(indexcache schedule export --to vllm config.json --pattern FSFS...)"
  python -m sglang.launch_server --model MODEL \\
      --json-model-override-args "$(indexcache schedule export --to sglang config.json --pattern FSFS...)"
  indexcache schedule export --to transformers config.json --plan plan.json --max-increase 0.02
        fields to merge into config.json

exit status: 0 written, 1 the engine cannot express this schedule, 2 wrong arguments.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    schedule = commands.add_parser(
        "schedule",
        help="explain a schedule, or write it for an engine",
        description="Which layers run their indexer (Full) and which read the indices of another (Shared).",
    )
    schedule.set_defaults(run=lambda _: schedule.error("what about the schedule? explain or export"))
    actions = schedule.add_subparsers(metavar="ACTION")
    explain = actions.add_parser(
        "explain",
        help="who computes, who reads, and what disagrees",
        description="Prints every layer with its mode and source and where each came from, every disagreement between "
        "fields, and warnings.",
        epilog=EXPLAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_schedule_options(explain)
    explain.add_argument("--json", action="store_true", help="print the layers as JSON")
    explain.set_defaults(run=run_explain)
    export = actions.add_parser(
        "export",
        help="write a schedule for an engine",
        description="Prints what an engine takes to run this schedule, as JSON.",
        epilog=EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("--to", required=True, choices=ENGINES, help="the engine")
    add_schedule_options(export)
    export.set_defaults(run=run_export)


def run_explain(options: argparse.Namespace) -> int:
    conflict = None
    try:
        schedule = schedule_of(options, precedence=options.precedence)
    except ic.ScheduleError as error:
        conflict = error
        try:
            schedule = schedule_of(options, precedence=True)
        except ic.Error:
            raise error from None
    if options.json:
        print(json.dumps(to_dict(schedule) | {"conflict": conflict.message if conflict else None}))
    else:
        print(schedule.explain().rstrip("\n"))
    if conflict:
        print(
            f"indexcache: the fields disagree: {conflict.message}. --precedence accepts what is shown above",
            file=sys.stderr,
        )
        return 1
    return 0


def to_dict(schedule: ic.Schedule) -> dict[str, object]:
    """A schedule for programs."""
    info = schedule.info
    layers = [schedule.layer(layer) for layer in range(info.num_layers + info.num_mtp_layers)]
    return {
        "pattern": schedule.pattern,
        "num_layers": info.num_layers,
        "num_mtp_layers": info.num_mtp_layers,
        "num_full": info.num_full,
        "num_shared": info.num_shared,
        "num_none": info.num_none,
        "hash": f"{info.hash:016x}",
        "layers": [
            {
                "layer": layer.layer,
                "mode": layer.mode.name.lower(),
                "source_layer": layer.source_layer if layer.source_layer >= 0 else None,
                "num_consumers": layer.num_consumers,
                "is_mtp": bool(layer.is_mtp),
            }
            for layer in layers
        ],
    }


def run_export(options: argparse.Namespace) -> int:
    schedule = schedule_of(options, precedence=options.precedence)
    try:
        print(schedule.export(ENGINES[options.to]).rstrip("\n"))
    except ic.UnsupportedError as error:
        print(f"indexcache: {options.to} cannot run this schedule: {error.message}", file=sys.stderr)
        return 1
    except ic.ScheduleError as error:
        raise InputError(error.message) from None
    return 0
