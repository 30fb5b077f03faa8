import shutil

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from objguided_d2.config import get_cfg
from objguided_d2.data import register_objguided_instances
from objguided_d2.data.converters.ctc import convert_ctc, find_frames, merge_truths
from objguided_d2.data.intensity import IntensityMapping
from objguided_d2.data.source_error import SourceError
from objguided_d2.evaluation import build_evaluator
from tests.data.sources import labels, masks_of, random_image, read_split, write
from tests.evaluation.rectangles import rectangle_instances

CELLS = labels((2, 2, 10, 9), (12, 4, 30, 20), dtype=np.uint16)
SOME = np.where(CELLS == 2, CELLS, 0)


@pytest.fixture
def sequence(tmp_path):
    """Ten frames with silver truth; gold truth of all cells in frame 8, of some in frames 1 and 9."""
    root = tmp_path / "Fluo-N2DL-HeLa"
    for number in range(10):
        write(root / "01" / f"t{number:03d}.tif", random_image(24, 40, dtype=np.uint16))
        write(root / "01_ST" / "SEG" / f"man_seg{number:03d}.tif", CELLS)
    for number, gold in ((1, SOME), (8, CELLS), (9, SOME)):
        write(root / "01_GT" / "SEG" / f"man_seg{number:03d}.tif", gold)
    return root


def names(content):
    return [image["file_name"] for image in content["images"]]


def test_last_block_of_time_is_held_out_behind_a_gap(sequence, tmp_path):
    convert_ctc(sequence, tmp_path / "out" / "ctc", border=0)
    assert names(read_split(tmp_path / "out" / "ctc", "train")) == [f"01_t{n:04d}.png" for n in range(6)]
    content = read_split(tmp_path / "out" / "ctc", "val")
    assert names(content) == ["01_t0008.png", "01_t0009.png"]
    assert [(image["sequence"], image["frame"]) for image in content["images"]] == [("01", 8), ("01", 9)]
    assert content["info"] == {"intensity": "percentile:0.1,99.9"}
    # Both truths: the gold cell replaces its silver one, the other silver cell stays.
    assert sorted(mask.sum() for mask in masks_of(content, "01_t0009")) == sorted(
        [(CELLS == 1).sum(), (CELLS == 2).sum()]
    )


def test_16_bit_values_go_through_the_mapping(sequence, tmp_path):
    convert_ctc(sequence, tmp_path / "out" / "ctc", border=0, intensity="range:0,30000")
    image = cv2.imread(str(tmp_path / "out" / "ctc" / "train" / "01_t0000.png"))
    expected = IntensityMapping.parse("range:0,30000")(random_image(24, 40, dtype=np.uint16))
    assert np.array_equal(image, np.stack([expected] * 3, axis=2))


def test_partial_gold_truth_ignores_the_rest(sequence, tmp_path):
    convert_ctc(sequence, tmp_path / "out" / "ctc", val_truth="gold", border=0)
    content = read_split(tmp_path / "out" / "ctc", "val")
    complete, partial = content["images"]
    assert "partially_annotated" not in complete and partial["partially_annotated"] is True
    assert len(masks_of(content, "01_t0008")) == 2 and not masks_of(content, "01_t0008", crowd=1)
    (mask,), (crowd,) = masks_of(content, "01_t0009"), masks_of(content, "01_t0009", crowd=1)
    assert np.array_equal(mask, CELLS == 2) and np.array_equal(crowd, CELLS != 2)


def test_partial_frames_do_not_train(sequence, tmp_path, capsys):
    convert_ctc(sequence, tmp_path / "out" / "ctc", train_truth="gold", val_fraction=0.1, gap=0, border=0)
    assert names(read_split(tmp_path / "out" / "ctc", "train")) == ["01_t0008.png"]
    printed = capsys.readouterr().out
    assert "t001.tif: only some of its cells have gold truth" in printed
    assert "t000.tif: no gold truth for this frame" in printed


def test_strip_at_the_border_is_ignored(sequence, tmp_path):
    convert_ctc(sequence, tmp_path / "out" / "ctc", border=3)
    (crowd,) = masks_of(read_split(tmp_path / "out" / "ctc", "train"), "01_t0000", crowd=1)
    strip = np.ones(CELLS.shape, bool)
    strip[3:-3, 3:-3] = False
    assert np.array_equal(crowd, strip & (CELLS == 0))


def test_whole_sequences_can_be_held_out(sequence, tmp_path):
    for number in range(3):
        write(sequence / "02" / f"t{number:03d}.tif", random_image(24, 40, dtype=np.uint16))
        write(sequence / "02_ST" / "SEG" / f"man_seg{number:03d}.tif", CELLS)
    convert_ctc(sequence, tmp_path / "out" / "ctc", val_sequences=["02"], border=0)
    assert len(names(read_split(tmp_path / "out" / "ctc", "train"))) == 10
    assert names(read_split(tmp_path / "out" / "ctc", "val")) == [f"02_t{n:04d}.png" for n in range(3)]
    with pytest.raises(SourceError, match="none is called 03"):
        convert_ctc(sequence, tmp_path / "out" / "x", val_sequences=["03"])


