"""A folder of files as people have them, some of them broken: the run is killed half-way and called again.

    python -m benchmarks.prediction.mixed_files --model output/my_run --output output/mixed

Of 200 files 15 are odd (:data:`ODD_FILES`). ``objguided predict`` must end with exit code 2, list exactly the broken
ones and predict the rest; a run that gets SIGKILL half-way and is called again must give the outputs of the first one,
byte for byte. Exits with 1 if any of that fails.
"""

import argparse
import csv
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from objguided_d2.data.synthetic import make_image
from objguided_d2.inference.records import FOLDER

_SIDE = 96


def make_mixed_files(folder: Path, count: int) -> dict[str, str]:
    """Write ``count`` files, the odd ones among them.

    Returns:
        name under the folder -> a part of the reason, of each file that cannot be predicted.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    broken = {}
    for name, (write, reason) in ODD_FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, make_image("nuclei", (_SIDE, _SIDE), rng).image)
        if reason:
            broken[name] = reason
    for number in range(count - len(ODD_FILES)):
        plain = folder / f"plate{number % 3}" / f"{number:03}.{('png', 'tif', 'jpg')[number % 3]}"
        plain.parent.mkdir(exist_ok=True)
        Image.fromarray(make_image("nuclei", (_SIDE, _SIDE), rng).image).save(plain)
    return broken


def _truncated(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _rotated(path: Path, image: np.ndarray) -> None:
    picture = Image.fromarray(image[: _SIDE // 2])
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)


def _float_stack(path: Path, image: np.ndarray) -> None:
    stack = np.stack([image[..., 0] / 255, image[..., 1] / 100]).astype(np.float32)
    stack[:, :9] = np.nan
    tifffile.imwrite(path, stack, photometric="minisblack")


def _twelve_bits(path: Path, image: np.ndarray) -> None:
    """Two values in three bytes, as cameras write them."""
    values = image[..., 0].astype(np.uint16).ravel() * 16
    first, second = values[::2], values[1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)
    entries = [(256, 4, _SIDE), (257, 4, _SIDE), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1)]
    entries += [(278, 4, _SIDE), (279, 4, packed.size)]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    header = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
    assert len(header) == 122
    path.write_bytes(header + packed.tobytes())


def _bomb(path: Path, image: np.ndarray) -> None:
    """A PNG of some hundred bytes that claims 900 million pixels."""
    Image.new("1", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


def _loop(path: Path, image: np.ndarray) -> None:
    path.symlink_to(path.name)


# name -> how it is written from an image (H, W, 3), and for those that are no images why.
ODD_FILES: dict[str, tuple[Callable[[Path, np.ndarray], object], str]] = {
    "truncated.png": (_truncated, "truncated"),
    "empty.png": (lambda path, image: path.write_bytes(b""), "empty"),
    "text.tif": (lambda path, image: path.write_text("This is no image.\n"), "TIFF"),
    "one_pixel.png": (lambda path, image: Image.fromarray(image[:1, :1]).save(path), ""),
    "float_stack_with_nan.tif": (_float_stack, ""),
    "cmyk.jpg": (lambda path, image: Image.fromarray(image).convert("CMYK").save(path), ""),
    "five_channels.tif": (
        lambda path, image: tifffile.imwrite(path, np.repeat(image[..., :1], 5, axis=2), planarconfig="contig"),
        "channel",
    ),
    "big_endian.tif": (lambda path, image: tifffile.imwrite(path, image[..., 0].astype(">u2"), byteorder=">"), ""),
    "tiled.tif": (lambda path, image: tifffile.imwrite(path, image, tile=(32, 32), photometric="rgb"), ""),
    "plate 7/Zellkerne für Größe é.png": (lambda path, image: Image.fromarray(image).save(path), ""),
    "rotated.jpg": (_rotated, ""),
    "twelve_bits.tif": (_twelve_bits, ""),
    "folder.tif": (lambda path, image: path.mkdir(), "folder"),
    "loop.tif": (_loop, "cannot be opened"),
    "bomb.png": (_bomb, "pixels"),
}


def outputs_in(folder: Path) -> dict[str, bytes]:
    """Files of a run by name, without its records and its report, which hold times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and FOLDER not in path.parts and path.name != "run.json"
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Make the files, predict them and compare.

    Returns:
        The exit status: 1 if anything is not as it should be.
    """
    args = _parser().parse_args(argv)
    shutil.rmtree(args.output, ignore_errors=True)
    images, whole, killed = (args.output / name for name in ("images", "whole", "killed"))
    broken = make_mixed_files(images, args.count)
    options = ["--model", args.model, "--device", "cpu", "--save", "labels", "table", "coco", "--quiet"]
    command = [sys.executable, "-m", "objguided_d2", "predict", str(images), *options, "--output"]

    def predict(output: Path) -> subprocess.Popen:
        return subprocess.Popen([*command, str(output)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    problems = []
    status = predict(whole).wait()
    if status != 2:
        problems.append(f"exit code {status}, not 2")
    with open(whole / "errors.csv", newline="", encoding="utf-8") as file:
        reasons = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    problems += [f"{name} failed: {reasons[name]}" for name in reasons.keys() - broken.keys()]
    problems += [f"{name} did not fail" for name in broken.keys() - reasons.keys()]
    problems += [f"{n}: {reasons[n]}" for n, part in broken.items() if n in reasons and part not in reasons[n]]
    expected = outputs_in(whole)
    # One label image each, and one more of the stack of two.
    num_labels = sum(name.endswith(".labels.tif") for name in expected)
    if num_labels != args.count - len(broken) + 1:
        problems.append(f"{num_labels} label images of {args.count - len(broken)} files")

    process = predict(killed)
    done = 0
    while process.poll() is None and done < args.count // 2:
        time.sleep(0.02)
        done = sum(1 for _ in (killed / FOLDER).rglob("*.json"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    leftover = len(outputs_in(killed))
    if predict(killed).wait() != 2:
        problems.append("exit code of the second call is not 2")
    found = outputs_in(killed)
    problems += [
        f"{name} differs after SIGKILL"
        for name in expected.keys() | found.keys()
        if expected.get(name) != found.get(name)
    ]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(
        f"{args.count} files, {len(reasons)} refused; SIGKILL after {done} ({leftover} outputs), then {len(found)} "
        f"outputs, {'equal' if not problems else 'NOT as they should be'}"
    )
    return int(bool(problems))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prediction.mixed_files",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="bundle, run folder or name of a shipped model")
    parser.add_argument("--count", type=int, default=200, help="files (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files and results; emptied first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
