"""The three maps on c3: center heatmap, width-height, offset (II-A).

The heatmap is dense. Sizes and offsets are needed at centers alone, in the loss as in decoding, so their branches are
evaluated there alone: the same values as of dense maps, without the rest of the map.

Glossary: N images, C channels, H x W the map, M centers, k1 and k2 the kernel sizes of a branch.
"""

import math

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ..structures.ragged_ops import at_least_float32, weighted_gather


class CenterHead(nn.Module):
    """Three branches conv - ReLU - conv on one feature map.

    Args:
        in_channels: channels of the map.
        num_classes: K of the heatmap.
        conv_dim: channels between the two convolutions.
        wh_kernel: odd kernel size of both convolutions of the width-height branch (released: 7).
        heatmap_prior: probability the heatmap starts from, through the bias of its last convolution.
    """

    @configurable
    def __init__(self, *, in_channels: int, num_classes: int, conv_dim: int, wh_kernel: int, heatmap_prior: float):
        super().__init__()
        if wh_kernel < 1 or wh_kernel % 2 == 0:
            raise ValueError(f"MODEL.CENTER_HEAD.WH_KERNEL must be odd and positive, not {wh_kernel}")
        if not 0 < heatmap_prior < 1:
            raise ValueError(f"MODEL.CENTER_HEAD.HEATMAP_PRIOR must lie between 0 and 1, not {heatmap_prior}")
        self.heatmap = conv_branch(in_channels, conv_dim, num_classes, 3, 1)
        self.wh = conv_branch(in_channels, conv_dim, 2, wh_kernel, wh_kernel)
        self.offset = conv_branch(in_channels, conv_dim, 2, 3, 1)
        nn.init.constant_(self.heatmap[-1].bias, prior_logit(heatmap_prior))

    @classmethod
    def from_config(cls, cfg, in_channels: int) -> dict:
        head = cfg.MODEL.CENTER_HEAD
        return {
            "in_channels": in_channels,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dim": head.CONV_DIM,
            "wh_kernel": head.WH_KERNEL,
            "heatmap_prior": head.HEATMAP_PRIOR,
        }

    def forward(self, feature: Tensor) -> Tensor:
        """(N, C, H, W) -> heatmap logits (N, K, H, W), float32 or wider."""
        # In half precision neighbors often get the same logit, and peaks are lost or gained by the rounding.
        return float32_branch(self.heatmap, feature)

    def wh_and_offset(self, feature: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Sizes and offsets at cells.

        Args:
            feature: (N, C, H, W).
            cell: (M,) int64 flat index into N * H * W.

        Returns:
            wh and offset, each (M, 2), x first, in units of the map's stride.
        """
        return _branch_at(self.wh, feature, cell), _branch_at(self.offset, feature, cell)


def conv_branch(
    in_channels: int, conv_dim: int, out_channels: int, first_kernel: int, last_kernel: int
) -> nn.Sequential:
    """conv - ReLU - conv, initialized as the last layers of a dense detector."""
    branch = nn.Sequential(
        nn.Conv2d(in_channels, conv_dim, first_kernel, padding=first_kernel // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(conv_dim, out_channels, last_kernel, padding=last_kernel // 2),
    )
    nn.init.kaiming_normal_(branch[0].weight, nonlinearity="relu")
    # A small last layer, as every dense detector has: the first boxes are near their bias, not random.
    nn.init.normal_(branch[2].weight, std=0.001)
    for conv in (branch[0], branch[2]):
        nn.init.zeros_(conv.bias)
    return branch


def prior_logit(prior: float) -> float:
    """The bias of a last layer whose probabilities start from ``prior``."""
    return -math.log((1 - prior) / prior)


def float32_branch(branch: nn.Sequential, feature: Tensor) -> Tensor:
    """``branch(feature)`` with its last convolution in float32 or wider, whatever autocast says."""
    first, activation, last = branch
    hidden = activation(first(feature))
    with torch.autocast(feature.device.type, enabled=False):
        weight, bias = at_least_float32(last.weight), at_least_float32(last.bias)
        return F.conv2d(at_least_float32(hidden), weight, bias, padding=last.padding)


def _branch_at(branch: nn.Sequential, feature: Tensor, cell: Tensor) -> Tensor:
    """What ``branch(feature)`` holds at ``cell``, (M, C_out): patches around the cells go through the convolutions."""
    num_images, channels, height, width = feature.shape
    first, last = branch[0], branch[2]
    reach, hidden_reach = first.padding[0] + last.padding[0], last.padding[0]
    if len(cell) * (2 * hidden_reach + 1) ** 2 >= num_images * height * width:
        dense = branch(feature).permute(0, 2, 3, 1).flatten(0, 2)
        return dense.index_select(0, cell)
    x, y = cell % width, cell.div(width, rounding_mode="floor") % height
    step = torch.arange(-reach, reach + 1, device=cell.device)
    inside_x = (x[:, None] + step >= 0) & (x[:, None] + step < width)
    inside_y = (y[:, None] + step >= 0) & (y[:, None] + step < height)
    inside = inside_y[:, :, None] & inside_x[:, None, :]
    index = cell[:, None, None] + step[:, None] * width + step
    index = index.masked_fill(~inside, 0).reshape(-1, 1)
    rows = weighted_gather(feature.permute(0, 2, 3, 1).flatten(0, 2), index, inside.reshape(-1, 1).to(feature.dtype))
    patches = rows.view(len(cell), 2 * reach + 1, 2 * reach + 1, channels).permute(0, 3, 1, 2)
    hidden = F.relu(F.conv2d(patches, first.weight, first.bias))
    # A dense branch pads its hidden map by zeros; here those cells hold the ReLU of the bias.
    margin = reach - hidden_reach
    interior = slice(margin, 2 * reach + 1 - margin)
    hidden = hidden * inside[:, None, interior, interior]
    return F.conv2d(hidden, last.weight, last.bias).flatten(1)
