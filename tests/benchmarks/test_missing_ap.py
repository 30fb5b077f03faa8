"""The oracles, on one image of three objects."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from benchmarks.missing_ap import ORACLES, Predictions, main
from objguided_d2.utils.rle import encode_mask
from tests.data.sources import random_image, write


def square(x, side):
    mask = np.zeros((20, 60), bool)
    mask[2 : 2 + side, x : x + side] = True
    return encode_mask(mask)


@pytest.fixture
def image():
    """Objects at x = 0, 20 and 40. One found well and once more by half, one missed, one by half, one nowhere."""
    truth = [{"image_id": 1, "category_id": 1, "segmentation": square(x, 10)} for x in (0, 20, 40)]
    results = [
        {"image_id": 1, "category_id": 1, "segmentation": square(x, side), "score": score}
        for x, side, score in ((0, 9, 0.5), (0, 7, 0.9), (40, 7, 0.8), (52, 4, 0.7))
    ]
    iou = np.array([[0.81, 0, 0], [0.49, 0, 0], [0, 0, 0.49], [0, 0, 0]])
    return Predictions(results, truth, iou)


def scores(results):
    return [result["score"] for result in results]


def test_each_oracle_repairs_one_thing(image):
    repaired = {name: oracle(image) for name, oracle in ORACLES.items()}
    assert repaired["as predicted"] == image.results
    assert scores(repaired["true scores"]) == [0.81, 0.49, 0.49, 0]
    masks = [result["segmentation"] for result in repaired["true masks"]]
    assert masks == [square(0, 10), square(0, 7), square(40, 10), square(52, 4)]
    assert scores(repaired["no spurious"]) == [0.5, 0.9, 0.8]
    assert scores(repaired["no duplicates"]) == [0.5, 0.8, 0.7]
    assert repaired["nothing missed"][4:] == [{**image.truth[1], "score": 0.0}]
    assert repaired["nothing missed"][:4] == image.results


def test_an_image_without_predictions_or_objects_is_repaired_too(image):
    for empty in (Predictions([], image.truth, np.zeros((0, 3))), Predictions(image.results, [], np.zeros((4, 0)))):
        for name, oracle in ORACLES.items():
            expected = {"no spurious": 0, "nothing missed": 3}.get(name, 0) if not empty.results else 4
            assert len(oracle(empty)) == (0 if empty.results and name == "no spurious" else expected)


def test_a_prepared_dataset_is_known_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    mask = {"segmentation": square(3, 10), "category_id": 1, "image_id": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 60}],
        "annotations": [{**mask, "id": 1, "iscrowd": 0, "area": 100, "bbox": [3, 2, 10, 10]}],
        "categories": [{"id": 1, "name": "cell"}],
    }
    write(tmp_path / "my_plates" / "annotations" / "my_plates_val.json", content)
    write(tmp_path / "my_plates" / "val" / "a.png", random_image())
    results = write(tmp_path / "results.json", [{**mask, "score": 0.9}])
    main([str(results), "--dataset", "my_plates_val", "--output", str(tmp_path / "missing_ap.md")])
    assert "as predicted" in (tmp_path / "missing_ap.md").read_text()
    DatasetCatalog.remove("my_plates_val")
    MetadataCatalog.remove("my_plates_val")
