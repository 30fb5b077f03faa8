"""A mosaic of real images predicted in tiles against the same in one piece.

    python -m benchmarks.prediction.mosaic --model output/my_run --dataset dsb2018_val --output output/mosaic

Targets: with the default halo, F1 at IoU 0.9 against the untiled run of at least 0.998; with the whole receptive field,
the same number of objects and masks that are equal but for rounding (one pixel in 1,000). Exits with 1 if one
is missed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import DatasetCatalog
from scipy import sparse

from benchmarks.rows import Row
from objguided_d2.data.builtin import register_prepared
from objguided_d2.evaluation.matching import count_matches
from objguided_d2.inference.objects import SegmentedObjects
from objguided_d2.inference.options import HALO
from objguided_d2.inference.predictor import Predictor
from objguided_d2.profiling.table import write_tables

MIN_F1, IOU = 0.998, 0.9
MOST_DIFFERING = 1e-3
HEADERS = ("what", "target", "measured", "met")


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, compare, print and write the table.

    Returns:
        The exit status: 1 if a target is missed.
    """
    args = _parser().parse_args(argv)
    mosaic, count = make_mosaic(args.dataset, args.side, args.cell)
    options = {"scale": args.scale}
    untiled = _predictor(args, tile=0, halo=0)(mosaic, **options)
    if not len(untiled):
        raise SystemExit(f"error: {args.model} finds no object in the mosaic")
    rows = [
        _row(untiled.objects, _predictor(args, tile=args.tile, halo=halo)(mosaic, **options).objects, halo)
        for halo in (HALO, "full")
    ]
    notes = (
        f"{count} images of {args.dataset} on {args.side} x {args.side} pixels, scale {args.scale:g}, tiles of "
        f"{args.tile}, {len(untiled)} objects in one piece."
    )
    table = [(row.what, row.target, row.measured, "yes" if row.met else "no") for row in rows]
    print(write_tables(args.output, "Mosaic", HEADERS, table, notes, [vars(row) for row in rows]))
    return int(not all(row.met for row in rows))


def make_mosaic(dataset: str, side: int, cell: int) -> tuple[np.ndarray, int]:
    """(side, side, 3) uint8 RGB of corners of a dataset's images, and how many of them."""
    register_prepared(dataset)
    paths = [record["file_name"] for record in DatasetCatalog.get(dataset)]
    mosaic = np.zeros((side, side, 3), np.uint8)
    count = 0
    for y in range(0, side, cell):
        for x in range(0, side, cell):
            image = cv2.imread(paths[count % len(paths)], cv2.IMREAD_COLOR)[:cell, :cell, ::-1]
            target = mosaic[y : y + image.shape[0], x : x + image.shape[1]]
            target[...] = image[: target.shape[0], : target.shape[1]]
            count += 1
    return mosaic, count


def _predictor(args: argparse.Namespace, tile: int, halo: int | str) -> Predictor:
    return Predictor.from_pretrained(args.model, device=args.device, tile=tile, halo=halo)


def _row(untiled: SegmentedObjects, tiled: SegmentedObjects, halo: int | str) -> Row:
    iou, differing = _compare(tiled, untiled)
    counts = count_matches(iou, thresholds=np.array([IOU]))
    f1 = float(counts.f1[0])
    numbers = {"f1": f1, "objects": len(tiled), "untiled": len(untiled), "differing": differing}
    if halo == "full":
        met = len(tiled) == len(untiled) and differing <= MOST_DIFFERING
        return Row(
            "halo of the whole receptive field",
            f"same count, <= {MOST_DIFFERING:.1%} of the mask pixels differ",
            f"{len(tiled)} of {len(untiled)} objects, {differing:.5%} of the pixels differ, F1 {f1:.4f}",
            met,
            numbers,
        )
    measured = f"F1 {f1:.4f}, {len(tiled)} of {len(untiled)} objects, {differing:.3%} of the pixels differ"
    return Row(f"halo of {halo} (default)", f"F1 at IoU {IOU} >= {MIN_F1}", measured, f1 >= MIN_F1, numbers)


def _compare(one: SegmentedObjects, other: SegmentedObjects) -> tuple[np.ndarray, float]:
    """IoU of all pairs (N, M), and the fraction of mask pixels that the best pairs do not have in common."""
    first, second = (_pixels(objects) for objects in (one, other))
    common = (first @ second.T).toarray()
    rows, columns = (np.asarray(pixels.sum(1)) for pixels in (first, second))
    iou = common / (rows + columns.T - common)
    matched = common[iou.argmax(0), np.arange(len(other))].sum()
    return iou, float(1 - 2 * matched / (rows.sum() + columns.sum()))


def _pixels(objects: SegmentedObjects) -> sparse.csr_matrix:
    """(N, H * W) of 0 and 1."""
    height, width = objects.shape
    indices = []
    for (x0, y0, _, _), mask in zip(objects.boxes, objects.masks):
        y, x = np.nonzero(mask)
        indices.append((y + y0) * width + x + x0)
    lengths = [len(index) for index in indices]
    data = np.ones(sum(lengths), np.int64)
    pointers = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    flat = np.concatenate(indices) if indices else np.zeros(0, np.int64)
    return sparse.csr_matrix((data, flat, pointers), shape=(len(objects), height * width))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prediction.mosaic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="bundle, run folder or name of a shipped model")
    parser.add_argument("--dataset", default="dsb2018_val", help="registered name (default: %(default)s)")
    parser.add_argument("--side", type=int, default=1536, help="of the mosaic in pixels (default: %(default)s)")
    parser.add_argument("--cell", type=int, default=256, help="of each image in it at most (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="pixels of the network per pixel (default: 1)")
    parser.add_argument("--tile", type=int, default=512, help="side of a tile (default: %(default)s)")
    parser.add_argument("--device", help="as cpu or cuda:1 (default: CUDA where there is any)")
    parser.add_argument("--output", type=Path, required=True, help="folder for benchmark.md and benchmark.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
