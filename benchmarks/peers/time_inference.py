"""Inference of the methods on the same images, in interleaved rounds.

    python -m benchmarks.peers.time_inference --images dsb2018/val --num-images 8 --threads 2 --rounds 5 \
        --method .venv/bin/python objguided nuclei \
        --method .venv-peers/bin/python stardist output/peers/stardist \
        --method .venv-peers/bin/python cellpose output/peers/cellpose

Each method runs in a process of its own, with the Python of its environment, and only one works at a time. A time goes
from an image in memory to its label image.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from objguided_d2.profiling.timing import Timing, interleaved_rounds
from objguided_d2.utils.evenly_spaced import evenly_spaced

from .methods import METHODS
from .worker import Worker

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".bmp")
HEADERS = ("method", "images/s", "quartiles", "objects")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status is 1 if a method does not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.time_inference", description="Time the methods.")
    parser.add_argument("--images", type=Path, required=True, help="folder")
    parser.add_argument("--num-images", type=int, default=8, help="evenly spaced (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of each method (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="after one of warm-up (default: %(default)s)")
    parser.add_argument(
        "--method", nargs=3, action="append", required=True, metavar=("PYTHON", "METHOD", "MODEL"), dest="methods"
    )
    args = parser.parse_args(argv)
    if unknown := [method for _, method, _ in args.methods if method not in METHODS]:
        parser.error(f"no method {unknown[0]}; choose of {', '.join(METHODS)}")
    files = evenly_spaced(sorted(f for f in args.images.iterdir() if f.suffix.lower() in SUFFIXES), args.num_images)
    if not files:
        parser.error(f"{args.images} has no images ({', '.join(SUFFIXES)})")
    workers: dict[str, Worker] = {}
    try:
        for python, method, model in args.methods:
            workers[f"{method} {model}"] = Worker(
                [python, "-m", "benchmarks.peers.worker", method, model, str(args.threads)]
            )
        rows = measure(workers, files, args.rounds)
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        for worker in workers.values():
            worker.close()
    print(f"{len(files)} images, {args.threads} threads, {args.rounds} rounds")
    print(tabulate(rows, headers=HEADERS))
    return 0


def measure(workers: Mapping[str, Worker], files: Sequence[Path], rounds: int) -> list[tuple[str, str, str, int]]:
    """A row of HEADERS for each method; in every round each method predicts all the files."""
    objects = dict.fromkeys(workers, 0)

    def call(name: str) -> None:
        objects[name] = sum(workers[name].predict(file) for file in files)

    timings = interleaved_rounds({name: lambda name=name: call(name) for name in workers}, rounds)
    return [(name, *_per_second(timing, len(files)), objects[name]) for name, timing in timings.items()]


def _per_second(timing: Timing, number: int) -> tuple[str, str]:
    fast, slow = timing.quartiles
    return f"{number / timing.median:.2f}", f"{number / slow:.2f} to {number / fast:.2f}"


if __name__ == "__main__":
    sys.exit(main())
