"""``python -m benchmarks.fuzz_readers --count 100000``: damaged files of every kind that is read.

Each input is a small valid file with some bytes or, in JSON, some entries changed. A reader may return or raise
SourceError; any other exception, or an input that takes seconds, is a failure. The input of the moment lies in
``--folder``, so that one that ends the process can be looked at.
"""

import argparse
import copy
import io
import json
import os
import random
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import roifile
import tifffile
from PIL import Image
from tqdm import tqdm

from objguided_d2.data.coco_validation import parse_coco
from objguided_d2.data.converters.conversion import ConversionNotes, open_source
from objguided_d2.data.converters.label_files import LabelContext, find_reader
from objguided_d2.data.converters.label_objects import label_objects
from objguided_d2.data.converters.pairing import LabelFile
from objguided_d2.data.converters.text_files import read_json
from objguided_d2.data.decode_limit import VARIABLE
from objguided_d2.data.intensity import DEFAULT, IntensityMapping, to_rgb8
from objguided_d2.data.label_plausibility import implausible_labels
from objguided_d2.data.pixels import read_image_pixels, read_label_pixels
from objguided_d2.data.segmentation import segmentation_to_rle
from objguided_d2.data.source_error import SourceError
from objguided_d2.utils.rle import decode_masks

SIZE = (24, 40)
MAX_SECONDS = 10.0
MAX_PIXELS = 1_000_000
_SQUARE = [2.0, 2.0, 10.0, 2.0, 10.0, 9.0, 2.0, 9.0]
_ODD_VALUES = (
    None, True, -1, 0, 3, 10**12, 10**400, -0.5, 1e308, float("nan"), float("inf"), "", "x", "1", "\\", "\ud800",
    [], {}, [[]], [None], {"a": []}, [1, 2], [[1, 2]], [[[1, 2]]], "polygon", "mask", "Polygon",
)  # fmt: skip


