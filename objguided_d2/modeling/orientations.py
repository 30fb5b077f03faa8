"""Prediction in several orientations of an image, averaged (test-time augmentation by flips and right-angle turns).

Every orientation is a flip in x, a flip in y and a transposition, each done or not, in this order. What flips is the
padded input, so that the cells of the maps fall on one another. Heatmaps (as logits), sizes and offsets are averaged
before peaks become boxes, and mask probabilities pixel by pixel of each ROI.

Coordinates are continuous, see ``structures.roi_atlas``: a flip of an image of width W takes x to W - x.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ..structures.ragged_masks import pixel_fractions
from .proposal_generator import CenterKeypointProposals


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay an image."""

    flip_x: bool = False
    flip_y: bool = False
    transpose: bool = False

    def apply(self, maps: Tensor) -> Tensor:
        """(..., H, W) -> (..., H, W), or (..., W, H) with ``transpose``."""
        flipped = maps.flip(self._flipped_dims) if self._flipped_dims else maps
        return flipped.transpose(-1, -2) if self.transpose else flipped

    def invert(self, maps: Tensor) -> Tensor:
        """The inverse of :meth:`apply`."""
        maps = maps.transpose(-1, -2) if self.transpose else maps
        return maps.flip(self._flipped_dims) if self._flipped_dims else maps

    @property
    def _flipped_dims(self) -> list[int]:
        return [-1] * self.flip_x + [-2] * self.flip_y

    def apply_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of what :meth:`apply` makes of ``size``."""
        return (size[1], size[0]) if self.transpose else size

    def apply_boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes (R, 4) XYXY of an image of (height, width) ``size``."""
        height, width = size
        x1, y1, x2, y2 = boxes.unbind(1)
        if self.flip_x:
            x1, x2 = width - x2, width - x1
        if self.flip_y:
            y1, y2 = height - y2, height - y1
        return torch.stack([y1, x1, y2, x2] if self.transpose else [x1, y1, x2, y2], 1)

    def apply_cells(self, cell: Tensor, size: tuple[int, int]) -> Tensor:
        """Flat indices (M,) into N maps of (height, width) ``size``, to those of the same cells after :meth:`apply`."""
        height, width = size
        image, y, x = cell // (height * width), cell // width % height, cell % width
        x = width - 1 - x if self.flip_x else x
        y = height - 1 - y if self.flip_y else y
        return image * (height * width) + (x * height + y if self.transpose else y * width + x)

    def apply_fractions(self, fractions: Tensor) -> Tensor:
        """Points (K, 2), x first, as fractions of a box from edge to edge."""
        x, y = fractions.unbind(1)
        x, y = 1 - x if self.flip_x else x, 1 - y if self.flip_y else y
        return torch.stack([y, x] if self.transpose else [x, y], 1)

    def invert_wh_and_offset(self, wh: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """What the center head says of a cell of an oriented map, (M, 2) each, x first, for the map as it was."""
        if self.transpose:
            wh, offset = wh.flip(1), offset.flip(1)
        x, y = offset.unbind(1)
        return wh, torch.stack([1 - x if self.flip_x else x, 1 - y if self.flip_y else y], 1)


# The first of them is the image as it is; the first 2, 4 and 8 are closed under composition.
ORIENTATIONS = tuple(
    Orientation(x, y, transpose) for transpose in (False, True) for y in (False, True) for x in (False, True)
)


def detect(
    model: nn.Module,
    images: ImageList,
    orientations: Sequence[Orientation],
    select_peaks: Callable[[Tensor], Tensor] = lambda heatmap: heatmap,
) -> list[Instances]:
    """Detections with masks of a batch, before post-processing.

    Holds the feature maps of all orientations at once.

    Args:
        model: an ``ObjectGuidedRCNN`` in eval mode.
        orientations: one or more; the first must be the image as it is.
        select_peaks: from the heatmap's logits (N, K, H, W) to those with -inf where no center is wanted.

    Returns:
        one per image, with ``RaggedROIMasks``, see ``ObjectGuidedROIHeads``.
    Raises:
        ValueError: if the model's proposals do not come from a heatmap.
    """
    generator, heads = model.proposal_generator, model.roi_heads
    if not isinstance(generator, CenterKeypointProposals):
        raise ValueError(
            f"TEST.ORIENTATIONS averages heatmaps of centers, which {type(generator).__name__} has not: set it to 1 or "
            "MODEL.PROPOSAL_GENERATOR.NAME to CenterKeypointProposals"
        )
    views = [(orientation, model.backbone(orientation.apply(images.tensor))) for orientation in orientations]
    maps = [(orientation, features[generator.in_feature]) for orientation, features in views]
    heatmap = _mean([orientation.invert(generator.head(feature).float()) for orientation, feature in maps])

    def wh_and_offset(cell: Tensor) -> tuple[Tensor, Tensor]:
        size = (heatmap.shape[-2], heatmap.shape[-1])
        values = [
            orientation.invert_wh_and_offset(
                *generator.head.wh_and_offset(feature, orientation.apply_cells(cell, size))
            )
            for orientation, feature in maps
        ]
        return _mean([wh for wh, _ in values]), _mean([offset for _, offset in values])

    proposals = generator.propose(select_peaks(heatmap), wh_and_offset, images.image_sizes)
    detections = [heads.select(p) for p in proposals]
    if not heads.mask_on:
        return detections
    heads.forward_with_given_boxes(views[0][1], detections)
    size = (images.tensor.shape[-2], images.tensor.shape[-1])
    for orientation, features in views[1:]:
        boxes = [Boxes(orientation.apply_boxes(d.pred_boxes.tensor, size)) for d in detections]
        oriented = heads.masks_of_boxes(features, boxes, [orientation.apply_size(size)] * len(boxes))
        for instances, masks in zip(detections, oriented):
            own = instances.pred_masks
            fractions = orientation.apply_fractions(pixel_fractions(own.grid, own.spacing))
            own.probabilities = own.probabilities + masks.at_fractions(own.grid.pixels.roi, fractions)
    if len(views) > 1:
        for instances in detections:
            instances.pred_masks.probabilities = instances.pred_masks.probabilities / len(views)
    return heads.rescore(detections)


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean(0)
