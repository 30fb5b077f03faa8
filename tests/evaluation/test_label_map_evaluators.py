"""The evaluators on label maps, on datasets of rectangles."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from detectron2.data import MetadataCatalog

from objguided_d2.config import get_cfg
from objguided_d2.evaluation import build_evaluator, definition_of
from objguided_d2.evaluation.boundary import boundary_f, boundary_iou
from objguided_d2.evaluation.build import EVALUATORS
from objguided_d2.profiling.evaluators import time_evaluators
from objguided_d2.utils.rle import encode_mask
from tests.evaluation.rectangles import HEIGHT, WIDTH, rectangle_instances, rectangle_mask, rectangle_record

TASKS = ["matching", "boundary", "leaf", "ctc"]


def evaluate(name, instances_by_image, folder, tasks=TASKS, **test_keys):
    cfg = get_cfg()
    cfg.TEST.EVALUATORS = tasks
    cfg.TEST.update(test_keys)
    evaluator = build_evaluator(cfg, name, str(folder))
    evaluator.reset()
    for image_id, instances in instances_by_image.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


A, B, C = (0, 0, 20, 20), (30, 10, 50, 40), (60, 30, 85, 55)


def test_perfect_predictions(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0), (B, 0)]), rectangle_record(2, [(C, 0)]), rectangle_record(3, [])])
    predicted = {1: [(A, 0, 0.9), (B, 0, 0.8)], 2: [(C, 0, 0.7)], 3: []}
    results = evaluate(name, {k: rectangle_instances(v) for k, v in predicted.items()}, tmp_path)
    matching = results["matching"]
    assert (matching["tp50"], matching["fp50"], matching["fn95"]) == (3, 0, 0)
    for measure in ("accuracy", "image_accuracy", "precision", "recall", "f1", "pq", "matched_iou"):
        assert matching[measure] == matching[f"{measure}95"] == 100
    assert results["leaf"] == {"SBD": 100, "DiC": 0, "|DiC|": 0, "FgBgDice": 100}
    assert results["ctc"] == {"SEG": 100, "DET": 100, "OP_CSB": 100}
    assert results["boundary"]["IoU"] == results["boundary"]["Fs"] == results["boundary"]["found"] == 100
    assert np.isnan(results["boundary"]["IoUl"])


def test_every_number_has_a_unique_definition(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0), (B, 1)])], ("cell", "nucleus"))
    results = evaluate(name, {1: rectangle_instances([(A, 0, 0.9)])}, tmp_path)
    definitions = [definition_of(task, metric) for task, metrics in results.items() for metric in metrics]
    assert all(definitions) and len(set(definitions)) == len(definitions)


def test_matching_by_hand(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0), (B, 0)]), rectangle_record(2, [(C, 0)])])
    # A is matched at IoU 0.8, B is a false negative, one is a false positive, one is under the score threshold; nothing
    # on image 2.
    predicted = rectangle_instances([((0, 0, 16, 20), 0, 0.9), ((70, 0, 80, 10), 0, 0.5), (B, 0, 0.2)])
    matching = evaluate(name, {1: predicted}, tmp_path, ["matching"])["matching"]
    assert (matching["tp80"], matching["tp85"], matching["fp80"], matching["fn80"]) == (1, 0, 1, 2)
    assert matching["accuracy50"] == pytest.approx(100 / 4)
    assert matching["accuracy"] == pytest.approx(100 / 4 * 7 / 10)
    assert matching["image_accuracy50"] == pytest.approx(100 * (1 / 3 + 0) / 2)
    assert matching["precision50"] == pytest.approx(50) and matching["recall50"] == pytest.approx(100 / 3)
    assert matching["matched_iou50"] == pytest.approx(80)
    assert matching["pq50"] == pytest.approx(matching["f150"] * 0.8)


def test_classes_are_matched_apart_and_averaged(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0), (B, 1)])], ("cell", "nucleus"))
    matching = evaluate(name, {1: rectangle_instances([(A, 0, 0.9), (B, 0, 0.9)])}, tmp_path, ["matching"])["matching"]
    assert matching["accuracy-cell"] == pytest.approx(50) and matching["accuracy-nucleus"] == 0
    assert matching["accuracy"] == pytest.approx(25)
    assert (matching["tp50"], matching["fp50"], matching["fn50"]) == (1, 1, 1)


def test_a_class_without_objects_counts_in_the_sums_alone(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0)])], ("cell", "nucleus"))
    matching = evaluate(name, {1: rectangle_instances([(A, 0, 0.9), (B, 1, 0.9)])}, tmp_path, ["matching"])["matching"]
    assert matching["accuracy"] == matching["precision"] == 100 and "accuracy-nucleus" not in matching
    assert (matching["tp50"], matching["fp50"]) == (1, 1)


def test_predictions_in_a_crowd_region_are_ignored(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0), ((40, 0, 90, 60), 0, 1)])])
    predicted = rectangle_instances(
        [(A, 0, 0.9), ((50, 10, 60, 20), 0, 0.9), ((35, 50, 44, 60), 0, 0.9), ((25, 0, 29, 9), 0, 0.9)]
    )
    results = evaluate(name, {1: predicted}, tmp_path)
    # The second lies in the crowd; the third only by 4 of its 9 columns; the fourth outside.
    assert (results["matching"]["tp50"], results["matching"]["fp50"]) == (1, 2)
    assert results["leaf"]["DiC"] == 2 and results["leaf"]["SBD"] == pytest.approx(100 / 3)
    assert results["ctc"]["DET"] == pytest.approx(100 * (1 - 2 / 10))


def test_overlap_goes_to_the_better_score_before_anything_is_measured(register, tmp_path):
    name = register([rectangle_record(1, [((0, 0, 20, 20), 0), ((20, 0, 40, 20), 0)])])
    predicted = rectangle_instances([((0, 0, 20, 20), 0, 0.9), ((10, 0, 40, 20), 0, 0.8)])
    assert evaluate(name, {1: predicted}, tmp_path, ["matching"])["matching"]["accuracy95"] == 100


def test_boundary_measures_pairs_and_counts_false_negatives_as_zero(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0), (B, 0), (C, 0)])])
    shifted = (2, 1, 22, 21)
    boundary = evaluate(name, {1: rectangle_instances([(shifted, 0, 0.9), (B, 0, 0.9)])}, tmp_path, ["boundary"])[
        "boundary"
    ]
    masks = rectangle_mask(shifted), rectangle_mask(A)
    iou, f = boundary_iou(*masks, 2), boundary_f(*masks, 2)
    assert boundary["found"] == pytest.approx(200 / 3)
    assert boundary["IoU"] == pytest.approx(100 * (iou + 1) / 3)
    assert boundary["matched_F"] == pytest.approx(100 * (f + 1) / 2)


def test_a_neighbor_inside_the_box_of_a_pair_is_no_part_of_it(register, tmp_path):
    objects, predicted = [A, (20, 0, 40, 20)], [(0, 0, 16, 20), (16, 0, 40, 23)]
    name = register([rectangle_record(1, [(box, 0) for box in objects])])
    instances = rectangle_instances([(box, 0, 0.9) for box in predicted])
    boundary = evaluate(name, {1: instances}, tmp_path, ["boundary"])["boundary"]
    pairs = [(rectangle_mask(one), rectangle_mask(other)) for one, other in zip(predicted, objects)]
    assert boundary["found"] == 100
    assert boundary["IoU"] == pytest.approx(50 * sum(boundary_iou(*pair, 2) for pair in pairs))
    assert boundary["F"] == pytest.approx(50 * sum(boundary_f(*pair, 2) for pair in pairs))


def test_pairs_and_sizes_begin_at_their_bounds(register, tmp_path):
    # Of 32 x 32 pixels, and found at an IoU of 1/2; of 24 x 20 pixels, and found at 11/24.
    name = register([rectangle_record(1, [((0, 0, 32, 32), 0), ((40, 0, 64, 20), 0)])])
    instances = rectangle_instances([((0, 0, 16, 32), 0, 0.9), ((40, 0, 51, 20), 0, 0.9)])
    boundary = evaluate(name, {1: instances}, tmp_path, ["boundary"])["boundary"]
    assert boundary["foundm"] == 100 and boundary["founds"] == 0 and boundary["found"] == 50


def test_counts_that_are_off_both_ways_cancel_in_the_difference_alone(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0), (B, 0)]), rectangle_record(2, [])])
    predicted = {1: rectangle_instances([(A, 0, 0.9)]), 2: rectangle_instances([(C, 0, 0.9)])}
    leaf = evaluate(name, predicted, tmp_path, ["leaf"])["leaf"]
    assert leaf["DiC"] == 0 and leaf["|DiC|"] == 1


def test_the_foreground_of_the_data_goes_before_the_union_of_its_leaves(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0)])])
    predicted = {1: rectangle_instances([(A, 0, 0.9)])}
    assert evaluate(name, predicted, tmp_path, ["leaf"])["leaf"]["FgBgDice"] == 100
    path = MetadataCatalog.get(name).json_file
    content = json.loads(Path(path).read_text())
    # With a stem of as many pixels as the leaf.
    content["images"][0]["foreground"] = encode_mask(rectangle_mask((0, 0, 40, 20)))
    Path(path).write_text(json.dumps(content))
    assert evaluate(name, predicted, tmp_path, ["leaf"])["leaf"]["FgBgDice"] == pytest.approx(100 * 2 / 3)


def test_ctc_writes_label_maps_and_takes_partial_frames_for_seg_alone(register, tmp_path):
    records = [rectangle_record(1, [(A, 0)]), rectangle_record(2, [(B, 0)])]
    name = register(records)
    predicted = {1: rectangle_instances([(A, 0, 0.9)]), 2: rectangle_instances([(B, 0, 0.9), (C, 0, 0.95)])}
    assert evaluate(name, predicted, tmp_path, ["ctc"])["ctc"]["DET"] == pytest.approx(100 * (1 - 1 / 20))
    label_map = tifffile.imread(tmp_path / "ctc" / "01_RES" / "mask001.tif")
    assert label_map.dtype == np.uint16 and label_map.shape == (HEIGHT, WIDTH)
    assert set(np.unique(label_map[10:40, 30:50])) == {1} and set(np.unique(label_map)) == {0, 1, 2}


def test_no_prediction_and_no_object(register, tmp_path):
    with_objects = register([rectangle_record(1, [(A, 0)])])
    results = evaluate(with_objects, {1: rectangle_instances([])}, tmp_path / "a")
    assert results["matching"]["accuracy"] == results["leaf"]["SBD"] == results["ctc"]["OP_CSB"] == 0
    assert results["boundary"]["IoU"] == results["boundary"]["found"] == 0
    assert results["leaf"]["DiC"] == -1 and results["leaf"]["|DiC|"] == 1
    without = register([rectangle_record(1, [])])
    results = evaluate(without, {1: rectangle_instances([(A, 0, 0.9)])}, tmp_path / "b")
    assert results["matching"]["accuracy"] == results["leaf"]["SBD"] == results["ctc"]["SEG"] == 0
    assert results["matching"]["fp50"] == results["leaf"]["DiC"] == 1


def test_objects_of_an_image_that_was_never_processed_are_false_negatives(register, tmp_path):
    name = register([rectangle_record(1, [(A, 0)]), rectangle_record(2, [(B, 0)])])
    results = evaluate(name, {1: rectangle_instances([(A, 0, 0.9)])}, tmp_path)
    assert results["matching"]["fn50"] == 1 and results["leaf"]["SBD"] == 50
    assert (tmp_path / "ctc" / "01_RES" / "mask001.tif").exists()


def test_invalid_distance_is_refused(register, tmp_path):
    with pytest.raises(ValueError, match="TEST.BOUNDARY_DISTANCE"):
        evaluate(register([rectangle_record(1, [(A, 0)])]), {}, tmp_path, BOUNDARY_DISTANCE=0)


def test_benchmark_runs_every_evaluator():
    seconds = time_evaluators(num_images=2, objects_per_image=10, size=64)
    assert seconds.keys() == EVALUATORS.keys() and all(value > 0 for value in seconds.values())
