"""Make the pictures of predict.md: one image through every output, each read back by its reader and drawn.

    python docs/predict_pictures.py

Run at the top of the repository. Unless --image names another, the image is one that comes with the package (CC0).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas
import roifile
import tifffile
import zarr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from PIL import Image
from pycocotools.coco import COCO

from objguided_d2 import samples
from objguided_d2.inference.image_source import open_image
from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.writers import WRITERS

FOLDER = Path(__file__).parent / "images"
# Fluorescence, nuclei of all sizes that touch.
SAMPLE = "fluorescence_large_66236902"
TABLE_ROWS = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, draw and write docs/images/predict-*.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei", help="bundle, run folder or shipped model (default: %(default)s)")
    parser.add_argument("--image", type=Path, default=samples.folder() / "images" / f"{SAMPLE}.png")
    parser.add_argument("--score", type=float, help="lowest score (default: the model's)")
    args = parser.parse_args(argv)
    predictor = Predictor.from_pretrained(args.model, score_threshold=args.score)
    with tempfile.TemporaryDirectory() as folder, open_image(args.image) as source:
        stem = Path(folder) / "cells"
        prediction = predictor(source)
        prediction.save(stem, list(WRITERS))
        FOLDER.mkdir(exist_ok=True)
        _draw_outputs(stem, source.read_all(), FOLDER / "predict-outputs.jpg")
        _draw_table(stem, FOLDER / "predict-table.png")
    for path in sorted(FOLDER.glob("predict-*")):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


def _draw_outputs(stem: Path, image: np.ndarray, path: Path) -> None:
    panels: dict[str, Callable[[Axes], None]] = {
        "the image": lambda axes: None,
        "labels: cells.labels.tif": lambda axes: axes.imshow(_colored(tifffile.imread(f"{stem}.labels.tif"))),
        "overlay: cells.overlay.png": lambda axes: axes.imshow(Image.open(f"{stem}.overlay.png")),
        "coco: masks of cells.coco.json": lambda axes: _draw_coco(axes, f"{stem}.coco.json"),
        "geojson: polygons, as QuPath": lambda axes: _draw_geojson(axes, f"{stem}.geojson"),
        "rois: cells.rois.zip, as Fiji": lambda axes: _draw_rois(axes, f"{stem}.rois.zip"),
        "zarr: labels/objects": lambda axes: _draw_zarr(axes, f"{stem}.zarr"),
        "ctc: mask000.tif": lambda axes: axes.imshow(_colored(tifffile.imread(WRITERS["ctc"].path(stem)))),
    }
    figure, grid = plt.subplots(2, 4, figsize=(14, 7.4 * image.shape[0] / image.shape[1]), layout="constrained")
    gray = image.shape[-1] == 1
    for axes, (title, draw) in zip(grid.flat, panels.items()):
        axes.imshow(image[..., 0] if gray else image, cmap="gray")
        draw(axes)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    figure.savefig(path, dpi=90, pil_kwargs={"quality": 72})
    plt.close(figure)


def _draw_table(stem: Path, path: Path) -> None:
    table = pandas.read_csv(f"{stem}.csv")
    shown = table.head(TABLE_ROWS).map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)
    figure, axes = plt.subplots(figsize=(1.05 * len(table.columns), 0.3 * (len(shown) + 1)))
    axes.set_axis_off()
    drawn = axes.table(shown.values.tolist(), colLabels=list(table.columns), loc="center", cellLoc="right")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.auto_set_column_width(list(range(len(table.columns))))
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)


def _colored(labels: np.ndarray) -> np.ndarray:
    """(H, W, 3): a color for each label, black for 0."""
    colors = np.random.default_rng(1).uniform(0.25, 1, (int(labels.max()) + 1, 3))
    colors[0] = 0
    return colors[labels]


def _draw_coco(axes: Axes, path: str) -> None:
    coco = COCO(path)
    colors = np.random.default_rng(2).uniform(0, 1, (len(coco.anns) + 1, 3))
    for number, annotation in coco.anns.items():
        mask = coco.annToMask(annotation)
        axes.imshow(np.dstack([np.broadcast_to(colors[number], (*mask.shape, 3)), 0.5 * mask]))


def _draw_geojson(axes: Axes, path: str) -> None:
    for feature in json.loads(Path(path).read_text(encoding="utf-8"))["features"]:
        geometry = feature["geometry"]
        polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        # Coordinates are pixel corners; the first pixel of the picture is drawn around (0, 0).
        rings = [np.array(ring)[:, :2] - 0.5 for polygon in polygons for ring in polygon]
        axes.add_collection(LineCollection(rings, colors="#e03030", linewidths=1.2))


def _draw_rois(axes: Axes, path: str) -> None:
    for roi in roifile.roiread(path):
        rings = [np.asarray(ring, float) - 0.5 for ring in roi.coordinates(multi=True)]
        axes.add_collection(
            LineCollection([np.vstack([ring, ring[:1]]) for ring in rings], colors="#ffe000", linewidths=1)
        )
        axes.text(*rings[0].mean(0), roi.name.split("-")[0].lstrip("0"), color="#ffe000", fontsize=6, ha="center")


def _draw_zarr(axes: Axes, path: str) -> None:
    axes.imshow(_colored(np.asarray(zarr.open(path, mode="r")["labels/objects/0"])))


if __name__ == "__main__":
    sys.exit(main())
