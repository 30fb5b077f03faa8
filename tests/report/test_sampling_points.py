"""Which mask is shown, which points are taken on it and where they are drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from objguided_d2.data import register_objguided_instances
from objguided_d2.data.converters.coco_writer import CocoWriter
from objguided_d2.engine.strategies import STRATEGIES, Strategy
from objguided_d2.report.runs import Run
from objguided_d2.report.sampling_points import (
    CAPTION_WIDTH,
    COLUMNS,
    POINT_COLOR,
    PredictedMask,
    draw_points,
    predict_median_mask,
    sample_points,
    sampling_figure,
)
from objguided_d2.structures.roi_atlas import RoiAtlas
from tests.modeling.models import small_cfg

NAME = "sampling_points_cells"
# Rows and columns of the objects of each image; the image of median count is "three", its median object the second.
OBJECTS = {
    "none": [],
    "none either": [],
    "five": [(slice(2, 8), slice(12 * k, 12 * k + 8)) for k in range(5)],
    "three": [(slice(30, 60), slice(4, 34)), (slice(4, 24), slice(40, 50)), (slice(2, 8), slice(2, 8))],
    "one": [(slice(0, 60), slice(0, 60))],
}


@pytest.fixture
def dataset(tmp_path):
    writer = CocoWriter(tmp_path / "val", ["cell"])
    for name, objects in OBJECTS.items():
        masks = np.zeros((len(objects), 64, 64), bool)
        for mask, place in zip(masks, objects):
            mask[place] = True
        writer.add(name, np.repeat(60 + 120 * masks.any(0)[..., None], 3, axis=2).astype(np.uint8), list(masks))
    writer.write_json(tmp_path / "cells.json")
    register_objguided_instances(NAME, str(tmp_path / "cells.json"), str(tmp_path / "val"))
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.fixture
def run(tmp_path) -> Run:
    """An untrained model that sees images at twice their size."""
    cfg = small_cfg()
    cfg.INPUT.MIN_SIZE_TEST = cfg.INPUT.MAX_SIZE_TEST = 128
    path = tmp_path / "ours"
    path.mkdir()
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, path / "model_final.pth")
    return Run("ours", path, {}, cfg)


def ramp_mask(height: int, width: int) -> PredictedMask:
    """Probability 0 at the left edge to 1 at the right one."""
    box = torch.tensor([[0.0, 0.0, width, height]])
    atlas = RoiAtlas(box, torch.zeros(1, dtype=torch.int64), (1, 2, 4, 8, 16))
    return PredictedMask("ramp.png", 1, atlas, torch.linspace(0, 1, width).repeat(height))


def test_the_mask_is_that_of_the_median_object_in_the_median_image(dataset, run):
    mask = predict_median_mask(run.config, run.path / "model_final.pth", dataset)
    assert (Path(mask.file_name).stem, mask.num_objects) == ("three", 3)
    # The box 40, 4, 50, 24 at twice the size, 1.1 times as large.
    torch.testing.assert_close(mask.atlas.boxes, torch.tensor([[79.0, 6.0, 101.0, 50.0]]))
    assert mask.picture.shape == (44, 22)


def test_uncertain_points_are_the_nearest_to_the_contour_of_those_drawn():
    mask, cfg = ramp_mask(16, 24), small_cfg()
    drawn = sample_points(mask, Strategy(3, 3), cfg)
    kept = sample_points(mask, Strategy(3, 0.75), cfg)
    # N = 16 * 24 / 8 = 48 points.
    assert drawn.shape == (144, 2) and kept.shape == (36, 2)
    from_contour = np.abs(drawn[:, 0] - 0.5)
    np.testing.assert_array_equal(np.sort(kept[:, 0]), np.sort(drawn[np.argsort(from_contour, kind="stable")[:36], 0]))


def test_points_are_of_the_seed_alone():
    mask, cfg, state = ramp_mask(16, 24), small_cfg(), torch.get_rng_state()
    for strategy in STRATEGIES:
        first, second, other = (sample_points(mask, strategy, cfg, seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, second)
        assert len(first) == int(48 * strategy.beta)
        assert not len(first) or not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


# Of a mask of 20 x 10 pixels, each 14 wide in the picture: 4.75 steps from the first pixel's center, or 5 pixels in.
@pytest.mark.parametrize(("grid", "x", "y"), [("edges", 5.25 * 14, 7.25 * 14), ("centers", 5 * 14, 7.5 * 14)])
def test_a_point_is_drawn_where_it_was_read(grid, x, y):
    cfg = small_cfg()
    cfg.MODEL.ROI_MASK_HEAD.GRID = grid
    panel = draw_points(np.full((10, 20), 100, np.uint8), np.array([[0.25, 0.75]]), cfg)
    assert panel.shape == (140, 280, 3)
    rows, columns = np.nonzero((panel == POINT_COLOR).all(2))
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((x, y), abs=0.25)
    changed = np.argwhere((panel != 100).any(2)) + 0.5
    assert np.hypot(*(changed - (y, x)).T).max() < 7


def test_figure_has_one_panel_per_strategy_and_says_its_rule(dataset, run):
    other = Run("mask_rcnn", run.path, {}, small_cfg())
    other.config.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    label_images = Run("cellpose", run.path, {})
    assert sampling_figure([label_images, other], dataset) is None
    assert sampling_figure([Run("untrained", run.path / "empty", {}, run.config)], dataset) is None

    figure = sampling_figure([label_images, other, run], dataset)
    assert figure.wide and "predicted by ours" in figure.caption
    assert "three.png with 3" in figure.caption and "22 x 44 pixels" in figure.caption
    step_x, step_y = CAPTION_WIDTH + 4, figure.content.shape[0] // 2
    points = (figure.content == POINT_COLOR).all(2)
    assert figure.content.shape[1] // step_x == COLUMNS
    for k, strategy in enumerate(STRATEGIES):
        x, y = k % COLUMNS * step_x, k // COLUMNS * step_y
        assert points[y : y + step_y, x : x + step_x].any() == (strategy.k > 0)


def test_nothing_is_shown_without_an_object_large_enough(dataset, run, caplog):
    run.config.MODEL.ROI_MASK_HEAD.MIN_CROP_SIZE = 30
    assert sampling_figure([run], dataset) is None
    assert "the median one is too small" in caplog.text
