import cv2
import numpy as np
import pytest

from objguided_d2.config import get_cfg
from objguided_d2.evaluation import build_evaluator
from objguided_d2.evaluation.fragments import FragmentsEvaluator, count_pieces, mean_width
from objguided_d2.utils.rle import encode_mask
from tests.evaluation.rectangles import rectangle_instances, rectangle_record

# Width 2, 6 and 20: thin, medium and thick.
LINE, BAR, SQUARE = (2, 2, 82, 4), (2, 10, 82, 16), (2, 30, 42, 50)


@pytest.fixture
def fragments(register, tmp_path):
    """The numbers of one image."""

    def evaluate(objects, detections, classes=("cell",), joined=()):
        name = register([rectangle_record(1, objects)], classes)
        cfg = get_cfg()
        cfg.TEST.EVALUATORS = ["fragments"]
        evaluator = build_evaluator(cfg, name, str(tmp_path))
        evaluator.reset()
        instances = rectangle_instances(detections)
        for first, second in joined:
            instances.pred_masks[first] |= instances.pred_masks[second]
        dropped = [second for _, second in joined]
        instances = instances[[k for k in range(len(instances)) if k not in dropped]]
        evaluator.process([{"image_id": 1}], [{"instances": instances}])
        return evaluator.evaluate()["fragments"]

    return evaluate


def test_pieces_touch_at_edges_or_corners():
    mask = np.zeros((6, 8), bool)
    assert count_pieces(mask) == 0
    mask[0, 0] = mask[1, 1] = True
    assert count_pieces(mask) == 1
    mask[3, 1] = mask[5, 7] = True
    assert count_pieces(mask) == 3


@pytest.mark.parametrize("width, expected", [(1, 2), (2, 2), (4, 4), (8, 8), (20, 20)])
def test_width_of_a_long_strip(width, expected):
    strip = np.ones((width, 2000), bool)
    assert mean_width(strip) == mean_width(strip.T) == pytest.approx(expected, rel=0.01)


def test_width_of_a_disk_and_of_a_cell_with_long_processes():
    disk = cv2.circle(np.zeros((220, 1220), np.uint8), (110, 110), 100, 1, -1)
    assert mean_width(disk > 0) == pytest.approx(200 * 2 / 3, rel=0.02)
    small = cv2.circle(np.zeros((220, 1220), np.uint8), (110, 110), 8, 1, -1)
    with_process = cv2.line(small.copy(), (110, 110), (1210, 110), 1, 2)
    assert mean_width(small > 0) > 8 and mean_width(with_process > 0) < 4
    assert mean_width(np.zeros((3, 3), bool)) == 0


def test_whole_objects_are_not_broken(fragments):
    result = fragments([(LINE, 0), (SQUARE, 0)], [(LINE, 0, 0.9), (SQUARE, 0, 0.8)])
    assert result["predicted"] == result["broken"] == result["broken_thin"] == result["predicted_thick"] == 0
    assert np.isnan(result["broken_medium"]) and np.isnan(result["predicted_medium"])


def test_an_instance_in_two_pieces_breaks_its_object(fragments):
    left, right = (2, 2, 40, 4), (44, 2, 82, 4)
    result = fragments(
        [(LINE, 0), (BAR, 0), (SQUARE, 0)],
        [(left, 0, 0.9), (right, 0, 0.9), (BAR, 0, 0.8), (SQUARE, 0, 0.8)],
        joined=[(0, 1)],
    )
    assert result["predicted"] == result["broken"] == pytest.approx(1000 / 3)
    assert result["predicted_thin"] == result["broken_thin"] == 1000
    assert result["broken_medium"] == result["broken_thick"] == 0


def test_an_object_covered_by_two_instances_is_broken_whether_paired_or_not(fragments):
    halves = [((2, 2, 40, 4), 0, 0.9), ((44, 2, 82, 4), 0, 0.9)]
    large, small = ((2, 30, 32, 50), 0, 0.9), ((36, 30, 42, 50), 0, 0.9)
    result = fragments([(LINE, 0), (SQUARE, 0)], [*halves, large, small])
    assert result["predicted"] == 0 and result["broken"] == result["broken_thin"] == result["broken_thick"] == 1000


def test_a_missed_object_and_a_neighbor_that_reaches_in_break_nothing(fragments):
    # The second instance has 10 of its 25 columns in the object.
    result = fragments([(SQUARE, 0), (LINE, 0)], [((2, 30, 32, 50), 0, 0.9), ((32, 30, 57, 50), 0, 0.9)])
    assert result["broken"] == result["predicted"] == 0


def test_an_instance_of_which_just_half_lies_in_an_object_breaks_nothing(fragments):
    detections = [((2, 30, 32, 50), 0, 0.9), ((32, 30, 52, 50), 0, 0.9)]
    assert fragments([(SQUARE, 0)], detections)["broken"] == 0
    detections[1] = ((32, 30, 51, 50), 0, 0.9)
    assert fragments([(SQUARE, 0)], detections)["broken"] == 1000


def test_pieces_that_cover_less_than_half_of_an_object_miss_it(fragments):
    left, right = (2, 2, 20, 4), (30, 2, 46, 4)
    result = fragments([(LINE, 0)], [(left, 0, 0.9), (right, 0, 0.9)], joined=[(0, 1)])
    assert result["broken"] == 0 and result["predicted"] == 1000


def test_widths_begin_at_their_lower_bounds():
    broken = np.array([[3.99, 1], [4.0, 0], [7.99, 1], [8.0, 1]])
    result = object.__new__(FragmentsEvaluator).summarize([(np.zeros((0, 2)), broken)])
    assert [result[f"broken_{width}"] for width in ("thin", "medium", "thick")] == [1000, 500, 1000]
    assert result["broken"] == 750


def test_an_instance_of_another_class_breaks_nothing(fragments):
    detections = [((2, 30, 32, 50), 0, 0.9), ((36, 30, 42, 50), 1, 0.9)]
    assert fragments([(SQUARE, 0)], detections, ("cell", "nucleus"))["broken"] == 0


def test_an_object_in_two_pieces_found_in_two_pieces_is_not_broken(register, tmp_path):
    record = rectangle_record(1, [(LINE, 0)])
    whole = rectangle_instances([((2, 2, 40, 4), 0, 0.9), ((44, 2, 82, 4), 0, 0.9)])
    whole.pred_masks[0] |= whole.pred_masks[1]
    record["annotations"][0]["segmentation"] = encode_mask(whole.pred_masks[0].numpy())
    cfg = get_cfg()
    cfg.TEST.EVALUATORS = ["fragments"]
    evaluator = build_evaluator(cfg, register([record]), str(tmp_path))
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": whole[:1]}])
    result = evaluator.evaluate()["fragments"]
    assert result["broken"] == 0 and result["predicted"] == 1000


def test_pieces_in_a_crowd_do_not_count_and_nothing_at_all_gives_zero(fragments):
    crowd = ((40, 20, 90, 60), 0, 1)
    detections = [(LINE, 0, 0.9), ((45, 25, 50, 30), 0, 0.8), ((60, 25, 65, 30), 0, 0.8)]
    assert fragments([(LINE, 0), crowd], detections, joined=[(1, 2)])["predicted"] == 0
    nothing = fragments([], [])
    assert nothing["predicted"] == nothing["broken"] == 0 and np.isnan(nothing["broken_thin"])
