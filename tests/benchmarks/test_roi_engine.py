"""The suite on small sets: what it claims to be equal is, and a claim that does not hold is not met."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import loop_baselines, mask_head_rows, model_rows, roi_engine, stage_rows
from benchmarks import mask_head_cases as cases
from benchmarks.arithmetic import min_gflops
from benchmarks.reference.plain_model import plain_inference
from benchmarks.rows import Row, Settings
from objguided_d2.profiling.given_boxes import random_boxes
from objguided_d2.profiling.model_under_test import load_model_under_test
from tests.modeling.models import small_cfg

SMALL = cases.Widths((4, 4, 6, 8, 8), (8, 6, 5, 4), 4)


@pytest.fixture
def settings(monkeypatch) -> Settings:
    monkeypatch.setattr(cases, "WIDTHS", {"paper": SMALL, "small": SMALL})
    monkeypatch.setattr(cases, "CASES", (cases.Case(3, 40), cases.Case(4, 20), cases.Case(3, 24), cases.Case(2, 70)))
    monkeypatch.setattr(mask_head_rows, "convolution_peak", lambda dtype: 100.0)
    monkeypatch.setattr(cases, "IMAGE_SIZE", 128)
    return Settings(1, Path("configs"), Path("."), "", 0)


def test_masks_equal_those_of_the_loop(settings, monkeypatch):
    # Profiles every call; the next test but one does so once.
    monkeypatch.setattr(mask_head_rows, "convolution_seconds", lambda call: 1.0)
    rows = [row for row in mask_head_rows.inference(settings) if "largest_difference" in row.numbers]
    assert len(rows) == 8 and all(row.numbers["largest_difference"] < 1e-5 for row in rows)


@pytest.mark.parametrize("name", ["training", "small_widths"])
def test_losses_and_gradients_equal_those_of_the_loop(name, settings):
    rows = [r for r in getattr(mask_head_rows, name)(settings) if "largest_relative_difference" in r.numbers]
    assert len(rows) == 4 and all(row.numbers["largest_relative_difference"] < 1e-6 for row in rows)


def test_a_wrong_mask_is_not_met(settings, monkeypatch):
    loop_masks = loop_baselines.loop_masks
    monkeypatch.setattr(loop_baselines, "loop_masks", lambda *args: [mask + 0.01 for mask in loop_masks(*args)])
    row = next(mask_head_rows.inference(settings))
    assert not row.met


def test_the_number_of_operations_does_not_grow_with_rois(settings):
    (row,) = mask_head_rows.operations(settings)
    assert row.met, row.measured


def test_postprocessing_equals_the_plain_loop():
    masks, scores = stage_rows.blob_masks(25, 20, 96)
    ours = stage_rows.postprocess_to_rle(masks, scores)
    assert ours == loop_baselines.loop_postprocess(masks, scores, stage_rows.MASK_THRESH, stage_rows.MASK_NMS_THRESH)
    assert 0 < len(ours) < 25


def test_the_plain_path_gives_the_masks_of_the_model():
    cfg = small_cfg()
    cfg.MODEL.ROI_MASK_HEAD.LADDER_CHANNELS = [0, 0, 0, 0]
    cfg.MODEL.ROI_MASK_HEAD.GRID = "released"
    model = load_model_under_test(cfg, "model")
    # Masks of an untrained head are all over 1/2 or none: put the threshold between them.
    torch.nn.init.normal_(model.model.roi_heads.mask_head.seg_head.predictor.weight)
    image = model_rows.synthetic_image()
    boxes = random_boxes(6, 60, cases.IMAGE_SIZE)
    ours = model.inference([image], [boxes])()[0][0]["instances"].pred_masks.to_rle()
    assert ours == plain_inference(model.model, image, boxes)


def test_contiguous_images_change_the_layout_alone():
    model = load_model_under_test(small_cfg(), "model")
    image, boxes = model_rows.synthetic_image(), random_boxes(4, 60, cases.IMAGE_SIZE)
    contiguous = replace(model, model=model_rows._with_contiguous_images(model.model))
    assert contiguous.model.preprocess_image([image]).tensor.is_contiguous()
    assert not model.model.preprocess_image([image]).tensor.is_contiguous()
    ours, theirs = (c.inference([image], [boxes])()[0][0]["instances"].pred_masks for c in (model, contiguous))
    assert ours.to_rle() == theirs.to_rle()


def test_minimal_arithmetic_is_that_of_the_pixels_alone():
    head = cases.build_mask_head(SMALL)
    box = torch.tensor([[0.0, 0, 40, 40]])  # 44 x 44 after the enlargement: 44, 22, 11, 5 and 2 points
    pixels = [44**2, 22**2, 11**2, 5**2]
    up = [4 * 5 * 9, 5 * 6 * 9, 6 * 8 * 9, 8 * 8 * 9]
    merge = [(4 + 4) * 4, (4 + 5) * 5, (6 + 6) * 6, (8 + 8) * 8]
    head_products = 44**2 * (4 * 4 * 9 + 4 * 9)
    expected = 2 * (sum(p * (u + m) for p, u, m in zip(pixels, up, merge)) + head_products) / 1e9
    assert min_gflops(head, box) == pytest.approx(expected)


def run_suite(rows: list[str], output: Path, *arguments: str) -> int:
    return roi_engine.main(["--rows", *rows, "--rounds", "1", "--output", str(output), *arguments])


def test_the_suite_fails_if_a_target_is_missed(settings, monkeypatch, tmp_path, capsys):
    assert run_suite(["operations"], tmp_path) == 0
    assert "1 of 1 targets met" in capsys.readouterr().out
    missed = Row("a claim", "a target", "too little", met=False)
    monkeypatch.setitem(roi_engine.ROWS, "layout", lambda settings: iter([missed]))
    assert run_suite(["operations", "layout"], tmp_path) == 1
    assert "1 of 2 targets met" in capsys.readouterr().out
    assert "| a claim" in (tmp_path / "benchmark.md").read_text()


def test_missing_weights_are_named_with_the_command_that_makes_them(tmp_path, capsys):
    assert run_suite(["small-models"], tmp_path, "--runs", str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert "objguided_small_R_18/model_final.pth" in error and "train_net.py --config-file" in error


def test_an_unknown_dataset_is_told_before_anything_is_measured(tmp_path, capsys):
    assert run_suite(["operations", "precision"], tmp_path, "--dataset", "no_such") == 1
    output = capsys.readouterr()
    assert "--dataset no_such is not registered" in output.err and not output.out
