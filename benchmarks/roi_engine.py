"""The acceptance suite of the variable-size ROI engine: each row against its reference implementation, with a target.

    python -m benchmarks.roi_engine --runs output/dsb2018 --output output/benchmark

Run at the top of the repository. Exits with 1 if a target is missed.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks import mask_head_rows, model_rows, stage_rows
from benchmarks.rows import Row, Settings
from objguided_d2.profiling.benchmark import add_measurement_arguments
from objguided_d2.profiling.inputs import BenchmarkError, dataset_records
from objguided_d2.profiling.table import write_tables
from objguided_d2.utils.allocator import keep_freed_memory

CONFIGS = Path(__file__).parents[1] / "configs"
ROWS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "mask-head-inference": mask_head_rows.inference,
    "mask-head-training": mask_head_rows.training,
    "mask-head-small": mask_head_rows.small_widths,
    "operations": mask_head_rows.operations,
    "straight-line": mask_head_rows.linear_scaling,
    "center-head": stage_rows.center_head,
    "postprocessing": stage_rows.postprocessing,
    "small-models": model_rows.small_models,
    "large-models": model_rows.large_models,
    "plain-path": model_rows.plain_path,
    "training-step": model_rows.training_step,
    "layout": model_rows.layout,
    "precision": model_rows.precision,
}
# Those that need the dataset.
DATASET_ROWS = {"small-models", "training-step", "precision"}
HEADERS = ("what", "target", "measured", "met")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows, print each and write their table.

    Returns:
        The exit status: 1 if a target is missed, or if weights or the dataset that a row needs are not there.
    """
    args = _parser().parse_args(argv)
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    settings = Settings(args.rounds, CONFIGS, args.runs, args.dataset, args.num_images)
    try:
        _check_inputs(settings, args.rows)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = []
    for name in args.rows:
        for row in ROWS[name](settings):
            rows.append(row)
            print(f"{'met   ' if row.met else 'MISSED'} {row.what}: {row.measured} (target {row.target})", flush=True)
    table = [(row.what, row.target, row.measured, "yes" if row.met else "no") for row in rows]
    notes = (
        f"Medians and quartiles of the ratios over {args.rounds} interleaved rounds; times are those of this package."
    )
    write_tables(args.output, "Variable-size ROI engine", HEADERS, table, notes, [vars(row) for row in rows])
    num_missed = sum(not row.met for row in rows)
    print(f"{len(rows) - num_missed} of {len(rows)} targets met; {args.output / 'benchmark.md'}")
    return int(num_missed > 0)


def _check_inputs(settings: Settings, rows: Sequence[str]) -> None:
    if "small-models" in rows:
        model_rows.check_weights(settings)
    if DATASET_ROWS.intersection(rows):
        dataset_records(settings.dataset, settings.num_images)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.roi_engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_measurement_arguments(parser)
    parser.add_argument(
        "--runs", type=Path, default=Path("output/dsb2018"), help="folder of trained runs (default: %(default)s)"
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="default: all")
    parser.add_argument("--dataset", default="dsb2018_val", help="registered name (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=12, help="evenly taken from --dataset (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
