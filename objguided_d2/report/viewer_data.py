"""What the page's viewer draws and counts: images, outlines, scores and overlaps as plain JSON.

A pixel of a label map goes to the best-scored instance, so leaving out instances under a score changes no pixel of the
others: overlaps are computed once, and hold for every score threshold.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..data.pixels import read_picture
from ..evaluation.compared_image import ComparedImage
from ..utils.rle import decode_in_box
from .data_uri import jpeg_data_uri

OUTLINE_TOLERANCE = 0.6  # pixels


def viewer_image(compared: Sequence[ComparedImage], image_root: Path, max_side: int) -> dict[str, Any]:
    """One image with its true objects and the predictions of each run.

    Args:
        compared: all predictions of each run, however low their scores, beside the truth.
        image_root: folder of the dataset's images.
        max_side: a larger image is shrunk to it; outlines keep the coordinates of the original.

    Returns:
        name, width, height, src (a data URI), truth (outlines, see :func:`outline`), areas (of the true objects),
        predictions (of each run, see :func:`viewer_predictions`).
    """
    record = compared[0].record
    pixels = cv2.cvtColor(read_picture(image_root / record["file_name"]), cv2.COLOR_RGB2BGR)
    scale = min(1.0, max_side / max(pixels.shape[:2]))
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    outlines, areas = [], []
    for rle in compared[0].true_masks:
        box, mask = decode_in_box(rle)
        outlines.append(outline(mask, box[1].start, box[0].start))
        areas.append(int(mask.sum()))
    return {
        "name": record["file_name"],
        "width": record["width"],
        "height": record["height"],
        "src": jpeg_data_uri(pixels, 80),
        "truth": outlines,
        "areas": areas,
        "predictions": [viewer_predictions(one) for one in compared],
    }


def viewer_predictions(compared: ComparedImage) -> dict[str, list]:
    """The predictions of one run on one image, those that have a pixel, in their order.

    Args:
        compared: all predictions, however low their scores, beside the truth.

    Returns:
        a list of each of score, outline, area (of the pixels it has in the label map) and overlaps ([object of its
        class, shared pixels], ...), and in_crowd, the positions of those that lie in crowd regions. Lists take two
        thirds of the bytes of an object for each prediction, and a smaller page opens sooner.
    """
    overlaps = compared.overlaps_in_class
    visible = [p for p, box in enumerate(compared.boxes) if box is not None]
    outlines, shared = [], []
    for p in visible:
        box = compared.boxes[p]
        outlines.append(outline(compared.label_map[box] == p + 1, box[1].start, box[0].start))
        objects = np.flatnonzero(overlaps.intersection[p])
        shared.append([[int(g), int(overlaps.intersection[p, g])] for g in objects])
    return {
        # Cut off, not rounded: a score under a threshold of up to three digits stays under it.
        "score": [math.floor(1000 * float(compared.scores[p]) + 1e-6) / 1000 for p in visible],
        "outline": outlines,
        "area": [int(overlaps.predicted_area[p]) for p in visible],
        "overlaps": shared,
        "in_crowd": [i for i, p in enumerate(visible) if compared.ignored[p]],
    }


def outline(mask: np.ndarray, left: int, top: int) -> list[list[int]]:
    """The outer contours of a mask, a list for each component: x, y of its first vertex in pixels of the image, then
    the steps x, y from vertex to vertex, which are shorter to write.

    Args:
        mask: (h, w) bool, a window of the image whose first pixel is (``left``, ``top``).
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    pieces = [cv2.approxPolyDP(contour, OUTLINE_TOLERANCE, True).reshape(-1, 2) for contour in contours]
    return [np.diff(piece + [left, top], axis=0, prepend=0).ravel().tolist() for piece in pieces]
