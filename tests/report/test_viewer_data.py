import base64

import cv2
import numpy as np
import pytest

from objguided_d2.evaluation.label_map import count_overlaps, paint_label_map
from objguided_d2.report.runs import load_run
from objguided_d2.report.viewer_data import outline, viewer_image, viewer_predictions

from .conftest import DATASET, SIZE


def test_image(cells, tmp_path):
    _, ground_truth, _ = cells
    record = ground_truth.imgs[1]
    masks = [a["segmentation"] for a in ground_truth.imgToAnns[1]]
    image = viewer_image(record, tmp_path / "val", masks, max_side=32)
    assert image["areas"] == [121] * len(masks) and len(image["truth"]) == len(masks)
    data = np.frombuffer(base64.b64decode(image["src"].split(",")[1]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (32, 32, 3)
    assert (image["width"], image["height"]) == (SIZE, SIZE)
    # Outlines are those of the original image.
    (piece,) = image["truth"][0]
    x, y, w, h = ground_truth.imgToAnns[1][0]["bbox"]
    assert (min(piece[::2]), min(piece[1::2]), max(piece[::2]) + 1, max(piece[1::2]) + 1) == (x, y, x + w, y + h)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 0.9])
def test_overlaps_hold_for_every_score_threshold(cells, threshold):
    _, ground_truth, paths = cells
    run = load_run(paths[1], "x", DATASET, ground_truth)
    for image_id, record in ground_truth.imgs.items():
        masks = [a["segmentation"] for a in ground_truth.imgToAnns[image_id]]
        kept = [r for r in run.results[image_id] if r["score"] >= threshold]
        label_map = paint_label_map(
            [r["segmentation"] for r in kept], np.array([r["score"] for r in kept]), (SIZE, SIZE)
        )
        expected = count_overlaps(label_map, len(kept), masks)
        found = [
            p for p in viewer_predictions(run.results[image_id], record, masks) if p["score"] >= round(threshold, 3)
        ]
        assert [p["area"] for p in found] == [a for a in expected.predicted_area if a]
        shared = [[[g, n] for g, n in enumerate(row.tolist()) if n] for row in expected.intersection]
        assert [p["overlaps"] for p in found] == [s for s, a in zip(shared, expected.predicted_area) if a]


def test_outline_of_pieces():
    mask = np.zeros((10, 12), bool)
    mask[1:4, 1:4] = mask[6:9, 5:11] = True
    pieces = outline(mask, left=100, top=50)
    assert sorted(map(sorted, [zip(p[::2], p[1::2]) for p in pieces])) == [
        sorted([(101, 51), (101, 53), (103, 53), (103, 51)]),
        sorted([(105, 56), (105, 58), (110, 58), (110, 56)]),
    ]
