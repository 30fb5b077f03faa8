import base64

import cv2
import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from objguided_d2.report.runs import load_run, load_runs
from objguided_d2.report.viewer_data import outline, viewer_image, viewer_predictions
from tests.report.conftest import DATASET, SIZE
from tests.report.label_maps import compared_label_maps


def compared(run, ground_truth, image_id, score_threshold=0.0):
    metadata = MetadataCatalog.get(DATASET)
    return run.compared_image(image_id, ground_truth, metadata, limit=500, score_threshold=score_threshold)


def to_vertices(piece):
    """(V, 2) x, y."""
    return np.reshape(piece, (-1, 2)).cumsum(0)


def test_image(cells, tmp_path):
    _, ground_truth, paths = cells
    runs = load_runs(paths, DATASET, ground_truth)
    image = viewer_image([compared(run, ground_truth, 1) for run in runs], tmp_path / "val", max_side=32)
    num_objects = len(ground_truth.imgToAnns[1])
    assert image["areas"] == [121] * num_objects and len(image["truth"]) == num_objects
    assert [len(predictions["score"]) for predictions in image["predictions"]] == [num_objects, num_objects, 1]
    data = np.frombuffer(base64.b64decode(image["src"].split(",")[1]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (32, 32, 3)
    assert (image["width"], image["height"]) == (SIZE, SIZE)
    # Outlines are those of the original image.
    (piece,) = image["truth"][0]
    x, y, w, h = ground_truth.imgToAnns[1][0]["bbox"]
    vertices = to_vertices(piece)
    assert (*vertices.min(0), *vertices.max(0) + 1) == (x, y, x + w, y + h)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 0.9])
def test_overlaps_hold_for_every_score_threshold(cells, threshold):
    _, ground_truth, paths = cells
    run = load_run(paths[1], "x", DATASET, ground_truth)
    for image_id in ground_truth.imgs:
        expected = compared(run, ground_truth, image_id, threshold)
        found = viewer_predictions(compared(run, ground_truth, image_id))
        above = [i for i, score in enumerate(found["score"]) if score >= threshold]
        assert [found["area"][i] for i in above] == [a for a in expected.overlaps.predicted_area if a]
        shared = [[[g, n] for g, n in enumerate(row.tolist()) if n] for row in expected.overlaps.intersection]
        assert [found["overlaps"][i] for i in above] == [
            s for s, a in zip(shared, expected.overlaps.predicted_area) if a
        ]


@pytest.mark.parametrize("score, shown", [(0.3, 0.3), (0.2996, 0.299), (0.7, 0.7), (np.float32(0.3), 0.3), (1.0, 1.0)])
def test_scores_stay_on_their_side_of_a_threshold(score, shown):
    labels = np.ones((2, 2), int)
    predictions = viewer_predictions(compared_label_maps(labels, labels, scores=np.array([score])))
    assert predictions["score"] == [shown]


def test_objects_of_other_classes_are_left_out_and_crowd_regions_told():
    true = np.array([[1, 1, 2, 2, 0, 0, 0]])
    predicted = np.array([[0, 1, 1, 0, 0, 2, 2]])
    predictions = viewer_predictions(
        compared_label_maps(predicted, true, true_classes=[0, 1], crowd=np.arange(7)[None] > 3)
    )
    assert predictions["overlaps"] == [[[0, 1]], []] and predictions["in_crowd"] == [1]


def test_outline_of_pieces():
    mask = np.zeros((10, 12), bool)
    mask[1:4, 1:4] = mask[6:9, 5:11] = True
    pieces = outline(mask, left=100, top=50)
    assert sorted(sorted(map(tuple, to_vertices(piece).tolist())) for piece in pieces) == [
        sorted([(101, 51), (101, 53), (103, 53), (103, 51)]),
        sorted([(105, 56), (105, 58), (110, 58), (110, 56)]),
    ]
