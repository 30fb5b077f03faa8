"""The mask head by itself: sets of ROIs of given sizes on random maps.

Glossary: R ROIs, C channels. Maps are c1 .. c5 of one square image.
"""

from dataclasses import dataclass

import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from objguided_d2.modeling.mask_head import ObjectGuidedMaskHead
from objguided_d2.modeling.point_refine import PointRefinement
from objguided_d2.profiling.given_boxes import random_boxes

IMAGE_SIZE = 512


@dataclass(frozen=True)
class Widths:
    """Channels of c1 .. c5, of e4 .. e1 and of SegHead."""

    maps: tuple[int, ...]
    ladder: tuple[int, ...]
    seg_head: int


WIDTHS = {
    "paper": Widths((64, 64, 256, 512, 1024), (512, 256, 64, 64), 64),
    "small": Widths((16, 32, 96, 96, 96), (64, 64, 32, 32), 32),
}


@dataclass(frozen=True)
class Case:
    """``count`` boxes with sides of about ``side`` input pixels."""

    count: int
    side: int

    def __str__(self) -> str:
        return f"{self.count} ROIs of {self.side} px"

    def boxes(self, seed: int = 0) -> Tensor:
        """(R, 4) XYXY, sides within a quarter of ``side``."""
        return random_boxes(self.count, self.side, IMAGE_SIZE, seed)


HUNDRED_ROIS = Case(100, 30)
# The last one has large ROIs, which a loop handles almost as well.
CASES = (Case(40, 40), HUNDRED_ROIS, Case(200, 24), Case(20, 120))


def build_mask_head(widths: Widths, seed: int = 0) -> ObjectGuidedMaskHead:
    """In the paper's settings but for the widths, with random weights."""
    torch.manual_seed(seed)
    shapes = {f"c{i + 1}": ShapeSpec(channels=channels, stride=2**i) for i, channels in enumerate(widths.maps)}
    e2, e1 = widths.ladder[-2:]
    return ObjectGuidedMaskHead(
        input_shape=shapes,
        ladder_channels=list(widths.ladder),
        norm_affine=True,
        seg_head_dim=widths.seg_head,
        # The coordinates and the loss of the loop over ROIs.
        grid="released",
        refinement=PointRefinement(
            e1_channels=e1, e2_channels=e2, k=3.0, beta=0.75, d=8.0, loss_weight=1.0, reduction="sum"
        ),
    )


def random_maps(widths: Widths, seed: int = 0) -> list[Tensor]:
    """c1 .. c5, (1, C, H / s, W / s), channels last, none negative, as after a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(1, channels, IMAGE_SIZE >> i, IMAGE_SIZE >> i, generator=generator).contiguous(
            memory_format=torch.channels_last
        )
        for i, channels in enumerate(widths.maps)
    ]


def elliptic_targets(boxes: Tensor) -> Instances:
    """True masks of boxes (R, 4): the ellipse in each."""
    y, x = torch.meshgrid(torch.arange(IMAGE_SIZE) + 0.5, torch.arange(IMAGE_SIZE) + 0.5, indexing="ij")
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    distance = sum(((axis - center[:, i, None, None]) / half[:, i, None, None]) ** 2 for i, axis in enumerate((x, y)))
    instances = Instances((IMAGE_SIZE, IMAGE_SIZE), gt_boxes=Boxes(boxes), gt_masks=BitMasks(distance < 1))
    instances.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
    return instances
