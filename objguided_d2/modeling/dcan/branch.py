"""A branch of DCAN: maps of several strides, each upsampled to the image by learned weights."""

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import Tensor, nn


class LearnedUpsampling(nn.Module):
    """3x3 conv, norm, ReLU at the map's stride, then a transposed convolution of twice that stride to scores.

    A transposed convolution of the scores themselves, as of FCN, is an interpolation: it cannot draw an object that is
    smaller than a cell. One of several channels chooses a pattern of pixels for each cell.

    Args:
        in_channels, stride: of the map; the stride is even.
        hidden_channels: that the transposed convolution takes.
        out_channels: of the scores.
        norm: any name of ``detectron2.layers.get_norm``.
    """

    def __init__(self, in_channels: int, stride: int, hidden_channels: int, out_channels: int, norm: str):
        super().__init__()
        self.conv = Conv2d(
            in_channels, hidden_channels, 3, padding=1, norm=get_norm(norm, hidden_channels), activation=F.relu
        )
        weight_init.c2_msra_fill(self.conv)
        self.upsample = nn.ConvTranspose2d(
            hidden_channels, out_channels, 2 * stride, stride=stride, padding=stride // 2
        )
        # Starts as bilinear interpolation of a random mixture of the channels.
        with torch.no_grad():
            mixture = torch.randn(hidden_channels, out_channels, 1, 1) / hidden_channels**0.5
            self.upsample.weight.copy_(mixture * bilinear_kernel(stride))
            self.upsample.bias.zero_()

    def forward(self, feature: Tensor) -> Tensor:
        """(N, C, H / stride, W / stride) -> (N, C_out, H, W)."""
        return self.upsample(self.conv(feature))


def bilinear_kernel(stride: int) -> Tensor:
    """(2 stride, 2 stride) weights with which a transposed convolution interpolates linearly."""
    position = (torch.arange(2 * stride) + 0.5) / stride - 1
    line = 1 - position.abs()
    return line[:, None] * line


class UpsamplingBranch(nn.Module):
    """Scores at full resolution from each of several maps.

    Args:
        shapes: channels and strides of the maps.
        hidden_channels, out_channels, norm: see :class:`LearnedUpsampling`.
    """

    def __init__(self, shapes: list[ShapeSpec], hidden_channels: int, out_channels: int, norm: str):
        super().__init__()
        self.levels = nn.ModuleList(
            LearnedUpsampling(shape.channels, shape.stride, hidden_channels, out_channels, norm) for shape in shapes
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps in the order of ``shapes`` -> logits (N, C_out, H, W) float32 of each; their sum is the fused one."""
        return [level(feature).float() for level, feature in zip(self.levels, features)]
