"""Measure models side by side, or one of the named suites against the targets that it states.

    python tools/benchmark.py --config-file A.yaml B.yaml --size 512 --given-boxes 100 --output output/benchmark
    python tools/benchmark.py --config-file A.yaml B.yaml --dataset dsb2018_val --training --output output/benchmark
    python tools/benchmark.py --suite roi-engine --runs output/dsb2018 --output output/benchmark

The suite exits with 1 if a target is missed.
"""

import argparse
import sys
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # The opponents of the suite are plain programs of the tests.

from benchmarks import model_rows, roi_engine  # noqa: E402
from benchmarks.rows import Settings  # noqa: E402
from objguided_d2.profiling import benchmark as contest  # noqa: E402
from objguided_d2.profiling.models import PRECISIONS, random_boxes  # noqa: E402
from objguided_d2.profiling.table import write_tables  # noqa: E402
from objguided_d2.utils.evenly_spaced import evenly_spaced  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config-file", type=Path, nargs="+", help="models to measure")
    what.add_argument("--suite", choices=["roi-engine"])
    parser.add_argument("--output", type=Path, required=True, help="folder for benchmark.md and benchmark.json")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU (default: all cores)")
    models = parser.add_argument_group("with --config-file")
    models.add_argument("--weights", nargs="+", help="a file for each config; random without")
    models.add_argument("--precision", nargs="+", choices=list(PRECISIONS), default=["float32"])
    models.add_argument("--size", type=int, default=512, help="side of a random image (default: %(default)s)")
    models.add_argument(
        "--given-boxes", type=int, help="boxes of 30 px that all mask stages get in place of detections"
    )
    models.add_argument("--training", action="store_true", help="training steps in place of inference; needs --dataset")
    both = parser.add_argument_group("real images")
    both.add_argument("--dataset", help="registered name (suite: dsb2018_val)")
    both.add_argument("--num-images", type=int, default=12, help="evenly taken from it (default: %(default)s)")
    suite = parser.add_argument_group("with --suite")
    suite.add_argument("--runs", type=Path, default=Path("output/dsb2018"), help="run folders (default: %(default)s)")
    suite.add_argument("--rows", nargs="+", choices=list(roi_engine.ROWS), default=list(roi_engine.ROWS))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    sys.exit(run_suite(args) if args.suite else measure_models(parser, args))


def measure_models(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    weights = args.weights or [""] * len(args.config_file)
    if len(weights) != len(args.config_file):
        parser.error("--weights takes one file for each --config-file")
    if args.training and not args.dataset:
        parser.error("--training needs --dataset, whose masks the models train on")
    if args.given_boxes and (args.dataset or args.training):
        parser.error("--given-boxes goes with a random image of --size, not with --dataset or --training")
    entries = [
        contest.Entry(path, file, precision)
        for path, file in zip(args.config_file, weights)
        for precision in args.precision
    ]
    if args.training:
        results = contest.hold_training_contest(entries, _records(args), 2, args.rounds)
        number, unit = 2, "training steps a second"
    else:
        given = [random_boxes(args.given_boxes, 30, args.size)] if args.given_boxes else None
        images = contest.RealImages(tuple(_records(args))) if args.dataset else contest.RandomImage(args.size)
        results = contest.hold_contest(entries, images, given=given, rounds=args.rounds)
        number, unit = (len(images.records) if args.dataset else 1), "images a second"
    rows = [
        [
            result.name,
            f"{number / result.seconds.median:.2f} ({number / result.seconds.quartiles[1]:.2f} - "
            f"{number / result.seconds.quartiles[0]:.2f})",
            f"{result.seconds.times_faster_than(results[0].seconds)[0]:.2f} x",
            f"{result.parameters:.2f}",
            f"{result.gflops:.1f}",
            f"{result.peak_megabytes:.0f}",
            ", ".join(f"{room} {1000 * seconds / number:.0f}" for room, seconds in result.rooms.items()) or "-",
        ]
        for result in results
    ]
    headers = ("model", unit, "speed of the first", "M parameters", "GFLOP", "peak MiB", "ms an image, by part")
    numbers = [vars(result) | {"seconds": result.seconds.seconds} for result in results]
    print(write_tables(args.output, "Models", headers, rows, f"Medians of {args.rounds} turns, quartiles.", numbers))
    return 0


def run_suite(args: argparse.Namespace) -> int:
    from benchmarks.baselines import LoopOpponents

    settings = Settings(
        LoopOpponents(), args.rounds, ROOT / "configs", args.runs, args.dataset or "dsb2018_val", args.num_images
    )
    if "small-models" in args.rows:
        try:
            model_rows.check_weights(settings)
        except FileNotFoundError as error:
            sys.exit(f"error: {error}")
    rows = []
    for name in args.rows:
        for row in roi_engine.ROWS[name](settings):
            rows.append(row)
            print(f"{'met   ' if row.met else 'MISSED'} {row.what}: {row.measured} (target {row.target})", flush=True)
    table = [(row.what, row.target, row.measured, "yes" if row.met else "no") for row in rows]
    notes = f"Ratios of medians taken in turns, quartiles over {args.rounds} turns; times are those of this package."
    write_tables(
        args.output,
        "Variable-size ROI engine",
        ("what", "target", "measured", "met"),
        table,
        notes,
        [vars(row) for row in rows],
    )
    missed = sum(not row.met for row in rows)
    print(f"{len(rows) - missed} of {len(rows)} targets met; {args.output / 'benchmark.md'}")
    return int(missed > 0)


def _records(args: argparse.Namespace) -> list[dict]:
    records = [record for record in DatasetCatalog.get(args.dataset) if record["annotations"]]
    return evenly_spaced(records, args.num_images)


if __name__ == "__main__":
    main()