def seeds() -> Iterator[tuple[str, str, bytes]]:
    """(reader, name, contents) of small valid files."""
    rng = np.random.default_rng(0)
    gray, color = rng.integers(0, 256, SIZE, np.uint8), rng.integers(0, 256, (*SIZE, 3), np.uint8)
    deep = gray.astype(np.uint16) * 200
    for reader in ("image", "labels"):
        for ending in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"):
            yield reader, f"gray.{ending.lower()}", _pillow(gray, ending)
            yield reader, f"color.{ending.lower()}", _pillow(color, ending)
        yield reader, "deep.png", _pillow(deep, "PNG")
        yield reader, "palette.png", _pillow(gray, "PNG", mode="P")
        yield reader, "deep_color.jp2", imagecodecs.jpeg2k_encode(color.astype(np.uint16) * 9, level=0)
        yield reader, "deep_color.png", imagecodecs.png_encode(color.astype(np.uint16) * 9)
        for compression in (None, "lzw", "zlib", "jpeg", "packbits", "zstd"):
            yield reader, f"{compression}.tif", _tiff(gray, compression=compression)
        yield reader, "float.tif", _tiff(gray.astype(np.float32))
        yield reader, "white.tif", _tiff(deep, photometric="miniswhite")
        yield reader, "palette.tif", _tiff(gray, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
        yield reader, "ome.tif", _tiff(gray[None], ome=True, metadata={"axes": "ZYX"})
        yield reader, "imagej.tif", _tiff(np.stack([gray] * 3), imagej=True, metadata={"axes": "CYX"})
        yield reader, "planes.tif", _tiff(np.moveaxis(color, -1, 0), photometric="rgb", planarconfig="separate")
    yield "npy", "a.npy", _npy(gray)
    yield "npy", "a_seg.npy", _npy(np.array({"masks": gray, "flows": [gray, None], "filename": "a"}, object))
    regions = {f"{n}.roi": roifile.ImagejRoi.frompoints(np.array(_SQUARE).reshape(-1, 2)).tobytes() for n in range(3)}
    yield "roi", "a.roi", regions["0.roi"]
    yield "roi", "a.zip", _zip(regions)
    yield "zip", "images.zip", _zip({"a.png": _pillow(gray, "PNG"), "b/c.json": b"{}"})
    yield "yolo", "a.txt", b"0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.2 0.3 0.4 0.5 0.6 0.7 0.1 0.9\n"
    for reader, content in _json_contents():
        yield reader, "a.json", json.dumps(content).encode()


def _json_contents() -> Iterator[tuple[str, Any]]:
    annotation = {"category_id": 1, "iscrowd": 0, "bbox": [2, 2, 8, 7], "area": 56}
    segmentations = [
        [_SQUARE],
        {"size": list(SIZE), "counts": [50, 7, 903]},
        {"size": list(SIZE), "counts": "b17i0W<"},
    ]
    yield (
        "coco",
        {
            "categories": [{"id": 1, "name": "cell", "supercategory": "cells"}, {"id": 0, "name": "cells"}],
            "images": [{"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in range(3)],
            "annotations": [
                {**annotation, "id": n, "image_id": n, "segmentation": s} for n, s in enumerate(segmentations)
            ],
        },
    )
    points = np.array(_SQUARE).reshape(-1, 2).tolist()
    shapes = [("polygon", points), ("rectangle", points[::2]), ("circle", points[:2]), ("ellipse", points)]
    yield (
        "json",
        {
            "imageHeight": SIZE[0],
            "imageWidth": SIZE[1],
            "shapes": [
                *({"label": "a", "points": p, "shape_type": kind, "group_id": None} for kind, p in shapes),
                {"label": "b", "points": points[::2], "shape_type": "mask", "mask": "iVBORw0KGgo="},
            ],
        },
    )
    geometry = {"type": "MultiPolygon", "coordinates": [[points, points]]}
    yield (
        "json",
        {
            "type": "FeatureCollection",
            "features": [
                {"type": "Feature", "geometry": geometry, "properties": {"classification": {"names": ["a", "b"]}}},
                {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [points]}, "properties": {}},
            ],
        },
    )


def mutate(data: bytes, is_json: bool, rng: random.Random) -> bytes:
    """One changed copy of a file."""
    if is_json and rng.random() < 0.7:
        content = json.loads(data)
        for _ in range(rng.randint(1, 3)):
            content = _change_entry(content, rng)
        return json.dumps(content).encode("utf-8", "surrogatepass")
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        position = rng.randrange(len(changed) + 1) if rng.random() < 0.5 else rng.randrange(min(len(changed), 200) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            changed[position : position + 1] = bytes([rng.randrange(256)])
        elif kind == 1 and position < len(changed):
            changed[position] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del changed[position : position + rng.randint(1, 64)]
        elif kind == 3:
            changed[position:position] = rng.randbytes(rng.randint(1, 32))
        elif kind == 4:
            value = rng.choice((0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
            changed[position : position + 4] = value.to_bytes(4, rng.choice(("little", "big")))
        else:
            del changed[position:]
    return bytes(changed)


def _change_entry(content: Any, rng: random.Random) -> Any:
    paths = [()]
    for path in paths:
        node = _at(content, path)
        keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        paths += [(*path, key) for key in keys]
    path = rng.choice(paths)
    value = copy.deepcopy(rng.choice(_ODD_VALUES) if rng.random() < 0.8 else _at(content, rng.choice(paths)))
    if not path:
        return value
    parent = _at(content, path[:-1])
    if rng.random() < 0.2:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return content


def _at(content: Any, path: tuple) -> Any:
    for key in path:
        content = content[key]
    return content


def _read_as_image(data: bytes, path: Path) -> None:
    pixels = read_image_pixels(lambda _: data, path.name)
    try:
        rgb = to_rgb8(pixels, IntensityMapping.parse(DEFAULT))
    except ValueError as error:  # no finite value; the caller names the file
        raise SourceError(f"{path.name}: {error}") from error
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3


def _read_as_labels(data: bytes, path: Path) -> None:
    labels = read_label_pixels(lambda _: data, path.name)
    assert labels.ndim == 2 and labels.dtype.kind in "iu" and labels.min() >= 0
    implausible_labels(labels)
    for _, mask in label_objects(labels[:64, :64], path.name, ConversionNotes()):
        assert mask.any()


def _read_as_coco(data: bytes, path: Path) -> None:
    file = parse_coco(read_json(lambda _: data, path.name, ConversionNotes()), path.name)
    file.all_errors(), file.warnings.lines()
    for image in file.images:
        if image.height is None or image.width is None or image.height * image.width > MAX_PIXELS:
            continue
        for annotation in image.annotations:
            rle = segmentation_to_rle(annotation["segmentation"], image.height, image.width)
            assert decode_masks([rle], image.height, image.width).any()


def _read_as_label_file(kind: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, path: Path) -> None:
        context = LabelContext(lambda _: data, lambda _: b"")
        classes, read_objects = find_reader([LabelFile(path.name, kind, "", "")], "a", context, ConversionNotes())
        for name, mask in read_objects(SIZE, ConversionNotes()):
            assert name in classes and mask.shape == SIZE and mask.any()

    return read


def _read_as_zip(data: bytes, path: Path) -> None:
    names, read = open_source(path)
    for name in names:
        try:
            read(name)
        except SourceError:
            continue


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "image": _read_as_image,
    "labels": _read_as_labels,
    "coco": _read_as_coco,
    "zip": _read_as_zip,
    **{kind: _read_as_label_file(kind) for kind in ("json", "npy", "roi", "yolo")},
}


def fuzz(count: int, seed: int, folder: Path) -> list[str]:
    """Give ``count`` damaged files to the readers.

    Args:
        seed: the same seed gives the same files.
        folder: for the file of the moment and the ones that fail.

    Returns:
        a text for each failure: the reader, the file that shows it, and the traceback.
    """
    rng = random.Random(seed)
    files = list(seeds())
    failures = []
    previous = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(MAX_PIXELS)
    try:
        for number in tqdm(range(count), desc="fuzz", unit="file", disable=None):
            reader, name, data = rng.choice(files)
            path = folder / f"current_{name}"
            changed = mutate(data, name.endswith(".json"), rng)
            path.write_bytes(changed)
            start = time.perf_counter()
            try:
                READERS[reader](changed, path)
                problem = ""
            except SourceError:
                problem = ""
            except Exception:
                problem = traceback.format_exc()
            seconds = time.perf_counter() - start
            if seconds > MAX_SECONDS:
                problem += f"took {seconds:.0f} s"
            kept = path.replace(folder / f"failure_{number}_{name}") if problem else path
            if problem:
                failures.append(f"{reader}, {kept}:\n{problem}")
            else:
                path.unlink()
    finally:
        os.environ.pop(VARIABLE)
        if previous is not None:
            os.environ[VARIABLE] = previous
    return failures


def _pillow(array: np.ndarray, ending: str, mode: str | None = None) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, ending)
    return file.getvalue()


def _tiff(array: np.ndarray, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **kwargs)
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_readers", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="damaged files (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="for files that fail (default: a new one)")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    failures = fuzz(args.count, args.seed, folder)
    print(*failures, f"{len(failures)} of {args.count} files failed", sep="\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
