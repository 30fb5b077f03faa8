"""From a model and a few images to a bundle: end to end with a tiny model."""

import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from detectron2.data import DatasetCatalog

from objguided_d2 import Predictor, finetune
from objguided_d2.cli import main
from objguided_d2.engine.checkpoint import BestModel
from objguided_d2.finetuning import finetune as finetune_module
from objguided_d2.finetuning.dataset import prepare_images
from objguided_d2.finetuning.finetune import FinetuneTrainer, finetune_coco
from objguided_d2.inference.bundle import load_bundle, read_parts
from tests.finetuning.images import SIZE, write_images


def ap_of(values):
    """Stands in for the evaluation: one AP after the other, the last for ever, and nothing found."""
    given = iter(values)

    def test(cfg, model, evaluators=None):
        ap = next(given, values[-1])
        folder = Path(cfg.OUTPUT_DIR, "inference", cfg.DATASETS.TEST[0])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "coco_instances_results.json").write_text("[]")
        return {"segm": {"AP": ap, "AP50": ap}, "matching": {"f150": ap}}

    return staticmethod(test)


def weights(bundle):
    _, model, _ = load_bundle(bundle, device="cpu")
    return model.state_dict()


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_one_image_is_trained_on_and_nothing_is_measured(run_folder, tmp_path, capsys):
    images, labels = write_images(tmp_path, 1)
    report = finetune(run_folder, images, labels, tmp_path / "mine.zip", steps=2)
    assert report.split.train == ("img0",) and not report.split.held_out
    assert report.steps == 2 and report.after is None and report.is_better is None
    assert "too few to hold any out" in report.verdict()
    # What the model made of the image before sets the rate: it knows none of these squares.
    assert re.search("before: .* on the training images\nThese objects are new", capsys.readouterr().out)
    assert report.settings["base_lr"] == pytest.approx(0.001)
    predictor = Predictor.from_pretrained(tmp_path / "mine.zip", device="cpu")
    prediction = predictor(cv2.imread(str(images / "img0.png")))
    assert prediction.labels.shape == (SIZE, SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "labels", "mine.json", "mine.png", "mine.zip"]


def test_held_out_images_tell_before_and_after_and_the_bundle_has_the_models_own_preparation(run_folder, tmp_path):
    images, labels = write_images(tmp_path, 5)
    options = ("SOLVER.WEIGHT_DECAY", "0")
    report = finetune(run_folder, images, labels, tmp_path / "mine", steps=2, pixel_size=0.5, options=options)
    assert len(report.split.train) == 4 and len(report.split.held_out) == 1
    assert report.before.keys() == report.after.keys() == {"AP", "AP50", "F1@0.5"}
    assert [entry["step"] for entry in report.history] == [1, 2]
    content = json.loads((tmp_path / "mine" / "report.json").read_text())
    assert content["split"]["held_out"] == list(report.split.held_out) and content["verdict"] == report.verdict()
    assert cv2.imread(str(tmp_path / "mine" / "before_after.png")).shape[1] > 4 * SIZE
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "before_after.png",
        "model.zip",
        "report.json",
    ]
    cfg, _, info = load_bundle(report.bundle, device="cpu")
    assert cfg.INPUT.INTENSITY == "percentile:1,99" and cfg.INPUT.FORMAT == "RGB" and cfg.INPUT.TEST_SCALE == 1
    # A further fine-tuning begins from the same rate.
    assert cfg.SOLVER.BASE_LR == 0.001 and cfg.SOLVER.IMS_PER_BATCH == 2
    assert info.class_names == ("object",) and info.pixel_size == 0.5 and info.training_scale == 1
    assert 9 < info.object_diameter < 18
    assert b"Fine-tuned" in read_parts(report.bundle)["model_card.md"]


