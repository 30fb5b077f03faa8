"""The evaluators on datasets of rectangles: same predictions in, the numbers that the rules of each protocol give."""

import json
import logging

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils import logger as detectron2_logger

from objguided_d2.config import get_cfg
from objguided_d2.evaluation import build_evaluator, instance_evaluators
from objguided_d2.evaluation.coco import LIBRARIES
from objguided_d2.utils.rle import encode_masks
from tests.evaluation.rectangles import rectangle_instances, rectangle_mask, rectangle_record

COCO_METRICS = {"AP", "AP50", "AP75", "APs", "APm", "APl"}


def config(evaluators=("coco", "voc2010"), limit=100):
    cfg = get_cfg()
    cfg.TEST.EVALUATORS = list(evaluators)
    cfg.TEST.DETECTIONS_PER_IMAGE = limit
    return cfg


def evaluate(name, instances_by_image, folder, **options):
    evaluator = build_evaluator(config(**options), name, str(folder))
    evaluator.reset()
    for image_id, instances in instances_by_image.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


def perfect(record):
    rows = [(tuple(a["bbox"]), a["category_id"], 0.5 + 0.001 * k) for k, a in enumerate(record["annotations"])]
    return rectangle_instances(rows, record["height"], record["width"])


def grid_record(image_id, count):
    """``count`` objects of 4 x 4 pixels."""
    boxes = [(5 * (k % 18), 5 * (k // 18), 5 * (k % 18) + 4, 5 * (k // 18) + 4) for k in range(count)]
    return rectangle_record(image_id, [(box, 0) for box in boxes])


def test_perfect_predictions_give_100_everywhere(register, tmp_path):
    records = [
        rectangle_record(1, [((0, 0, 8, 8), 0), ((20, 5, 60, 45), 1)]),
        rectangle_record(2, [((3, 3, 50, 50), 0)]),
        rectangle_record(3, []),
    ]
    results = evaluate(register(records, ("cell", "nucleus")), {r["image_id"]: perfect(r) for r in records}, tmp_path)
    assert results.keys() == {"bbox", "segm", "voc_seg", "voc_dec"}
    assert results["segm"].keys() == COCO_METRICS | {"AP-cell", "AP-nucleus"}
    names = {f"AP{t}" for t in range(50, 100, 5)}
    assert results["voc_seg"].keys() == names | {"AP", "AP-cell", "AP-nucleus"}
    for task, metrics in results.items():
        undefined = {"APl"} if task in ("bbox", "segm") else set()
        assert {name for name, value in metrics.items() if np.isnan(value)} == undefined
        assert [v for name, v in metrics.items() if name not in undefined] == pytest.approx(
            [100] * (len(metrics) - len(undefined))
        )


def test_voc_averages_over_classes_that_have_objects(register, tmp_path):
    record = rectangle_record("a", [((0, 0, 8, 8), 0), ((20, 5, 40, 25), 2)])
    name = register([record], ("cell", "absent", "nucleus"))
    predicted = rectangle_instances([((0, 0, 8, 8), 0, 0.9), ((60, 0, 70, 9), 1, 0.8)])
    results = evaluate(name, {"a": predicted}, tmp_path, evaluators=["voc2010"])
    assert results["voc_seg"]["AP"] == pytest.approx(50)
    assert {k: v for k, v in results["voc_dec"].items() if k.startswith("AP-")} == {"AP-cell": 100, "AP-nucleus": 0}


def test_boxes_and_masks_are_judged_apart(register, tmp_path):
    name = register([rectangle_record(1, [((0, 0, 10, 10), 0)])])
    # The box is right, the mask covers 6 of its 10 columns: IoU 0.6 passes at 0.50, 0.55 and 0.60.
    predicted = rectangle_instances([((0, 0, 10, 10), 0, 0.9)])
    predicted.pred_masks = torch.from_numpy(rectangle_mask((0, 0, 6, 10)))[None]
    results = evaluate(name, {1: predicted}, tmp_path)
    assert results["voc_dec"]["AP"] == pytest.approx(100)
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["voc_seg"]["AP"] == pytest.approx(30)
    assert [results["voc_seg"][f"AP{t}"] for t in (50, 60, 65)] == [100, 100, 0]
    assert results["segm"]["AP"] == pytest.approx(30)


def test_ap_is_computed_at_the_raised_limit(register, tmp_path):
    record = grid_record(1, 150)
    name = register([record])
    raised = evaluate(name, {1: perfect(record)}, tmp_path, limit=500)
    for task in ("bbox", "segm"):
        assert [raised[task][m] for m in ("AP", "AP50", "AP75", "APs")] == pytest.approx([100] * 4)
    default = evaluate(name, {1: perfect(record)}, tmp_path, limit=100)
    for task in ("bbox", "segm"):
        # Recall ends at 100 / 150: 67 of the 101 recalls 0, 0.01, ... 1 are reached.
        assert [default[task][m] for m in ("AP", "AP50", "AP75", "APs")] == pytest.approx([100 * 67 / 101] * 4)


def test_size_metrics_at_the_raised_limit(register, tmp_path):
    height, width, side = 400, 1000, 40
    boxes = [(side * (k % 25), side * (k // 25), side * (k % 25 + 1), side * (k // 25 + 1)) for k in range(120)]
    boxes += [(0, 250, 100, 350), (200, 250, 300, 350)]
    record = rectangle_record(1, [(box, 0) for box in boxes], height, width)
    # Large objects have the lowest scores, so that a limit of 100 loses them.
    predicted = rectangle_instances([(box, 0, 0.9 - 0.001 * k) for k, box in enumerate(boxes)], height, width)
    name = register([record])
    assert evaluate(name, {1: predicted}, tmp_path, evaluators=["coco"], limit=500)["segm"]["APl"] == pytest.approx(100)
    assert evaluate(name, {1: predicted}, tmp_path, evaluators=["coco"], limit=500)["bbox"]["APm"] == pytest.approx(100)
    assert evaluate(name, {1: predicted}, tmp_path, evaluators=["coco"], limit=100)["segm"]["APl"] == 0


def test_limit_under_ten_holds(register, tmp_path):
    record = grid_record(1, 8)
    results = evaluate(register([record]), {1: perfect(record)}, tmp_path, evaluators=["coco"], limit=4)
    assert results["segm"]["AP"] == pytest.approx(100 * 51 / 101)


def test_images_above_the_limit_are_named_once(register, tmp_path, caplog):
    detectron2_logger._LOG_COUNTER.clear()
    name = register([grid_record(1, 12), grid_record(2, 14), grid_record(3, 10)])
    with caplog.at_level(logging.WARNING, logger="objguided_d2"):
        for _ in range(2):
            build_evaluator(config(limit=10), name, str(tmp_path))
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "2 image(s)" in warnings[0] and "at most 14 (image 'image_2.png')" in warnings[0]
    caplog.clear()
    build_evaluator(config(limit=14), name, str(tmp_path))
    assert not caplog.records


@pytest.mark.parametrize("classes", [("cell",), ("cell", "nucleus")])
def test_no_predictions_give_zero_and_the_reason(register, tmp_path, caplog, classes):
    records = [rectangle_record(1, [((0, 0, 8, 8), 0)]), rectangle_record(2, [])]
    name = register(records, classes)
    with caplog.at_level(logging.WARNING, logger="objguided_d2"):
        results = evaluate(name, {1: rectangle_instances([]), 2: rectangle_instances([])}, tmp_path)
    for metrics in results.values():
        assert metrics["AP"] == metrics["AP50"] == metrics["AP75"] == 0
    # As with predictions: sizes and classes without objects stay undefined.
    with_predictions = evaluate(name, {1: rectangle_instances([((40, 40, 50, 50), 0, 0.9)])}, tmp_path)
    assert {t: m.keys() for t, m in results.items()} == {t: m.keys() for t, m in with_predictions.items()}
    np.testing.assert_equal(results["segm"], with_predictions["segm"])
    assert json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".pth"] == []
    assert sum("no predictions for any image" in record.getMessage() for record in caplog.records) == 2


@pytest.mark.parametrize("detections", [[], [((0, 0, 8, 8), 0, 0.9)]])
def test_no_objects_give_zero_and_the_reason(register, tmp_path, caplog, detections):
    name = register([rectangle_record(1, []), rectangle_record(2, [((0, 0, 30, 30), 0, 1)])])
    with caplog.at_level(logging.WARNING, logger="objguided_d2"):
        results = evaluate(name, {1: rectangle_instances(detections)}, tmp_path)
    assert all(value == 0 for metrics in results.values() for value in metrics.values())
    assert sum("no objects in any image" in record.getMessage() for record in caplog.records) == 2


def test_dataset_without_any_annotation_gives_zero(register, tmp_path):
    results = evaluate(register([rectangle_record(1, [])]), {1: rectangle_instances([])}, tmp_path)
    assert results.keys() == {"bbox", "segm", "voc_seg", "voc_dec"}
    assert all(value == 0 for metrics in results.values() for value in metrics.values())


def test_crowd_is_ignored_by_both_protocols(register, tmp_path):
    name = register([rectangle_record(1, [((0, 0, 10, 10), 0), ((40, 0, 90, 60), 0, 1)])])
    predicted = rectangle_instances([((50, 10, 60, 20), 0, 0.9), ((0, 0, 10, 10), 0, 0.5)])
    results = evaluate(name, {1: predicted}, tmp_path)
    assert {task: metrics["AP"] for task, metrics in results.items()} == pytest.approx(
        {"bbox": 100, "segm": 100, "voc_seg": 100, "voc_dec": 100}
    )


def test_order_of_images_and_predictions_does_not_matter(register, tmp_path):
    generator = np.random.default_rng(0)
    records, predicted = [], {}
    for image_id in range(6):
        boxes = [tuple(int(v) for v in (x, y, x + 12, y + 9)) for x, y in generator.integers(0, 48, (5, 2))]
        records.append(rectangle_record(image_id, [(box, 0) for box in boxes]))
        moved = [(box[0] + int(generator.integers(0, 4)), *box[1:]) for box in boxes]
        predicted[image_id] = rectangle_instances([(box, 0, float(generator.random())) for box in moved])
    name = register(records)
    forward = evaluate(name, predicted, tmp_path)
    backward = evaluate(
        name, {i: predicted[i][torch.arange(len(predicted[i])).flip(0)] for i in reversed(range(6))}, tmp_path
    )
    assert 0 < forward["voc_seg"]["AP"] < 100
    np.testing.assert_equal(backward, forward)


def test_dataset_category_ids_are_mapped_to_classes(register, tmp_path):
    record = rectangle_record(1, [((0, 0, 8, 8), 0), ((20, 5, 60, 45), 1)])
    name = register([record], ("cell", "nucleus"))
    MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id = {7: 0, 3: 1}
    results = evaluate(name, {1: perfect(record)}, tmp_path)
    assert {task: metrics["AP"] for task, metrics in results.items()} == pytest.approx(
        {"bbox": 100, "segm": 100, "voc_seg": 100, "voc_dec": 100}
    )


def test_coco_file_with_polygons_that_no_loader_has_read(tmp_path):
    annotation = {"id": 1, "image_id": 5, "category_id": 9, "bbox": [10, 10, 20, 30], "area": 600, "iscrowd": 0}
    annotation["segmentation"] = [[10, 10, 30, 10, 30, 40, 10, 40]]
    image = {"id": 5, "file_name": "image_5.png", "height": 60, "width": 90}
    content = {"images": [image], "annotations": [annotation], "categories": [{"id": 9, "name": "cell"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    name = "rectangles_as_polygons"
    register_coco_instances(name, {}, str(tmp_path / "annotations.json"), str(tmp_path))
    try:
        results = evaluate(name, {5: rectangle_instances([((10, 10, 30, 40), 0, 0.9)])}, tmp_path)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert {task: metrics["AP"] for task, metrics in results.items()} == pytest.approx(
        {"bbox": 100, "segm": 100, "voc_seg": 100, "voc_dec": 100}
    )


def test_annotations_of_an_earlier_run_are_replaced(register, tmp_path):
    record = rectangle_record(1, [((0, 0, 8, 8), 0)])
    name = register([record])
    (tmp_path / f"{name}_coco_format.json").write_text(
        json.dumps({"images": [], "annotations": [], "categories": [{"id": 0, "name": "cell"}]})
    )
    assert evaluate(name, {1: perfect(record)}, tmp_path)["segm"]["AP"] == pytest.approx(100)


class CountingMasks:
    """Masks that encode themselves, as those of a model."""

    def __init__(self, masks):
        self.masks, self.calls = masks, 0

    def to_rle(self):
        self.calls += 1
        rles = encode_masks(self.masks)
        return [{**rle, "counts": rle["counts"].encode()} for rle in rles]

    def __len__(self):
        return len(self.masks)


def test_masks_are_encoded_once_and_predictions_stay_as_they_were(register, tmp_path):
    record = rectangle_record(1, [((0, 0, 8, 8), 0), ((20, 5, 60, 45), 0)])
    name = register([record])
    plain = perfect(record)
    encoded = perfect(record)
    encoded.pred_masks = masks = CountingMasks(plain.pred_masks)
    np.testing.assert_equal(evaluate(name, {1: encoded}, tmp_path), evaluate(name, {1: plain}, tmp_path))
    assert masks.calls == 1
    assert encoded.pred_masks is masks and plain.has("pred_masks")


def test_freed_memory_goes_back_every_eight_images(register, tmp_path, monkeypatch):
    released = []
    monkeypatch.setattr(instance_evaluators, "release_freed_memory", lambda: released.append(len(evaluator._seen)))
    records = [rectangle_record(image_id, []) for image_id in range(1, 27)]
    evaluator = build_evaluator(config(), register(records), str(tmp_path))
    evaluator.reset()
    # Batches may skip a multiple of eight.
    for batch in (records[:3], records[3:9], records[9:25], records[25:]):
        evaluator.process(batch, [{"instances": perfect(record)} for record in batch])
    assert released == [9, 25]


def test_bad_predictions_name_the_image(register, tmp_path):
    name = register([rectangle_record(1, [((0, 0, 8, 8), 0)])])

    def voc(predicted):
        return evaluate(name, predicted, tmp_path, evaluators=["voc2010"])

    with pytest.raises(ValueError, match=r"'image_1.png' is \(60, 90\) .* mask \(30, 30\)"):
        voc({1: rectangle_instances([((0, 0, 8, 8), 0, 0.9)], 30, 30)})
    with pytest.raises(ValueError, match="Image 2 is not in"):
        voc({2: rectangle_instances([])})
    with pytest.raises(ValueError, match="'image_1.png': scores of the predictions are not all finite"):
        voc({1: rectangle_instances([((0, 0, 8, 8), 0, float("nan"))])})
    with pytest.raises(ValueError, match="'image_1.png': a predicted class is 1, the dataset has 1 class"):
        voc({1: rectangle_instances([((0, 0, 8, 8), 1, 0.9)])})
    without_masks = rectangle_instances([])
    without_masks.remove("pred_masks")
    with pytest.raises(ValueError, match="no pred_masks"):
        voc({1: without_masks})
    evaluator = build_evaluator(config(["voc2010"]), name, str(tmp_path))
    evaluator.process([{"image_id": 1}], [{"instances": rectangle_instances([])}])
    with pytest.raises(ValueError, match="Image 1 was evaluated twice"):
        evaluator.process([{"image_id": 1}], [{"instances": rectangle_instances([])}])
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": rectangle_instances([])}])


def test_object_without_mask_is_named(register, tmp_path):
    record = rectangle_record(1, [((0, 0, 8, 8), 0)])
    del record["annotations"][0]["segmentation"]
    with pytest.raises(ValueError, match="annotation 1 of image 'image_1.png' has no 'segmentation'"):
        build_evaluator(config(), register([record]), str(tmp_path))


@pytest.mark.parametrize("names", [["voc2012"], ["coco", "voc2012"], []])
def test_unknown_evaluator_names_the_key_and_the_choices(names):
    with pytest.raises(ValueError, match=r"TEST.EVALUATORS .* \['boundary', 'coco', .*'voc2010'\]"):
        build_evaluator(config(names), "unused")


def test_unknown_coco_library_names_the_key_and_the_choices():
    cfg = config()
    cfg.TEST.COCO_EVAL = "coco"
    with pytest.raises(
        ValueError, match=r"TEST.COCO_EVAL is 'coco'; choose one of \['faster_coco_eval', 'pycocotools'\]"
    ):
        build_evaluator(cfg, "unused")


@pytest.mark.parametrize("library", ["faster_coco_eval", "pycocotools"])
def test_coco_library_is_the_configured_one(register, tmp_path, monkeypatch, library):
    used = []
    for name, kind in LIBRARIES.items():
        monkeypatch.setitem(LIBRARIES, name, lambda *args, name=name, kind=kind: used.append(name) or kind(*args))
    record = grid_record("a", 8)
    cfg = config(["coco"])
    cfg.TEST.COCO_EVAL = library
    evaluator = build_evaluator(cfg, register([record]), str(tmp_path))
    evaluator.reset()
    evaluator.process([{"image_id": "a"}], [{"instances": perfect(record)}])
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)
    assert used == [library, library]


def test_limit_must_be_positive():
    with pytest.raises(ValueError, match="TEST.DETECTIONS_PER_IMAGE is -1"):
        build_evaluator(config(limit=-1), "unused")


def test_unknown_dataset_is_an_error(tmp_path):
    with pytest.raises(KeyError, match="no_such_dataset"):
        build_evaluator(config(), "no_such_dataset", str(tmp_path))


def test_default_folder_is_under_the_output_directory(register, tmp_path):
    cfg = config()
    cfg.OUTPUT_DIR = str(tmp_path)
    name = register([rectangle_record(1, [((0, 0, 8, 8), 0)])])
    evaluator = build_evaluator(cfg, name)
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": rectangle_instances([((0, 0, 8, 8), 0, 0.75)])}])
    evaluator.evaluate()
    (result,) = json.loads((tmp_path / "inference" / name / "coco_instances_results.json").read_text())
    assert result["bbox"] == [0, 0, 8, 8] and result["score"] == 0.75 and result["segmentation"]["size"] == [60, 90]


@pytest.mark.parametrize(
    ("scores", "advice"),
    [
        ((0.9, 0.8), None),
        # Nothing from the threshold on; a false detection under the true ones.
        ((0.2, 0.15), "F1 at IoU 0.5 is 0.0 for instances from TEST.LABEL_MAP_SCORE_THRESH 0.3 on"),
        # Half of the objects.
        ((0.9, 0.15), "from 0.14 on it is 100.0"),
    ],
)
def test_a_score_threshold_far_from_the_best_is_told(register, tmp_path, caplog, scores, advice):
    boxes = [(0, 0, 10, 10), (20, 20, 40, 40)]
    name = register([rectangle_record(1, [(box, 0) for box in boxes])])
    detections = [(box, 0, score) for box, score in zip(boxes, scores)] + [((50, 0, 60, 9), 0, 0.06)]
    with caplog.at_level(logging.WARNING):
        evaluate(name, {1: rectangle_instances(detections)}, tmp_path, evaluators=["coco"])
    assert (advice in caplog.text) if advice else "LABEL_MAP_SCORE_THRESH" not in caplog.text
