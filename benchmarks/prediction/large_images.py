"""Memory and time of ``objguided predict`` on images of growing size: synthetic nuclei, written as a tiled BigTIFF.

    python -m benchmarks.prediction.large_images --model output/my_run --sides 2048 4096 8192 --output output/large

Each size runs in a process of its own. Its peak memory is all that the process ever held, its time the CPU seconds of
all its threads. Exits with 1 above 4 GB, or if a megapixel of the largest image costs more than 1.3 times one of the
smallest. What the program needs before it sees an image is measured with one of 64 pixels and taken off the times.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile

from objguided_d2.data.synthetic import make_image
from objguided_d2.profiling.table import write_tables

LIMIT_GB, LINEAR = 4.0, 1.3
HEADERS = ("image", "objects", "peak memory (GB)", "CPU seconds", "CPU seconds per megapixel", "wall seconds")
_TILE = 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the table.

    Returns:
        The exit status: 1 if a limit is exceeded.
    """
    args = _parser().parse_args(argv)
    rows, numbers = [], []
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        _, start, _, _ = _measure(Path(folder), 64, args)
        for side in args.sides:
            gigabytes, cpu, wall, objects = _measure(Path(folder), side, args)
            rate = (cpu - start) / side**2 * 1e6
            row = (f"{side} x {side}", objects, f"{gigabytes:.2f}", f"{cpu:.0f}", f"{rate:.2f}", f"{wall:.0f}")
            rows.append(tuple(map(str, row)))
            numbers.append({"side": side, "gigabytes": gigabytes, "cpu": cpu, "wall": wall, "per_megapixel": rate})
            print(*row, sep="  ", flush=True)
    options = f"--save {' '.join(args.save)} --scale {args.scale:g}"
    notes = f"`objguided predict {options}`, one thread; {start:.0f} CPU seconds before the first image, not counted."
    print(write_tables(args.output, "Large images", HEADERS, rows, notes, numbers))
    too_large = max(one["gigabytes"] for one in numbers) > LIMIT_GB
    growing = numbers[-1]["per_megapixel"] > LINEAR * numbers[0]["per_megapixel"]
    return int(too_large or growing)


def write_mosaic(path: Path, side: int) -> None:
    """A gray BigTIFF of ``side`` squared pixels whose tiles are turned and flipped pictures of the same nuclei."""
    nuclei = make_image("nuclei", (_TILE, _TILE), np.random.default_rng(0)).image[..., 0]

    def tiles() -> Iterator[np.ndarray]:
        count = -(-side // _TILE)
        for index in range(count**2):
            turned = np.rot90(nuclei, index % 4)
            yield np.ascontiguousarray(turned[::-1] if index % 8 > 3 else turned)

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side, side),
        dtype=np.uint8,
        tile=(_TILE, _TILE),
        photometric="minisblack",
        compression="zlib",
        bigtiff=True,
    )


def _measure(folder: Path, side: int, args: argparse.Namespace) -> tuple[float, float, float, int]:
    """Peak memory in GB, CPU seconds, wall seconds and number of objects."""
    image = folder / f"{side}.tif"
    write_mosaic(image, side)
    output = folder / f"out{side}"
    command = [sys.executable, "-m", "objguided_d2", "predict", str(image), "--model", args.model, "--device", "cpu"]
    command += ["--output", str(output), "--quiet", "--save", *args.save, "--scale", str(args.scale)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    if status:
        raise SystemExit(f"error: {' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    image.unlink()
    objects = int(text.rpartition("(")[2].split()[0])
    return usage.ru_maxrss * 1024 / 1e9, usage.ru_utime + usage.ru_stime, wall, objects


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prediction.large_images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="bundle, run folder or name of a shipped model")
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 4096, 8192], help="default: %(default)s")
    parser.add_argument("--save", nargs="+", default=["labels"], help="outputs (default: labels)")
    parser.add_argument("--scale", type=float, default=1.0, help="pixels of the network per pixel (default: 1)")
    parser.add_argument("--scratch", help="folder for images and outputs (default: the system's)")
    parser.add_argument("--output", type=Path, required=True, help="folder for benchmark.md and benchmark.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
