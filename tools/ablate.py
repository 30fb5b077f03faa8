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
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: %(default)s")
    parser.add_argument(
        "--strategies",
        type=Strategy.parse,
        nargs="+",
        default=STRATEGIES,
        help="K,BETA or none (default: a table of nine)",
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


if __name__ == "__main__":
    main()
