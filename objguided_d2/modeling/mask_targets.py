"""True masks sampled at points of ROIs, and the boxes that training ROIs are made from (II-B).

Glossary: M objects of the batch, A ROIs, K points.
"""

import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks
from torch import Tensor

from ..structures.roi_atlas import bilinear_corners, grid_sizes


def jitter_boxes(boxes: Tensor, shift: float, scale: float) -> Tensor:
    """Boxes (M, 4) XYXY moved by ``shift`` x size x N(0, 1) and resized by exp(``scale`` x N(0, 1)), axes apart."""
    if not shift and not scale:
        return boxes
    size = boxes[:, 2:] - boxes[:, :2]
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 + torch.randn_like(size) * shift * size
    half = size * torch.exp(torch.randn_like(size) * scale) / 2
    return torch.cat([center - half, center + half], 1)


def sample_rois_within_area(boxes: Tensor, image: Tensor, num_images: int, max_pixels: int) -> Tensor:
    """A random subset of each image's boxes with stride-1 areas of about ``max_pixels`` in all.

    Boxes are taken in random order until the sum is reached, the one that reaches it included: whether a box is taken
    depends on those before it, not on its own size, so that all objects have the same chance.

    Args:
        boxes: (M, 4) XYXY, enlarged. image: (M,) int64.

    Returns:
        (M',) int64 indices in rising order.
    """
    shuffled = torch.randperm(len(boxes), device=boxes.device)
    shuffled = shuffled[image[shuffled].argsort(stable=True)]
    height, width = grid_sizes(boxes[shuffled], 1)
    area = height * width
    used = area.cumsum(0)
    count = torch.zeros(num_images + 1, dtype=torch.int64, device=boxes.device)
    count.scatter_add_(0, image + 1, torch.ones_like(image))
    first = count.cumsum(0)[:-1][image[shuffled]]
    used_before = used - area
    return shuffled[used_before - used_before[first] < max_pixels].sort().values


class ObjectMasks:
    """The true masks of a batch as one flat list of pixels.

    Args:
        targets: one ``Instances`` per image with ``gt_masks`` (``BitMasks`` or ``PolygonMasks``); polygons are filled
            at input resolution.
    """

    def __init__(self, targets: list[Instances]):
        device = targets[0].gt_boxes.device
        masks = [_as_bitmasks(t.gt_masks, t.image_size, device) for t in targets]
        counts, height, width = torch.tensor([m.shape for m in masks], device="cpu").unbind(1)
        height, width = height.repeat_interleave(counts), width.repeat_interleave(counts)
        area = height * width
        start = area.cumsum(0) - area
        self.pixels = torch.cat([m.reshape(-1) for m in masks])
        self.layout = torch.stack([start, height, width]).to(device, non_blocking=True)

    def select(self, objects: Tensor) -> "MaskTargets":
        """The masks of ROIs: ``objects`` (A,) int64 is the object each is made from, counted over the batch."""
        return MaskTargets(self.pixels, *self.layout[:, objects])


class MaskTargets:
    """The true mask of every ROI, to be sampled at any image position.

    Args:
        pixels: bool, of all masks, one after the other.
        start, height, width: (A,) int64, where in ``pixels`` each ROI's mask begins, and its size, that of its image.
    """

    def __init__(self, pixels: Tensor, start: Tensor, height: Tensor, width: Tensor):
        self.pixels, self.start, self.height, self.width = pixels, start, height, width

    def sample(self, roi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Soft labels at points: bilinear, zeros outside the image (Eq. 9).

        Args:
            roi: (K,) int64. x, y: (K,) index coordinates (the center of pixel 0 is 0).

        Returns:
            (K,) float32 in [0, 1].
        """
        width = self.width.index_select(0, roi)
        corner_y, corner_x, weight = bilinear_corners(x, y, width, self.height.index_select(0, roi))
        index = self.start.index_select(0, roi)[:, None] + corner_y * width[:, None] + corner_x
        values = self.pixels.index_select(0, index.reshape(-1)).view_as(index)
        return (values * weight).sum(1)


def _as_bitmasks(masks: BitMasks | PolygonMasks, size: tuple[int, int], device: torch.device) -> Tensor:
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *size)
    return masks.tensor.to(device)
