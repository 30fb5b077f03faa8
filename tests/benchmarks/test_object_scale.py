"""Predictions of images scaled by the size of their objects."""

import json
from dataclasses import replace

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from benchmarks.object_scale import WAYS, coco_results, main, predict, without_threshold
from objguided_d2 import Predictor
from objguided_d2.data import register_objguided_instances
from objguided_d2.data.converters.coco_writer import CocoWriter
from objguided_d2.samples import nuclei

DATASET = "object_scale_nuclei"


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained("nuclei", device="cpu")


@pytest.fixture
def sample(tmp_path):
    sample = min(nuclei(), key=lambda one: one.labels.size)
    writer = CocoWriter(tmp_path / "val", ["nucleus"])
    image = sample.image if sample.image.ndim == 3 else np.repeat(sample.image[..., None], 3, axis=2)
    writer.add("nuclei", image, [sample.labels == k for k in np.unique(sample.labels)[1:]])
    writer.write_json(tmp_path / "nuclei.json")
    register_objguided_instances(DATASET, str(tmp_path / "nuclei.json"), str(tmp_path / "val"))
    yield sample
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


def test_ap_and_results_of_every_way(sample, tmp_path, capsys):
    assert main(["--dataset", DATASET, "--output", str(tmp_path / "out")]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    found = {row[1]: (float(row[3]), json.loads((tmp_path / "out" / f"{row[1]}.json").read_text())) for row in rows}
    assert list(found) == list(WAYS) and all(ap > 40 for ap, _ in found.values())
    for _, results in found.values():
        assert min(result["score"] for result in results) < 0.3  # all that AP counts
        assert {result["image_id"] for result in results} == {1} == {result["category_id"] for result in results}
    assert found["config"][1] != found["own"][1]


def test_objects_get_the_size_of_the_training(predictor):
    true = np.array([10.0, 20.0, 60.0])
    image = np.zeros((64, 96), np.uint8)
    heights = {
        way: predict(predictor, without_threshold(predictor), image, arguments(true)).network_size[0]
        for way, arguments in WAYS.items()
        if way != "auto"
    }
    assert heights["own"] == 64 and heights["config"] == 640
    assert heights["true"] == pytest.approx(64 * predictor.info.object_diameter / 20, abs=1)
    assert WAYS["true"](true[:0]) == {}


def test_results_have_the_dataset_s_categories_and_whole_boxes(predictor, sample):
    prediction = predictor(sample.image)
    results = coco_results(prediction, 5, [7])
    assert len(results) == len(prediction) > 10
    for result, box, mask in zip(results, prediction.objects.boxes, prediction.objects.masks):
        assert (result["image_id"], result["category_id"]) == (5, 7)
        x0, y0, x1, y1 = box.tolist()
        assert result["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        whole = mask_util.decode(result["segmentation"]).astype(bool)
        assert whole.shape == sample.labels.shape and np.array_equal(whole[y0:y1, x0:x1], mask)


def test_a_model_without_the_size_of_its_objects_is_refused(sample, predictor, capsys, tmp_path, monkeypatch):
    unknown = Predictor(predictor.cfg, predictor.model, info=replace(predictor.info, object_diameter=None))
    monkeypatch.setattr(Predictor, "from_pretrained", lambda model: unknown)
    assert main(["--dataset", DATASET, "--output", str(tmp_path / "out")]) == 1
    assert "does not know the diameter" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--model", "no_such_model"], ["--dataset", "no_such_dataset"]])
def test_what_there_is_not_is_refused_in_one_line(sample, capsys, tmp_path, arguments):
    assert main(["--dataset", DATASET, *arguments, "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and arguments[1] in error and error.count("\n") == 1