def test_the_picture_has_each_model_from_its_own_score_threshold(run_folder, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(finetune_module, "draw_predictions", lambda cfg, models, *args: drawn.update(models))
    monkeypatch.setattr(finetune_module, "_choose_score_threshold", lambda *args: (0.07, 60.0))
    images, labels = write_images(tmp_path, 4)
    report = finetune(run_folder, images, labels, tmp_path / "mine", steps=1)
    assert report.score_thresholds[0] != report.score_thresholds[1] == 0.07
    assert [threshold for _, threshold in drawn.values()] == list(report.score_thresholds)
    assert list(drawn) == ["before", "after"]


def test_images_of_a_coco_file_are_seen_as_converted_ones(run_folder, tmp_path):
    images, labels = write_images(tmp_path, 5)
    converted = finetune(run_folder, images, labels, tmp_path / "converted.zip", steps=1)
    assert cv2.imread(str(images / "img0.png")).max() < 255  # The mapping changes it.
    data = prepare_images(images, labels, tmp_path / "data", intensity="")
    report = finetune_coco(run_folder, data, tmp_path / "coco.zip", steps=1)
    assert report.before == converted.before and report.split == converted.split
    assert_same(weights(tmp_path / "coco.zip"), weights(tmp_path / "converted.zip"))


def test_training_that_makes_it_worse_leaves_the_model_as_it_was(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FinetuneTrainer, "test", ap_of([50.0, 40.0, 47.4, 30.0, 20.0]))
    images, labels = write_images(tmp_path, 4)
    command = ["finetune", "--model", str(run_folder), "--images", str(images), "--labels", str(labels)]
    assert main([*command, "--output", str(tmp_path / "mine"), "--steps", "9", "--device", "cpu"]) == 1
    report = json.loads((tmp_path / "mine" / "report.json").read_text())
    assert report["kept_step"] == 0 and report["ended"] == "early" and report["steps"] == 4
    assert "no better" in capsys.readouterr().out
    assert report["before"]["AP"] == 50 and report["after"]["AP"] == 47.4
    trained = torch.load(run_folder / "model_final.pth")["model"]
    for name, value in weights(tmp_path / "mine" / "model.zip").items():
        if name in trained and "refinement" not in name and value.dim() < 2:
            assert torch.equal(value, trained[name]), name


def test_evaluations_near_the_best_do_not_end_a_training(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(FinetuneTrainer, "test", ap_of([10.0, 50.0, 40.0, 40.0, 40.0, 48.0, 40.0, 40.0, 40.0, 48.0]))
    images, labels = write_images(tmp_path, 4)
    report = finetune(run_folder, images, labels, tmp_path / "mine", steps=9)
    assert report.ended == "steps" and report.steps == 9 and report.kept_step == 1


def test_the_best_model_is_kept_not_the_last(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(FinetuneTrainer, "test", ap_of([10.0, 20.0, 60.0, 30.0]))
    images, labels = write_images(tmp_path, 4)
    report = finetune(run_folder, images, labels, tmp_path / "mine", steps=3)
    assert report.kept_step == 2 and report.after["AP"] == 60 and report.is_better
    assert "AP 10.0 -> 60.0" in report.verdict()


@pytest.mark.parametrize(("from_scratch", "kept"), [(True, 3), (False, 0)])
def test_while_nothing_is_found_the_most_trained_is_kept_or_the_model_as_it_was(
    run_folder, tmp_path, monkeypatch, from_scratch, kept
):
    monkeypatch.setattr(FinetuneTrainer, "test", ap_of([0.0] * 8))
    images, labels = write_images(tmp_path, 4)
    report = finetune(run_folder, images, labels, tmp_path / "mine", steps=3, from_scratch=from_scratch)
    assert report.kept_step == kept


@pytest.mark.parametrize(("count", "on"), [(1, "training"), (4, "held-out")])
def test_the_bundle_has_the_score_threshold_that_suits_the_images(run_folder, tmp_path, monkeypatch, count, on):
    asked = []

    def choose(matched, former):
        asked.append((sum(int(one.num_objects.sum()) for one in matched), former))
        return 0.12

    monkeypatch.setattr(finetune_module, "best_score_threshold", choose)
    images, labels = write_images(tmp_path, count)
    report = finetune(run_folder, images, labels, tmp_path / "mine", steps=1)
    num_objects = report.split.num_held_out_objects or report.split.num_train_objects
    (former,) = {former for _, former in asked}
    assert asked == [(num_objects, former)] and report.score_thresholds == (former, 0.12)
    assert f"from a score of 0.12 on, the best for the {on} images; it was {former:.2g}" in report.verdict()
    _, _, info = load_bundle(report.bundle, device="cpu")
    assert info.score_threshold == 0.12
    assert Predictor.from_pretrained(report.bundle, device="cpu").score_threshold == 0.12


def test_f1_after_is_that_at_the_score_threshold_that_was_chosen(run_folder, tmp_path, monkeypatch):
    evaluate = ap_of([10.0, 20.0, 60.0, 30.0, 60.0])

    def test(cfg, model):
        """Finds all objects but the first, and that with too low a score."""
        metrics = evaluate(cfg, model)
        (name,) = cfg.DATASETS.TEST
        results = []
        for record in DatasetCatalog.get(name):
            for annotation in record["annotations"]:
                result = {"image_id": record["image_id"], "category_id": 1, "segmentation": annotation["segmentation"]}
                results.append({**result, "score": 0.5 if results else 0.05})
        Path(cfg.OUTPUT_DIR, "inference", name, "coco_instances_results.json").write_text(json.dumps(results))
        return metrics

    monkeypatch.setattr(FinetuneTrainer, "test", staticmethod(test))
    monkeypatch.setattr(finetune_module, "best_score_threshold", lambda matched, former: 0.12)
    images, labels = write_images(tmp_path, 4)
    report = finetune(run_folder, images, labels, tmp_path / "mine", steps=3)
    found = report.split.num_held_out_objects - 1
    assert report.kept_step == 2
    assert report.after == {"AP": 60.0, "AP50": 60.0, "F1@0.5": pytest.approx(100 * 2 * found / (2 * found + 1))}


def test_stopped_and_resumed_equals_undisturbed(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FinetuneTrainer, "test", ap_of([10.0, 20.0, 25.0, 30.0, 35.0, 35.0] * 2))
    images, labels = write_images(tmp_path, 4)
    whole = finetune(run_folder, images, labels, tmp_path / "whole", steps=4)
    train_step = FinetuneTrainer.run_step

    def stopped(trainer):
        if trainer.iter == 1:
            trainer.started -= 3600
            os.kill(os.getpid(), signal.SIGTERM)
        train_step(trainer)

    command = ["finetune", "--model", str(run_folder), "--images", str(images), "--labels", str(labels)]
    command += ["--output", str(tmp_path / "parts"), "--steps", "4"]
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneTrainer, "run_step", stopped)
        assert main(command) == 143
    assert "--resume" in capsys.readouterr().err and not (tmp_path / "parts" / "model.zip").exists()
    assert main([*command, "--resume", "--steps", "5"]) == 1
    assert "steps 5 (was 4)" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    report = json.loads((tmp_path / "parts" / "report.json").read_text())
    assert 60 < report["minutes"] < 120
    assert report["steps"] == 4 and [entry["step"] for entry in report["history"]] == [1, 2, 3, 4]
    assert_same(weights(whole.bundle), weights(tmp_path / "parts" / "model.zip"))


def test_a_full_disk_is_told_with_how_to_go_on_and_changes_no_result(run_folder, tmp_path, monkeypatch, capsys):
    images, labels = write_images(tmp_path, 4)
    whole = finetune(run_folder, images, labels, tmp_path / "whole", steps=2)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "best.pth")

    command = ["finetune", "--model", str(run_folder), "--images", str(images), "--labels", str(labels)]
    command += ["--output", str(tmp_path / "parts"), "--steps", "2"]
    for place, name in ((BestModel, "offer"), (finetune_module, "write_bundle")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            assert main([*command, "--resume"]) == 1
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: best.pth: No space left on device") and line.endswith("go on with --resume")
    main([*command, "--resume"])
    assert_same(weights(whole.bundle), weights(tmp_path / "parts" / "model.zip"))


def test_minutes_end_it_after_the_step_at_work(run_folder, tmp_path):
    images, labels = write_images(tmp_path, 1)
    report = finetune(run_folder, images, labels, tmp_path / "mine", minutes=0.001)
    assert report.ended == "minutes" and 1 <= report.steps < 1000


def test_predicted_labels_that_were_corrected_are_labels(run_folder, tmp_path):
    images, labels = write_images(tmp_path, 1)
    results = tmp_path / "results"
    command = ["predict", str(images), "--model", str(run_folder), "--output", str(results), "--quiet"]
    assert main([*command, "--save", "coco,labels", "--device", "cpu"]) == 0
    (predicted,) = results.glob("*.labels.tif")
    corrected = tifffile.imread(predicted)
    numbers = np.unique(corrected[corrected > 0])
    corrected[corrected > 3] = 0  # what napari's Labels layer saves
    tifffile.imwrite(predicted, corrected)
    report = finetune(run_folder, images, results, tmp_path / "mine", steps=1)
    assert len(numbers) > 3 >= report.split.num_train_objects > 0
    # Without the label images, the COCO file beside them holds all that was predicted.
    predicted.unlink()
    report = finetune(run_folder, images, results, tmp_path / "mine", steps=1)
    assert report.split.num_train_objects >= len(numbers)


def test_a_new_class_starts_anew_and_a_known_one_keeps_its_weights(run_folder, tmp_path, capsys):
    images, labels = write_images(tmp_path, 4)
    for path in labels.iterdir():
        values = tifffile.imread(path)
        for name, kept in (("object", values < 3), ("debris", values >= 3)):
            (labels / name).mkdir(exist_ok=True)
            tifffile.imwrite(labels / name / path.name, np.where(kept, values, 0))
    for path in labels.glob("*.tif"):
        path.unlink()
    report = finetune(run_folder, images, labels, tmp_path / "mine", steps=1, options=("SOLVER.BASE_LR", "1e-30"))
    assert report.classes == ("debris", "object") and report.new_classes == ("debris",)
    assert "debris" in capsys.readouterr().out and report.before is None and report.after is not None
    heatmap = "proposal_generator.head.heatmap.2.bias"
    former = torch.load(run_folder / "model_final.pth")["model"][heatmap]
    now = weights(report.bundle)[heatmap]
    assert now[1] == former[0] and now[0] != former[0]


def _no_labels(images, labels):
    for path in labels.iterdir():
        path.unlink()


def _other_size(images, labels):
    for path in labels.iterdir():
        tifffile.imwrite(path, np.ones((10, 10), np.uint8))


def _no_objects(images, labels):
    for path in labels.iterdir():
        tifffile.imwrite(path, np.zeros((SIZE, SIZE), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (_no_labels, [], "none of the 1 images in"),
        (_other_size, [], "img0.tif is (10, 10), its image (48, 48)"),
        (_no_objects, [], "there is no object in the labels"),
        (lambda images, labels: shutil.rmtree(labels), [], "labels do not exist"),
        (None, ["--model", "no_such_model"], "no_such_model"),
        (None, ["--steps", "0"], "steps must be 1 or more, not 0"),
        (None, ["--minutes", "-1"], "minutes must be a number above 0"),
        (None, ["--held-out", "2"], "held_out_fraction must be in [0, 1), not 2"),
        (None, ["--output", __file__], "give a folder, or a file that ends in .zip"),
        (None, ["--scale", "1e6"], "scale must be 1/16 to 16, not 1e+06"),
        (None, ["SOLVER.BASE_LRR", "1"], "KEY VALUE pairs: Non-existent key: SOLVER.BASE_LRR"),
        (None, ["SOLVER.MAX_ITER", "9"], "KEY VALUE pairs cannot set SOLVER.MAX_ITER: give --steps"),
        (None, ["MODEL.CENTER_HEAD.CONV_DIM", "16"], "KEY VALUE pairs: with them, proposal_generator"),
        (None, ["INPUT.SQUARE_CROP.OUTPUT_SIZE", "0"], "KEY VALUE pairs: INPUT.SQUARE_CROP.OUTPUT_SIZE is 0; use 1 to"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(run_folder, tmp_path, capsys, spoil, options, message):
    images, labels = write_images(tmp_path, 1)
    if spoil:
        spoil(images, labels)
    command = ["--model", str(run_folder), "--images", str(images), "--labels", str(labels)]
    assert main(["finetune", *command, "--output", str(tmp_path / "mine"), "--device", "cpu", *options]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("train:")]
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "mine").exists()
