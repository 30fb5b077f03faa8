import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
import tifffile
from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO

from objguided_d2.data.converters.coco_writer import CocoWriter
from objguided_d2.evaluation import write_metrics
from objguided_d2.evaluation.ground_truth import images_digest
from objguided_d2.report.runs import RunError, load_run, load_runs
from tests.data.sources import HEIGHT, WIDTH, labels, random_image

CELLS = labels((2, 2, 10, 9), (12, 4, 30, 20))


@pytest.fixture
def ground_truth(tmp_path):
    writer = CocoWriter(tmp_path / "val", ["cell"])
    writer.add("a", random_image(), [CELLS == 1, CELLS == 2])
    writer.add("b", random_image(), [])
    writer.write_json(tmp_path / "cells_val.json")
    return COCO(str(tmp_path / "cells_val.json"))


def result(image_id=1, score=0.5, category_id=1, mask=CELLS == 1):
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    common = {"bbox": [2, 2, 8, 7], "segmentation": segmentation}
    return {"image_id": image_id, "category_id": category_id, "score": score, **common}


def write_run(folder, results, num_images=2, training=True):
    inference = folder / "inference" / "cells_val"
    inference.mkdir(parents=True)
    (inference / "coco_instances_results.json").write_text(json.dumps(results))
    (inference / "metrics.json").write_text(json.dumps({"num_images": num_images}))
    (folder / "config.yaml").write_text("SOLVER:\n  MAX_MINUTES: 15.0\nVERSION: 2\n")
    if training:
        lines = [
            {"iteration": 19, "elapsed_minutes": 1.5, "images_seen": 80.0, "total_loss": 2.0},
            {"iteration": 20, "segm/AP": 30.0, "segm/AP50": 60.0},
            {"iteration": 39, "elapsed_minutes": 3.0, "images_seen": 160.0},
            {"iteration": 40, "segm/AP": 40.0},
        ]
        (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    return folder


def load(path, ground_truth):
    return load_run(path, "x", "cells_val", ground_truth)


def test_results_of_masks_alone_and_of_lists_of_counts_are_read(tmp_path, ground_truth):
    of_list = result()
    del of_list["bbox"]
    of_list["segmentation"]["counts"] = [0, *np.flatnonzero(np.diff((CELLS == 1).ravel(order="F"), prepend=False))]
    counts = np.diff([*of_list["segmentation"]["counts"], CELLS.size]).tolist()
    of_list["segmentation"]["counts"] = counts
    (read,) = load(write_run(tmp_path / "ours", [of_list]), ground_truth).results[1]
    assert read["segmentation"] == result()["segmentation"] and read["bbox"] == result()["bbox"]


def test_output_folder(tmp_path, ground_truth):
    run = load(write_run(tmp_path / "ours", [result(score=0.2), result(score=0.9)]), ground_truth)
    assert [r["score"] for r in run.results[1]] == [0.9, 0.2] and run.results[2] == []
    assert run.config.SOLVER.MAX_MINUTES == 15
    assert (run.minutes, run.images_seen) == (3.0, 160)
    assert run.curve == [(20, 1.5, {"segm/AP": 30.0, "segm/AP50": 60.0}), (40, 3.0, {"segm/AP": 40.0})]


def test_folder_of_an_evaluation_of_a_bundle(tmp_path, ground_truth):
    folder = write_run(tmp_path / "evaluation", [result()], training=False)
    (folder / "config.yaml").unlink()
    run = load(folder, ground_truth)
    assert len(run.results[1]) == 1 and run.is_complete and run.config is None and run.minutes is None


def test_results_file_alone(tmp_path, ground_truth):
    (tmp_path / "other.json").write_text(json.dumps([result()]))
    run = load(tmp_path / "other.json", ground_truth)
    assert len(run.results[1]) == 1 and run.config is None and run.minutes is None


@pytest.mark.parametrize("name", ["{}.tif", "{}_cp_masks.tif"])
def test_label_images_of_another_program(tmp_path, ground_truth, name):
    (tmp_path / "cellpose").mkdir()
    tifffile.imwrite(tmp_path / "cellpose" / name.format("a"), CELLS)
    tifffile.imwrite(tmp_path / "cellpose" / name.format("b"), np.zeros((HEIGHT, WIDTH), np.uint16))
    run = load(tmp_path / "cellpose", ground_truth)
    assert [r["score"] for r in run.results[1]] == [1, 1] and run.results[2] == []
    assert np.array_equal(mask_util.decode(run.results[1][1]["segmentation"]), CELLS == 2)


def test_images_of_one_name_in_two_folders_have_label_images_in_the_same_folders(tmp_path, ground_truth):
    for image_id, name in ((1, "day1/x.png"), (2, "day2/x.png")):
        ground_truth.imgs[image_id]["file_name"] = name
    (tmp_path / "cellpose" / "day1").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "cellpose" / "x.tif", CELLS)
    with pytest.raises(RunError, match="2 of 2 are missing, as day1/x.png"):
        load(tmp_path / "cellpose", ground_truth)
    tifffile.imwrite(tmp_path / "cellpose" / "day1" / "x_labels.tif", CELLS)
    with pytest.raises(RunError, match="1 of 2 are missing, as day2/x.png"):
        load(tmp_path / "cellpose", ground_truth)
    (tmp_path / "cellpose" / "day2").mkdir()
    tifffile.imwrite(tmp_path / "cellpose" / "day2" / "x.tif", np.where(CELLS == 1, 1, 0).astype(np.uint8))
    assert [len(results) for results in load(tmp_path / "cellpose", ground_truth).results.values()] == [2, 1]


