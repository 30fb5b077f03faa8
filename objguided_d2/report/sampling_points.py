"""The points that each sampling strategy of the refinement takes on one predicted mask (Figure 6).

A mask has P = H x W pixels, a strategy takes Q points.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, BoxMode, Instances
from torch import Tensor

from ..engine.strategies import STRATEGIES, Strategy
from ..modeling.point_refine import PointRefinement
from ..profiling.inputs import map_test_images
from ..profiling.model_under_test import load_model_under_test
from ..structures.roi_atlas import RoiAtlas
from ..utils.contact_sheet import Tile, contact_sheet
from .page import Figure
from .runs import Run, evaluated_weights
from .speed import median_image

logger = logging.getLogger(__name__)

COLUMNS = 5
PANEL_SIDE = 280  # pixels of the longer side of a mask's picture
CAPTION_WIDTH = 220  # pixels that the longest title needs
SEED = 0
# Yellow with a black edge: one of the two stands out on every gray, for everyone.
POINT_COLOR, POINT_EDGE = (240, 228, 66), (0, 0, 0)


class PredictedMask(NamedTuple):
    """The mask that a model predicts for one object.

    Attributes:
        file_name: of its image.
        num_objects: in that image.
        atlas: holds the object's ROI alone.
        probabilities: (P,) on the CPU.
    """

    file_name: str
    num_objects: int
    atlas: RoiAtlas
    probabilities: Tensor

    @property
    def picture(self) -> np.ndarray:
        """(H, W) uint8, probability 1 in white."""
        grid = self.atlas.grids[0]
        values = self.probabilities.reshape(int(grid.heights[0]), int(grid.widths[0]))
        return (255 * values).round().byte().numpy()


def sampling_figure(runs: Sequence[Run], dataset_name: str) -> Figure | None:
    """One panel per strategy, by the first ObjectGuidedRCNN with weights; None without one or without objects."""
    ours = ((run, evaluated_weights(run.path)) for run in runs if run.config)
    run, weights = next(
        ((run, w) for run, w in ours if w and run.config.MODEL.META_ARCHITECTURE == "ObjectGuidedRCNN"), (None, None)
    )
    if run is None:
        return None
    mask = predict_median_mask(run.config, weights, dataset_name)
    if mask is None:
        logger.warning("No sampling points are drawn: %s has no objects, or the median one is too small", dataset_name)
        return None
    tiles = [
        Tile(draw_points(mask.picture, sample_points(mask, strategy, run.config), run.config), strategy.title)
        for strategy in STRATEGIES
    ]
    height, width = tiles[0].image.shape[:2]
    rows, columns = mask.picture.shape
    return Figure(
        "Sampling points",
        f"Points that each strategy (k, beta) of the refinement takes on one mask predicted by {run.name}, from "
        "probability 0 in black to 1 in white. Chosen by rule: of the images with objects the one of median object "
        f"count, {Path(mask.file_name).name} with {mask.num_objects}; in it the object whose ROI, made from its true "
        f"box as in training, has the median area, {columns} x {rows} pixels. Seed {SEED} for each strategy: those of "
        "one k choose among the same points.",
        contact_sheet(tiles, COLUMNS, tile_size=(height, max(width, CAPTION_WIDTH))),
        wide=True,
    )


@torch.no_grad()
def predict_median_mask(config: CfgNode, weights: Path, dataset_name: str) -> PredictedMask | None:
    """The mask of the object of median ROI area in the image of median object count.

    Args:
        config: of an ObjectGuidedRCNN.

    Returns:
        None if no image has an object, or the object is too small for an ROI.
    """
    record, objects = median_image(dataset_name)
    if not objects:
        return None
    model = load_model_under_test(config, "", weights).model
    (inputs,) = map_test_images(config, [record])
    height, width = inputs["image"].shape[-2:]
    boxes = Boxes([BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in objects])
    boxes.scale(width / record["width"], height / record["height"])
    classes = torch.tensor([a["category_id"] for a in objects])
    given = Instances((height, width), pred_boxes=boxes, pred_classes=classes)
    masks = model.inference([inputs], [given], do_postprocess=False)[0].pred_masks.to("cpu")

    by_area = Boxes(masks.boxes).area().argsort(stable=True)
    median = masks[by_area[len(by_area) // 2][None]]
    head, shapes = config.MODEL.ROI_MASK_HEAD, model.backbone.output_shape()
    strides = tuple(shapes[name].stride for name in head.IN_FEATURES)
    atlas = RoiAtlas(median.boxes, torch.zeros(1, dtype=torch.int64), strides, head.MIN_CROP_SIZE, head.GRID)
    return PredictedMask(record["file_name"], len(objects), atlas, median.probabilities) if len(atlas) else None


def sample_points(mask: PredictedMask, strategy: Strategy, config: CfgNode, seed: int = SEED) -> np.ndarray:
    """The (Q, 2) points that training would take on a mask, x first, in [0, 1] relative to the ROI's box."""
    if not strategy.k:
        return np.zeros((0, 2), np.float32)
    with torch.random.fork_rng(devices=[]):
        refinement = PointRefinement(
            e1_channels=1,
            e2_channels=1,
            k=strategy.k,
            beta=strategy.beta,
            d=config.MODEL.ROI_MASK_HEAD.REFINE.D,
            loss_weight=1.0,
        )
        torch.default_generator.manual_seed(seed)
        _, point_coords, _ = refinement.sample(mask.atlas, mask.probabilities)
    return point_coords.numpy()


def draw_points(picture: np.ndarray, point_coords: np.ndarray, config: CfgNode) -> np.ndarray:
    """A mask enlarged to PANEL_SIDE with points on it.

    Args:
        picture: (H, W) uint8.
        point_coords: see :func:`sample_points`.

    Returns:
        uint8 RGB, each pixel of the mask repeated a whole number of times.
    """
    zoom = max(1, PANEL_SIDE // max(picture.shape))
    panel = np.repeat(picture.repeat(zoom, axis=0).repeat(zoom, axis=1)[..., None], 3, axis=2)
    size = np.array(picture.shape[::-1])
    # All grids but "centers" have their first and last pixels, whose centers these are here, on the edges of the box.
    at_centers = config.MODEL.ROI_MASK_HEAD.GRID == "centers"
    position = point_coords * size if at_centers else point_coords * (size - 1) + 0.5
    radius, shift = min(0.3 * zoom, 3.5), 4
    centers = np.round((position * zoom - 0.5) * 2**shift).astype(int)
    # All edges first, so that points in a heap do not cut each other up.
    for color, r in ((POINT_EDGE, 1.4 * radius), (POINT_COLOR, radius)):
        for x, y in centers.tolist():
            cv2.circle(panel, (x, y), round(r * 2**shift), color, cv2.FILLED, cv2.LINE_AA, shift)
    return panel
