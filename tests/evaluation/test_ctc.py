"""Our frames against py-ctcmetrics reading the same label maps from files in the challenge's layout."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import tifffile
from ctc_metrics.scripts import evaluate as software

from objguided_d2.evaluation.ctc import det, match_frame, seg
from objguided_d2.evaluation.label_map import count_overlaps


def random_labels(rng, count, shape=(40, 50)):
    labels = np.zeros(shape, np.uint16)
    for label in range(1, count + 1):
        y, x, h, w = rng.integers(0, 32), rng.integers(0, 40), rng.integers(3, 9), rng.integers(3, 11)
        labels[y : y + h, x : x + w] = label
    return labels


def frame_of(predicted, true):
    true_labels = np.unique(true[true > 0])
    rles = [mask_util.encode(np.asfortranarray(true == label, dtype=np.uint8)) for label in true_labels]
    overlaps = count_overlaps(predicted, int(predicted.max()), rles)
    return match_frame(overlaps, overlaps.predicted_area == 0)


@pytest.mark.filterwarnings("ignore:Label . in res_track but not in mask")
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_challenge_software_on_files(tmp_path, seed):
    rng = np.random.default_rng(seed)
    frames = []
    for folder in ("GT/SEG", "GT/TRA", "RES"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(5):
        true = random_labels(rng, 8)
        predicted = np.roll(true, rng.integers(0, 4), axis=1)
        predicted[:, :20] = random_labels(rng, 8)[:, :20]
        frames.append(frame_of(predicted, true))
        tifffile.imwrite(tmp_path / "GT/SEG" / f"man_seg{number:03d}.tif", true)
        tifffile.imwrite(tmp_path / "GT/TRA" / f"man_track{number:03d}.tif", true)
        tifffile.imwrite(tmp_path / "RES" / f"mask{number:03d}.tif", predicted)
    for folder, name in (("GT/TRA", "man_track.txt"), ("RES", "res_track.txt")):
        (tmp_path / folder / name).write_text("".join(f"{label} 0 4 0\n" for label in range(1, 9)))
    _, _, tracks, segmentation, _, _ = software.load_data(
        str(tmp_path / "RES"), str(tmp_path / "GT"), True, True, threads=1
    )
    expected_seg = software.seg(segmentation["labels_ref"], segmentation["ious"])
    operations = software.count_acyclic_graph_correction_operations(
        None, None, *(tracks[key] for key in ("labels_ref", "labels_comp", "mapped_ref", "mapped_comp"))
    )
    assert 0 < expected_seg < 1
    assert seg(frames) == pytest.approx(expected_seg)
    assert det(frames) == pytest.approx(software.det(**operations))


def test_by_hand():
    true = np.zeros((20, 40), np.int32)
    true[2:12, 2:12], true[2:12, 20:30] = 1, 2
    predicted = np.zeros_like(true)
    predicted[2:12, 2:8] = 1  # covers 60 of 100 pixels of object 1
    predicted[2:12, 20:25] = 2  # covers half of object 2, which is not more than half
    frames = [frame_of(predicted, true)]
    assert seg(frames) == pytest.approx(0.6 / 2)
    # One false negative (10) and one false positive (1) of two to be marked (20).
    assert det(frames) == pytest.approx(1 - 11 / 20)


def test_one_prediction_for_two_objects_is_a_split_to_be_made():
    true = np.zeros((20, 40), np.int32)
    true[2:12, 2:12], true[2:12, 12:22] = 1, 2
    assert det([frame_of((true > 0).astype(np.int32), true)]) == pytest.approx(1 - 5 / 20)


def test_perfect_and_empty():
    true = random_labels(np.random.default_rng(0), 6).astype(np.int32)
    assert seg([frame_of(true, true)]) == det([frame_of(true, true)]) == 1
    nothing = np.zeros_like(true)
    assert seg([frame_of(nothing, true)]) == det([frame_of(nothing, true)]) == 0
    assert seg([frame_of(true, nothing)]) == det([frame_of(true, nothing)]) == 0


def test_ignored_prediction_is_absent_unless_it_has_a_pair():
    true = np.zeros((20, 40), np.int32)
    true[2:12, 2:12] = 1
    predicted = true.copy()
    predicted[15:18, 30:35] = 2
    rles = [mask_util.encode(np.asfortranarray(true == 1, dtype=np.uint8))]
    frame = match_frame(count_overlaps(predicted, 2, rles), np.array([True, True]))
    assert frame.labels_comp == [1] and det([frame]) == 1