def test_split_without_truth_says_which(sequence, tmp_path):
    for number in (8, 9):
        (sequence / "01_GT" / "SEG" / f"man_seg{number:03d}.tif").unlink()
    with pytest.raises(SourceError, match="2 frames for 'val' has gold truth; choose"):
        convert_ctc(sequence, tmp_path / "out" / "ctc", val_truth="gold")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def sequence_without_silver(sequence):
    """Markers tell of all cells; gold truth has some of those of frames 5 and 9, and all of the others'."""
    shutil.rmtree(sequence / "01_ST")
    for number in range(10):
        write(sequence / "01_GT" / "SEG" / f"man_seg{number:03d}.tif", SOME if number in (5, 9) else CELLS)
        write(sequence / "01_GT" / "TRA" / f"man_track{number:03d}.tif", CELLS)
    return sequence


@pytest.mark.parametrize("truth", ["gold", "both"])
def test_markers_tell_partial_truth_where_there_is_no_silver(sequence_without_silver, tmp_path, capsys, truth):
    convert_ctc(sequence_without_silver, tmp_path / "out" / "ctc", train_truth=truth, val_truth=truth, border=0)
    validates, trains = (read_split(tmp_path / "out" / "ctc", split)["images"] for split in ("val", "train"))
    assert [image.get("partially_annotated", False) for image in validates] == [False, True]
    assert [image["file_name"] for image in trains] == [f"01_t000{number}.png" for number in (0, 1, 2, 3, 4)]
    assert "t005.tif: only some of its cells have gold truth; it has no silver truth" in capsys.readouterr().out


def test_merged_truth():
    silver = labels((0, 0, 10, 10), (20, 0, 30, 10))
    gold = labels((2, 0, 12, 10))
    merged = merge_truths(gold, silver)
    assert len(np.unique(merged)) == 3
    assert np.array_equal(merged == merged[5, 5], gold == 1)  # silver 1 is covered by 80 % and gone
    assert np.array_equal(merged == 2, silver == 2)
    assert (
        merge_truths(None, silver) is silver and merge_truths(gold, None) is gold and merge_truths(None, None) is None
    )


def test_frames_are_found_in_any_folder_and_volumes_refused():
    frames = find_frames(["x/01/t0010.tif", "x/01_ST/SEG/man_seg0010.tif", "x/01/notes.txt", "x/02/t001.tif"])
    assert [(f.number, f.silver) for f in frames["01"]] == [(10, "x/01_ST/SEG/man_seg0010.tif")]
    with pytest.raises(SourceError, match="slice of a volume"):
        find_frames(["01/t000.tif", "01_GT/SEG/man_seg_000_003.tif"])


def test_labels_of_any_size_are_merged_without_a_table_of_that_length():
    silver = np.where(CELLS == 1, 2**40, np.where(CELLS == 2, 7, 0))
    merged = merge_truths(np.where(CELLS == 2, 2**41, 0), silver)
    assert len(np.unique(merged)) == 3 and merged.max() < 10
    assert all(len(np.unique(merged[CELLS == label])) == 1 for label in (0, 1, 2)) and not merged[CELLS == 0].any()


def test_folder_around_several_datasets_is_refused(sequence, tmp_path):
    (tmp_path / "all").mkdir()
    sequence.rename(tmp_path / "all" / "A")
    write(tmp_path / "all" / "B" / "01" / "t000.tif", CELLS)
    with pytest.raises(SourceError, match="2 datasets are in one source, as A/ and B/; give the folder of one"):
        convert_ctc(tmp_path / "all", tmp_path / "out" / "ctc")
    assert not (tmp_path / "out").exists()


def test_frame_that_cannot_be_mapped_is_left_out(sequence, tmp_path):
    write(sequence / "01" / "t000.tif", np.full(CELLS.shape, np.nan, np.float32))
    notes = convert_ctc(sequence, tmp_path / "out" / "ctc")
    assert "01/t000.tif: no value of it is a finite number" in notes.full_text()


def test_evaluation_takes_what_is_not_annotated_for_no_error(sequence, tmp_path, request):
    output = tmp_path / "out" / "ctc"
    convert_ctc(sequence, output, val_truth="gold", border=0)
    json_file = output / "annotations" / "ctc_val.json"
    register_objguided_instances("ctc_partial", str(json_file), str(output / "val"))
    request.addfinalizer(lambda: (DatasetCatalog.remove("ctc_partial"), MetadataCatalog.remove("ctc_partial")))
    DatasetCatalog.get("ctc_partial")
    cfg = get_cfg()
    cfg.TEST.EVALUATORS = ["coco", "voc2010", "matching", "ctc"]
    evaluator = build_evaluator(cfg, "ctc_partial", str(tmp_path / "inference"))
    evaluator.reset()
    boxes = [(2, 2, 10, 9), (12, 4, 30, 20)]  # every cell is found in both frames
    for image_id in (1, 2):
        instances = rectangle_instances([(box, 0, 0.9) for box in boxes], 24, 40)
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    results = evaluator.evaluate()
    assert results["ctc"] == {"SEG": 100, "DET": 100, "OP_CSB": 100}
    assert results["matching"]["accuracy"] == results["voc_seg"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP"] == pytest.approx(100)
    assert (tmp_path / "inference" / "ctc" / "01_RES" / "mask009.tif").exists()
