"""Inference of the methods on the same images, in interleaved rounds.

    python -m benchmarks.peers.time_inference --sides 256 512 1024 2048 --objects 20 300 --threads 2 --rounds 5 \
        --method .venv/bin/python objguided nuclei \
        --method .venv-peers/bin/python stardist output/peers/stardist \
        --method .venv-peers/bin/python cellpose output/peers/cellpose

``--images FOLDER`` takes images of a folder in place of drawn ones. Each method runs in a process of its own, with the
Python of its environment, and only one works at a time. A time goes from an image in memory to its label image; a
model of this package as ``NAME@1`` has images at their own size in the network. Peak memory is all that the process
has held, libraries included, from the first image of the table on.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from objguided_d2.profiling.timing import interleaved_rounds
from objguided_d2.utils.evenly_spaced import evenly_spaced

from .drawn_cells import write_cells
from .methods import METHODS
from .worker import Answer, Worker

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".bmp")
HEADERS = ("images", "method", "images/s", "quartiles", "of the first", "objects", "peak MiB")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status is 1 if a method does not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.time_inference", description="Time the methods.")
    parser.add_argument("--images", type=Path, help="folder, in place of drawn images")
    parser.add_argument("--num-images", type=int, default=8, help="of the folder, evenly spaced (default: %(default)s)")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024, 2048], help="of drawn images, pixels")
    parser.add_argument("--objects", type=int, nargs="+", default=[20, 300], help="in a drawn image")
    parser.add_argument("--threads", type=int, default=2, help="of each method (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="after one of warm-up (default: %(default)s)")
    parser.add_argument(
        "--method", nargs=3, action="append", required=True, metavar=("PYTHON", "METHOD", "MODEL"), dest="methods"
    )
    args = parser.parse_args(argv)
    if unknown := [method for _, method, _ in args.methods if method not in METHODS]:
        parser.error(f"no method {unknown[0]}; choose of {', '.join(METHODS)}")
    workers: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if args.images is None:
            groups = write_cells(Path(scratch), args.sides, args.objects)
        else:
            files = sorted(f for f in args.images.iterdir() if f.suffix.lower() in SUFFIXES)
            if not files:
                parser.error(f"{args.images} has no images ({', '.join(SUFFIXES)})")
            groups = {args.images.name: evenly_spaced(files, args.num_images)}
        try:
            for python, method, model in args.methods:
                workers[f"{method} {model}"] = Worker(
                    [python, "-m", "benchmarks.peers.worker", method, model, str(args.threads)]
                )
            print(f"{args.threads} threads, {args.rounds} rounds")
            rows = [row for name, files in groups.items() for row in measure(workers, name, files, args.rounds)]
        except (RuntimeError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            for worker in workers.values():
                worker.close()
    print(tabulate(rows, headers=HEADERS, tablefmt="github", disable_numparse=True))
    return 0


def measure(workers: Mapping[str, Worker], name: str, files: Sequence[Path], rounds: int) -> list[tuple[str, ...]]:
    """A row of HEADERS for each method; in every round each method predicts all the files."""
    answers: dict[str, list[Answer]] = {}

    def call(method: str) -> None:
        answers[method] = [workers[method].predict(file) for file in files]

    timings = interleaved_rounds({method: lambda method=method: call(method) for method in workers}, rounds)
    first = next(iter(timings.values()))
    rows = []
    for method, timing in timings.items():
        fast, slow = timing.quartiles
        number = len(files)
        rows.append(
            (
                name,
                method,
                f"{number / timing.median:.2f}",
                f"{number / slow:.2f} to {number / fast:.2f}",
                f"{timing.times_faster_than(first)[0]:.2f} x",
                str(sum(answer.objects for answer in answers[method])),
                f"{max(answer.peak for answer in answers[method]):.0f}",
            )
        )
        print(*rows[-1], sep="  ", flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