def test_every_object_of_a_label_image_counts(tmp_path, ground_truth):
    (tmp_path / "cellpose").mkdir()
    for stem in ("a", "b"):
        tifffile.imwrite(tmp_path / "cellpose" / f"{stem}.tif", CELLS)
    assert load(tmp_path / "cellpose", ground_truth).num_counted(1) == 2
    ranked = load(write_run(tmp_path / "ours", [result(score=0.2), result(score=0.9)]), ground_truth)
    assert ranked.num_counted(1) == 1


def test_predictions_on_other_images_of_the_same_ids_are_refused(cells):
    name, truth, (run, *_) = cells
    metrics = run / "inference" / name / "metrics.json"
    write_metrics(
        str(metrics), {}, dataset=name, images_digest=images_digest(name), num_images=7, detections_per_image=100
    )
    load_run(run, "x", name, truth)
    content = json.loads(Path(MetadataCatalog.get(name).json_file).read_text())
    content["images"][0]["id"], content["images"][1]["id"] = 2, 1
    Path(MetadataCatalog.get(name).json_file).write_text(json.dumps(content))
    with pytest.raises(RunError, match="was evaluated on other images than .* has now; evaluate it again"):
        load_run(run, "x", name, truth)


def test_names_tell_runs_apart(tmp_path, ground_truth):
    for group in ("first", "second"):
        write_run(tmp_path / group / "ours", [result()])
    paths = [tmp_path / "first" / "ours", tmp_path / "second" / "ours"]
    assert [run.name for run in load_runs(paths, "cells_val", ground_truth)] == ["first/ours", "second/ours"]
    assert [run.name for run in load_runs(paths[:1], "cells_val", ground_truth)] == ["ours"]
    with pytest.raises(RunError, match="given twice"):
        load_runs([paths[0], paths[0]], "cells_val", ground_truth)


def test_broken_runs_say_which_lacks_what(tmp_path, ground_truth):
    def refuse(path, message):
        with pytest.raises(RunError, match=message):
            load(path, ground_truth)

    refuse(tmp_path / "nowhere", "run .*nowhere does not exist; give an OUTPUT_DIR")
    bare = tmp_path / "bare"
    bare.mkdir()
    refuse(bare, "run .*bare has neither a config.yaml nor label images .* 2 of 2 are missing, as a.png")
    (bare / "config.yaml").write_text("VERSION: 2\n")
    refuse(bare, "run .*bare has no predictions on cells_val .* --eval-only")
    refuse(
        write_run(tmp_path / "part", [], num_images=7), "run .*part was evaluated on 7 images of cells_val, which has 2"
    )
    refuse(write_run(tmp_path / "image", [result(image_id=9)]), "result 0: image_id 9 is not in the dataset")
    refuse(write_run(tmp_path / "class", [result(category_id=4)]), "result 0: category_id 4")
    refuse(
        write_run(tmp_path / "size", [result(mask=CELLS[1:] == 1)]),
        r"the mask of a.png: mask of height x width \[23, 40\] in an image of \(24, 40\)",
    )
    cut_off = result()
    cut_off["segmentation"] = {**cut_off["segmentation"], "counts": cut_off["segmentation"]["counts"][:-2]}
    refuse(write_run(tmp_path / "cut_off", [cut_off]), "result 0: the mask of a.png: ")
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]))
    refuse(tmp_path / "boxes.json", "boxes.json is not a COCO results file with masks")
    damaged = write_run(tmp_path / "damaged", [result()])
    (damaged / "metrics.json").write_text('{"iteration": 1\n{"iteration": 2}\n')
    refuse(damaged, "run .*damaged: .*metrics.json, line 1 is no JSON")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for stem, array in (("a", CELLS[1:]), ("b", CELLS)):
        tifffile.imwrite(wrong / f"{stem}.tif", array)
    refuse(wrong, r"run .*wrong: a.tif is \(23, 40\), its image \(24, 40\)")


def test_label_images_beat_copies_of_the_images_in_their_folder(tmp_path, ground_truth):
    folder = tmp_path / "other"
    folder.mkdir()
    for stem in ("a", "b"):
        tifffile.imwrite(folder / f"{stem}.tif", np.full((HEIGHT, WIDTH), 7, np.uint8))
        tifffile.imwrite(folder / f"{stem}_labels.tif", CELLS.astype(np.uint16))
    run = load_run(folder, "other", "cells_val", ground_truth)
    assert [len(results) for results in run.results.values()] == [2, 2]


def test_label_images_that_may_be_none_are_told_with_numbers(tmp_path, ground_truth, caplog):
    folder = tmp_path / "other"
    folder.mkdir()
    binary = 255 * labels((0, 0, 6, 6), (10, 0, 20, 6), (0, 10, 6, 20), (12, 12, 20, 20)).astype(bool).astype(np.uint8)
    for stem in ("a", "b"):
        tifffile.imwrite(folder / f"{stem}.tif", binary)
    load_run(folder, "other", "cells_val", ground_truth)
    assert "a.tif: a binary mask rather than labels: 4 separate pieces" in caplog.text
