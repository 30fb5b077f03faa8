"""The suite on small sets: what it claims to be equal is, and a claim that does not hold is not met."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import mask_head as mh
from benchmarks import mask_head_rows, model_rows, stage_rows
from benchmarks.baselines import LoopOpponents
from benchmarks.rows import Settings
from objguided_d2.profiling.models import load_contestant, random_boxes
from tests.modeling.models import small_cfg

SMALL = mh.Widths((4, 4, 6, 8, 8), (8, 6, 5, 4), 4)


@pytest.fixture
def settings(monkeypatch) -> Settings:
    monkeypatch.setattr(mh, "WIDTHS", {"paper": SMALL, "small": SMALL})
    monkeypatch.setattr(mh, "CASES", (mh.Case(3, 40), mh.Case(4, 20), mh.Case(3, 24), mh.Case(2, 70)))
    monkeypatch.setattr(mask_head_rows, "convolution_peak", lambda dtype: 100.0)
    return Settings(LoopOpponents(), 2, Path("configs"), Path("."), "", 0)


def test_masks_equal_those_of_the_loop(settings):
    rows = [row for row in mask_head_rows.inference(settings) if "largest_difference" in row.numbers]
    assert len(rows) == 8 and all(row.numbers["largest_difference"] < 1e-5 for row in rows)


@pytest.mark.parametrize("name", ["training", "small_widths"])
def test_losses_and_gradients_equal_those_of_the_loop(name, settings):
    rows = [r for r in getattr(mask_head_rows, name)(settings) if "largest_relative_difference" in r.numbers]
    assert len(rows) == 4 and all(row.numbers["largest_relative_difference"] < 1e-6 for row in rows)


def test_a_wrong_mask_is_not_met(settings):
    class Off(LoopOpponents):
        def masks(self, head, maps, boxes):
            return [mask + 0.01 for mask in super().masks(head, maps, boxes)]

    row = next(mask_head_rows.inference(replace(settings, opponents=Off())))
    assert not row.met


def test_the_number_of_operations_does_not_grow_with_rois(settings):
    (row,) = mask_head_rows.operations(settings)
    assert row.met, row.measured


def test_postprocessing_equals_the_plain_loop():
    masks, scores = stage_rows.blob_masks(25, 20, 96)
    ours = stage_rows.postprocess_to_rle(masks, scores, 0.53, 0.2)
    assert ours == LoopOpponents().postprocess(masks, scores, 0.53, 0.2)
    assert 0 < len(ours) < 25


def test_the_plain_path_gives_the_masks_of_the_model():
    cfg = small_cfg()
    cfg.MODEL.ROI_MASK_HEAD.LADDER_CHANNELS = [0, 0, 0, 0]
    cfg.MODEL.ROI_MASK_HEAD.GRID = "released"
    contestant = load_contestant(cfg, "model")
    # Masks of an untrained head are all over 1/2 or none: put the threshold in the middle of them.
    torch.nn.init.normal_(contestant.model.roi_heads.mask_head.seg_head.predictor.weight)
    image = model_rows.drawn_image()
    boxes = random_boxes(6, 60, mh.IMAGE_SIZE)
    ours = contestant.inference([image], [boxes])()[0][0]["instances"].pred_masks.to_rle()
    assert ours == LoopOpponents().inference(contestant.model, image, boxes)


def test_contiguous_images_change_the_layout_alone():
    contestant = load_contestant(small_cfg(), "model")
    image, boxes = model_rows.drawn_image(), random_boxes(4, 60, mh.IMAGE_SIZE)
    contiguous = replace(contestant, model=model_rows._with_contiguous_images(contestant.model))
    assert contiguous.model.preprocess_image([image]).tensor.is_contiguous()
    assert not contestant.model.preprocess_image([image]).tensor.is_contiguous()
    ours, theirs = (c.inference([image], [boxes])()[0][0]["instances"].pred_masks for c in (contestant, contiguous))
    assert ours.to_rle() == theirs.to_rle()


def test_least_arithmetic_is_that_of_the_pixels_alone():
    head = mh.build_mask_head(SMALL)
    box = torch.tensor([[0.0, 0, 40, 40]])  # 44 x 44 after the enlargement: 44, 22, 11, 5 and 2 points
    pixels = [44**2, 22**2, 11**2, 5**2]
    up = [4 * 5 * 9, 5 * 6 * 9, 6 * 8 * 9, 8 * 8 * 9]
    merge = [(4 + 4) * 4, (4 + 5) * 5, (6 + 6) * 6, (8 + 8) * 8]
    head_products = 44**2 * (4 * 4 * 9 + 4 * 9)
    expected = 2 * (sum(p * (u + m) for p, u, m in zip(pixels, up, merge)) + head_products) / 1e9
    assert mh.least_gflops(head, box) == pytest.approx(expected)


def test_missing_weights_are_named_with_the_command_that_makes_them(tmp_path):
    settings = Settings(LoopOpponents(), 1, Path("configs"), tmp_path, "", 0)
    with pytest.raises(FileNotFoundError, match=r"objguided_small_R_18.model_final.pth.*train_net.py --config-file"):
        model_rows.check_weights(settings)
