"""The three dense maps on c3: center heatmap, width-height, offset (II-A)."""

import math

from torch import Tensor, nn

from detectron2.config import configurable


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
        self.heatmap = _branch(in_channels, conv_dim, num_classes, 3, 1)
        self.wh = _branch(in_channels, conv_dim, 2, wh_kernel, wh_kernel)
        self.offset = _branch(in_channels, conv_dim, 2, 3, 1)
        nn.init.constant_(self.heatmap[-1].bias, -math.log((1 - heatmap_prior) / heatmap_prior))

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

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) -> heatmap logits (N, K, H, W), wh (N, 2, H, W), offset (N, 2, H, W); both x first, in
        units of the map's stride."""
        return self.heatmap(feature), self.wh(feature), self.offset(feature)


def _branch(in_channels: int, conv_dim: int, out_channels: int, first_kernel: int, last_kernel: int) -> nn.Sequential:
    branch = nn.Sequential(
        nn.Conv2d(in_channels, conv_dim, first_kernel, padding=first_kernel // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(conv_dim, out_channels, last_kernel, padding=last_kernel // 2),
    )
    for conv in (branch[0], branch[2]):
        # Small last layers, as every dense detector has: the first boxes are a few pixels wide, not random.
        nn.init.normal_(conv.weight, std=0.001)
        nn.init.zeros_(conv.bias)
    nn.init.kaiming_normal_(branch[0].weight, nonlinearity="relu")
    return branch
