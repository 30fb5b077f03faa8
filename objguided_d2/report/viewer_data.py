"""What the page's viewer draws and counts: images, outlines, scores and overlaps as plain JSON.

A pixel of a label map goes to the best-scored instance, so leaving out instances under a score changes no pixel of the
others: overlaps are computed once, and hold for every score threshold.
"""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..evaluation.label_map import count_overlaps, decode_in_box, paint_label_map

OUTLINE_TOLERANCE = 0.6  # pixels


def viewer_image(record: dict, image_root: Path, true_masks: list[dict], max_side: int) -> dict[str, Any]:
    """One image with its true objects.

    Args:
        record: of the data set's COCO file.
        image_root: its folder.
        true_masks: compressed RLEs.
        max_side: a larger image is shrunk to it; outlines keep the coordinates of the original.

    Returns:
        name, width, height, src (a data URI), truth (outlines, see :func:`outline`), areas (of the true objects).
    """
    pixels = cv2.imread(str(image_root / record["file_name"]), cv2.IMREAD_COLOR)
    scale = min(1.0, max_side / max(pixels.shape[:2]))
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])
    outlines, areas = [], []
    for rle in true_masks:
        box, mask = decode_in_box(rle)
        outlines.append(outline(mask, box[1].start, box[0].start))
        areas.append(int(mask.sum()))
    return {
        "name": record["file_name"],
        "width": record["width"],
        "height": record["height"],
        "src": "data:image/jpeg;base64," + base64.b64encode(encoded).decode("ascii"),
        "truth": outlines,
        "areas": areas,
    }


def viewer_predictions(results: list[dict], record: dict, true_masks: list[dict]) -> list[dict[str, Any]]:
    """The predictions of one run on one image, best score first.

    Args:
        results: COCO results.
        record, true_masks: see :func:`viewer_image`.

    Returns:
        score, outline, area (of the pixels it has in the label map) and overlaps ([object, shared pixels], ...) of each
        prediction that has a pixel.
    """
    size = record["height"], record["width"]
    rles = [result["segmentation"] for result in results]
    scores = np.array([result["score"] for result in results])
    label_map = paint_label_map(rles, scores, size)
    overlaps = count_overlaps(label_map, len(rles), true_masks)
    predictions = []
    for p in range(len(rles)):
        if not overlaps.predicted_area[p]:
            continue
        (rows, columns), _ = decode_in_box(rles[p])
        shared = np.flatnonzero(overlaps.intersection[p])
        predictions.append(
            {
                "score": round(float(scores[p]), 3),
                "outline": outline(label_map[rows, columns] == p + 1, columns.start, rows.start),
                "area": int(overlaps.predicted_area[p]),
                "overlaps": [[int(g), int(overlaps.intersection[p, g])] for g in shared],
            }
        )
    return predictions


def outline(mask: np.ndarray, left: int, top: int) -> list[list[int]]:
    """The outer contours of a mask: a list x, y, x, y, ... for each piece, in pixels of the image.

    Args:
        mask: (h, w) bool, a window of the image whose first pixel is (``left``, ``top``).
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    pieces = [cv2.approxPolyDP(contour, OUTLINE_TOLERANCE, True).reshape(-1, 2) for contour in contours]
    return [(piece + [left, top]).ravel().tolist() for piece in pieces]
