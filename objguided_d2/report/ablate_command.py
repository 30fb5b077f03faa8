"""The command ``ablate``: sampling strategies of the refinement over one config and several seeds (Table II)."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config_files import UnknownConfigError, get_config_file
from ..engine.strategies import STRATEGIES, Strategy


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Train and evaluate every strategy and seed that is not there yet, into a table, a JSON file and bars.

    Args:
        argv: the arguments after the command's name; None is those of this process.
        prog: name of the command in its help.

    Returns:
        The exit status: 1 for a config that cannot work, or if a run failed. Wrong arguments raise SystemExit(2).
    """
    args = _parser(prog).parse_args(argv)
    from ..engine.ablation import RESULTS_FILE, AblationError, read_ablation, run_ablation
    from ..engine.errors import ConfigError
    from .plots import plot_ablation, write_svg

    try:
        config = Path(get_config_file(args.config_file))
        print(run_ablation(config, args.output, args.strategies, args.seeds, args.opts))
        write_svg(args.output / "ablation.svg", plot_ablation(read_ablation(args.output / RESULTS_FILE)))
    except subprocess.CalledProcessError as error:
        print(f"error: a run failed: {' '.join(error.cmd)}", file=sys.stderr)
        print("Fix the cause and run this again; what has ended is kept", file=sys.stderr)
        return 1
    except (UnknownConfigError, ConfigError, AblationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Compare sampling strategies of the refinement (Table II) over one config and several seeds.",
    )
    parser.add_argument("--config-file", default="dsb2018/objguided_small_R_18", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default="output/ablation", help="default: %(default)s")
    # One value each: what takes several would swallow the KEY VALUE pairs behind it.
    parser.add_argument("--seeds", type=_seeds, default=(1, 2, 3), help="default: 1,2,3")
    parser.add_argument(
        "--strategies",
        type=_strategies,
        default=STRATEGIES,
        help=f'names of Table II as "none moderately_biased" (default: {" ".join(s.slug for s in STRATEGIES)})',
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for all runs, e.g. SOLVER.MAX_MINUTES 10.0"
    )
    return parser


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers, as 1,2,3") from None
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r} names a seed twice")
    return seeds


def _strategies(text: str) -> list[Strategy]:
    try:
        strategies = [Strategy.parse(strategy) for strategy in text.split()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not strategies or len(set(strategies)) < len(strategies):
        raise argparse.ArgumentTypeError(f"{text!r} names {'a strategy twice' if strategies else 'no strategy'}")
    return strategies
