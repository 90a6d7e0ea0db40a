# SPDX-License-Identifier: Apache-2.0
"""Options that name a schedule, and making it."""

from __future__ import annotations

import argparse

import indexcache as ic

from .checked import InputError, check_pattern, read_text
from .engine_options import count, layer_list, real
from .plan import FORMAT as PLAN_FORMAT
from .plan import Plan, Step
from .plan_files import load_plan_or_journal


def add_schedule_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="config.json", help="of a Hugging Face model")
    group = parser.add_argument_group("schedule", "without any of these it is the one that config.json asks for")
    group.add_argument("--pattern", help="F and S, one letter per layer that has sparse attention")
    group.add_argument("--freq", type=count, metavar="N", help="one Full layer in N, counted from --offset")
    group.add_argument(
        "--offset", type=count, metavar="N", help="layer l is Full when max(l - offset + 1, 0) %% freq == 0; default: 2"
    )
    group.add_argument("--plan", metavar="FILE", help="take the pattern from what a search found (a plan or a journal)")
    add_choice_options(group)
    group.add_argument("--num-layers", type=count, default=0, metavar="N", help="of the stack, where no config says it")
    group.add_argument(
        "--num-mtp-layers", type=count, default=0, metavar="N", help="prediction layers behind the stack"
    )
    group.add_argument(
        "--indexer-layers", type=layer_list, metavar="LAYERS", help="those that have indexer weights, such as 0,1,2-40"
    )
    group.add_argument(
        "--precedence",
        action="store_true",
        help="where fields of the config disagree let indexer_types win over the pattern, and that over freq",
    )


def add_choice_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--num-full", type=count, metavar="N", help="of a plan: its pattern with N Full layers")
    group.add_argument(
        "--max-increase",
        type=real,
        metavar="X",
        help="of a plan: its pattern with the fewest Full layers whose loss is at most X above the baseline (default: "
        "the budget of the search, if it had one)",
    )


def choose(plan: Plan, options: argparse.Namespace) -> Step:
    """The step of a plan that the options ask for."""
    if options.num_full is not None:
        if options.max_increase is not None:
            raise InputError("--num-full and --max-increase are both given; one of them chooses a pattern")
        return plan.at(options.num_full)
    increase = plan.loss_budget if options.max_increase is None else options.max_increase
    if increase is None:
        have = ", ".join(str(n) for n in sorted({step.num_full for step in plan.steps}))
        raise InputError(f"which pattern of the plan? Give --num-full N, one of {have}, or --max-increase X")
    if plan.baseline_loss is None:
        raise InputError("the plan has no baseline loss to measure an increase from; give --num-full N")
    found = plan.within(plan.baseline_loss + increase)
    if found is None:
        raise InputError(
            f"no pattern of the plan has a loss within {increase:+g} of the baseline's {plan.baseline_loss:.5f}"
        )
    return found


def schedule_of(options: argparse.Namespace, *, precedence: bool) -> ic.Schedule:
    pattern = options.pattern
    if options.plan is not None:
        if pattern is not None or options.freq is not None:
            raise InputError("--plan is given with --pattern or --freq; one of them says what the schedule is")
        pattern = choose(load_plan_or_journal(options.plan), options).pattern
    elif options.num_full is not None or options.max_increase is not None:
        raise InputError("--num-full and --max-increase choose a pattern of a --plan, which is not given")
    if pattern is not None:
        check_pattern(pattern, "--pattern")
    if options.offset is not None and options.freq is None:
        raise InputError("--offset is given without --freq, which it belongs to")
    config = read_text(options.config) if options.config is not None else None
    if config is not None and PLAN_FORMAT in config:
        raise InputError(f"{options.config} is a plan, no config of a model; give it as --plan {options.config}")
    num_layers = options.num_layers
    if config is None and not num_layers:
        if pattern is None:
            raise InputError(
                "give a config.json, or --pattern, --plan or --num-layers: nothing says what the model looks like"
            )
        num_layers = len(pattern)
    return ic.Schedule(
        num_layers,
        pattern=pattern,
        freq=options.freq or 0,
        offset=options.offset or 0,
        indexer_layers=options.indexer_layers,
        num_mtp_layers=options.num_mtp_layers,
        config=config,
        precedence=precedence,
    )
