"""Compare sampling strategies of the refinement (Table II) over one config and several seeds."""

import argparse
import subprocess
import sys
from pathlib import Path

from objguided_d2.engine.ablation import RESULTS_FILE, STRATEGIES, Strategy, read_ablation, run_ablation
from objguided_d2.report.plots import plot_ablation, write_svg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", type=Path, default="configs/dsb2018/objguided_small_R_18.yaml")
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
    args = parser.parse_args()
    try:
        print(run_ablation(args.config_file, args.output, args.strategies, args.seeds, args.opts))
        write_svg(args.output / "ablation.svg", plot_ablation(read_ablation(args.output / RESULTS_FILE)))
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"error: a run failed: {' '.join(error.cmd)}\nMend the cause and run this again; what has ended is kept"
        )


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers, as 1,2,3") from None


def _strategies(text: str) -> list[Strategy]:
    try:
        return [Strategy.parse(strategy) for strategy in text.split()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    main()
