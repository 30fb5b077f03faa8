"""Two settings, two seeds each, on three small images: one setting finds the objects, the other ones beside them."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from benchmarks.paired_seeds import compare, main, measure
from objguided_d2.data import register_objguided_instances
from objguided_d2.data.converters.coco_writer import CocoWriter
from objguided_d2.evaluation.boundary import boundary_iou
from objguided_d2.evaluation.coco import evaluate_coco
from objguided_d2.evaluation.ground_truth import load_ground_truth
from objguided_d2.report.runs import load_run
from objguided_d2.utils.rle import encode_mask

DATASET = "paired_cells_val"
DISTANCE = 2


def rectangle(top, left, height, width, shift=0):
    mask = np.zeros((48, 64), bool)
    mask[top : top + height, left + shift : left + width + shift] = True
    return mask


# A thin strip, a square, and one of each.
IMAGES = [[(5, 4, 3, 40)], [(10, 10, 24, 24)], [(2, 20, 2, 30), (20, 30, 20, 16)]]


def results(shifts):
    """Each object, moved to the right by a number of pixels for each image; later ones have lower scores."""
    found = []
    for image_id, (objects, shift) in enumerate(zip(IMAGES, shifts), start=1):
        for number, object_ in enumerate(objects):
            rle = encode_mask(rectangle(*object_, shift=shift))
            box = mask_util.toBbox(rle).tolist()
            one = {"image_id": image_id, "category_id": 1, "bbox": box, "segmentation": rle}
            found.append({**one, "score": 0.9 - 0.1 * image_id - 0.05 * number})
    return found


@pytest.fixture
def dataset(tmp_path):
    writer = CocoWriter(tmp_path / "val", ["cell"])
    for number, objects in enumerate(IMAGES):
        writer.add(f"image{number}", np.zeros((48, 64, 3), np.uint8), [rectangle(*one) for one in objects])
    writer.write_json(tmp_path / "cells.json")
    register_objguided_instances(DATASET, str(tmp_path / "cells.json"), str(tmp_path / "val"))
    DatasetCatalog.get(DATASET)
    yield load_ground_truth(DATASET, str(tmp_path))
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


def write_run(path, shifts):
    path.write_text(json.dumps(results(shifts)))
    return path


def measured(path, truth):
    run = load_run(path, path.stem, DATASET, truth)
    return measure(run, truth, MetadataCatalog.get(DATASET), limit=100, boundary_distance=DISTANCE)


def test_numbers_are_those_of_the_evaluators(tmp_path, dataset):
    shifts = (1, 3, 4)
    values = measured(write_run(tmp_path / "run.json", shifts), dataset).resampled(np.ones((1, 3), int))
    stats = evaluate_coco(dataset, results(shifts), "segm", limit=100).stats
    assert [values[name][0] for name in ("AP", "AP50", "AP75")] == pytest.approx(100 * np.array(stats[:3]))

    each = [
        boundary_iou(rectangle(*one, shift=shift), rectangle(*one), DISTANCE)
        for objects, shift in zip(IMAGES, shifts)
        for one in objects
    ]
    assert values["boundary IoU, 4 objects"] == pytest.approx(100 * np.mean(each))
    assert values["boundary IoU, 2 thin objects"] == pytest.approx(100 * np.mean([each[0], each[2]]))
    assert values["boundary IoU, 2 thick objects"] == pytest.approx(100 * np.mean([each[1], each[3]]))
    assert np.isnan(values["boundary IoU, 0 medium objects"])


def test_f1_and_broken_objects(tmp_path, dataset):
    halves = [rectangle(10, 10, 24, 10), rectangle(10, 22, 24, 12)]  # Of the square in the second image.
    found = [result for result in results((0, 0, 30)) if result["image_id"] != 2]
    for mask in halves:
        rle = encode_mask(mask)
        found.append({"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1], "segmentation": rle, "score": 0.8})
    (tmp_path / "run.json").write_text(json.dumps(found))
    run = measured(tmp_path / "run.json", dataset)
    values = run.resampled(np.array([[1, 1, 1], [1, 1, 0], [0, 2, 0]]))
    # True: the first image's, and the square's right half at IoU 0.5. The third image's two are nowhere.
    assert run.threshold > 0.6
    assert values["F1 at 0.5"] == pytest.approx([100 * 4 / (3 + 4), 100 * 4 / (3 + 2), 100 * 4 / (4 + 2)])
    assert values["broken, per 1,000"] == pytest.approx([250, 500, 1000])


def test_an_image_counts_as_often_as_it_is_drawn(tmp_path, dataset):
    runs = [measured(write_run(tmp_path / f"{shift}.json", (shift, 3, 4)), dataset) for shift in (1, 30)]
    values = [run.resampled(np.array([[1, 1, 1], [0, 2, 1], [2, 0, 0]])) for run in runs]
    for name in ("AP", "boundary IoU, 4 objects"):
        first, second = (one[name] for one in values)
        assert first[0] > second[0]
        assert first[1] == pytest.approx(second[1])  # They differ on the first image alone.
        assert first[2] > second[2] == 0


def test_difference_interval_and_p_value(tmp_path, dataset):
    good = [measured(write_run(tmp_path / f"good{shift}.json", (shift, 0, shift)), dataset) for shift in (0, 1)]
    bad = [measured(write_run(tmp_path / f"bad{shift}.json", (6, shift, 6)), dataset) for shift in (6, 7)]
    compared = compare(good, bad, num_images=3)
    assert "boundary IoU, 0 medium objects" not in compared
    one = compared["AP"]
    assert one.first[0] == 100 and one.first[0] >= one.first[1] > one.second[0] >= one.second[1]
    assert one.difference == pytest.approx(np.mean(one.first) - np.mean(one.second))
    assert 0 < one.low <= one.difference <= one.high and one.p_value == pytest.approx(0.001)

    same = compare(good, good, num_images=3)["AP"]
    assert (same.low, same.difference, same.high, same.p_value) == (0, 0, 0, 1)


def test_seeds_that_disagree_widen_the_interval(tmp_path, dataset):
    best = measured(write_run(tmp_path / "best.json", (0, 0, 0)), dataset)
    worse = measured(write_run(tmp_path / "worse.json", (6, 6, 6)), dataset)
    one = compare([best, worse], [worse, best], num_images=3)["AP"]
    assert one.difference == 0 and one.low < 0 < one.high and one.p_value > 0.3


def test_command(tmp_path, dataset, capsys):
    paths = [str(write_run(tmp_path / f"{name}.json", (shift,) * 3)) for name, shift in (("a", 0), ("b", 4))]
    assert main(["--dataset", DATASET, "--first", paths[0], "--second", paths[1]]) == 0
    table = capsys.readouterr().out
    assert "| AP " in table and "100.00 (100.0)" in table

    assert main(["--dataset", DATASET, "--first", *paths, "--second", paths[1]]) == 1
    assert "--first has 2 runs and --second 1" in capsys.readouterr().err
    assert main(["--dataset", DATASET, "--first", paths[0], "--second", str(tmp_path / "none")]) == 1
    assert "none does not exist" in capsys.readouterr().err
    assert main(["--dataset", "no_such_set", "--first", paths[0], "--second", paths[1]]) == 1
    assert "no_such_set" in capsys.readouterr().err
