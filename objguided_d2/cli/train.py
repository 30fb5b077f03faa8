"""The command ``train``: one config, with Detectron2's flags, or a suite of configs under the same budget."""

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..engine.arguments import argument_parser
from ..engine.errors import EngineError

DESCRIPTION = "Train or evaluate any model that the configs describe: ours and the baselines."


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Train what the command line names; see :mod:`objguided_d2.cli` for the arguments and the exit status."""
    parser = _parser(prog)
    args = parser.parse_args(argv)
    if args.suite:
        return _train_suite(parser, args)
    if args.minutes or args.images or args.output:
        parser.error("--minutes, --images and --output go with --suite")
    return _train_config(args)


def _parser(prog: str | None) -> ArgumentParser:
    parser = argument_parser(prog, DESCRIPTION)
    suite = parser.add_argument_group("several configs one after another, then a page that compares them")
    suite.add_argument("--suite", metavar="CONFIG", help="file with a dataset and configs, as dsb2018/suite_small")
    budget = suite.add_mutually_exclusive_group()
    budget.add_argument("--images", type=int, help="to be seen by each config; or")
    budget.add_argument("--minutes", type=float, help="of training steps for each config")
    suite.add_argument("--output", type=Path, help="folder for the runs and the page")
    return parser


def _train_config(args: Namespace) -> int:
    from ..engine.distributed import launch
    from ..engine.runner import run
    from ..engine.setup import load_config

    try:
        launch(run, args, (load_config(args), args))
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _train_suite(parser: ArgumentParser, args: Namespace) -> int:
    if args.config_file or args.resume or args.eval_only:
        parser.error("--suite names the configs itself and resumes what was interrupted; give it alone")
    if (args.num_gpus, args.num_machines) != (1, 1):
        parser.error("--suite trains in one process; leave out --num-gpus and --num-machines")
    if args.output is None or (args.minutes is None and args.images is None):
        parser.error("--suite needs --output and a budget, --images or --minutes")
    from ..engine.suite import Suite, train_suite

    try:
        suite = Suite.read(args.suite)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        folders = train_suite(suite, args.output, minutes=args.minutes, images=args.images, options=args.opts)
    except subprocess.CalledProcessError as error:
        print(f"error: a run failed: {' '.join(error.cmd)}", file=sys.stderr)
        print("Fix the cause and run this again; what has ended is kept", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from ..report import compare_command

    comparison = ["--dataset", suite.dataset, "--output", str(args.output / "comparison")]
    return compare_command.main([*map(str, folders), *comparison])
