"""ResNet with a decoder: image -> c1 .. c5 (II-A and II-B).

| name | stride | what it is |
|---|---|---|
| c1 | 1 | two 3x3 convolutions on the image |
| c2 | 2 | the ResNet stem after its norm and ReLU, before the max-pool |
| c3, c4, c5 | 4, 8, 16 | decoder outputs: c5 = B(res5, res4), c4 = B(c5, res3), c3 = B(c4, res2) |
"""

import copy

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_resnet_backbone
from torch import Tensor, nn

ENCODER_FEATURES = ("res2", "res3", "res4", "res5")


class ModuleB(nn.Module):
    """Merge a deep map into the map of the next finer stride (II-A).

    Resize ``low`` bilinearly (align_corners=False) to ``skip``; 3x3 conv, norm, ReLU; concatenate (skip, low);
    1x1 conv, norm, ReLU.

    Args:
        low_channels, skip_channels: of the two inputs.
        out_channels: of the output and of the 3x3 convolution (paper: those of ``skip``).
        norm: any name of ``detectron2.layers.get_norm``.
        lateral: project ``skip`` to ``out_channels`` by a 1x1 convolution first.
    """

    def __init__(self, low_channels: int, skip_channels: int, out_channels: int, norm: str, lateral: bool = False):
        super().__init__()
        self.lateral = Conv2d(skip_channels, out_channels, 1) if lateral else None
        if lateral:
            skip_channels = out_channels
        self.up = Conv2d(low_channels, out_channels, 3, padding=1, norm=get_norm(norm, out_channels), activation=F.relu)
        self.merge = Conv2d(
            skip_channels + out_channels, out_channels, 1, norm=get_norm(norm, out_channels), activation=F.relu
        )
        for conv in (self.lateral, self.up, self.merge):
            if conv is not None:
                weight_init.c2_msra_fill(conv)

    def forward(self, low: Tensor, skip: Tensor) -> Tensor:
        """low (N, C_low, H', W'), skip (N, C_skip, H, W) -> (N, C_out, H, W)."""
        low = self.up(F.interpolate(low, size=skip.shape[-2:], mode="bilinear", align_corners=False))
        if self.lateral is not None:
            skip = self.lateral(skip)
        return self.merge(torch.cat([skip, low], 1))


class ResNetUNet(Backbone):
    """Detectron2's ResNet with c1, c2 and the decoder.

    Args:
        bottom_up: a ResNet whose out_features include "res2" .. "res5".
        c1_channels: channels of c1.
        decoder_channels: of c3, c4, c5; 0 takes those of the encoder map that is merged in.
        norm: of Module B.
        lateral: see :class:`ModuleB`.
        in_channels: of the image.
    """

    @configurable
    def __init__(
        self,
        *,
        bottom_up: nn.Module,
        c1_channels: int,
        decoder_channels: list[int],
        norm: str,
        lateral: bool,
        in_channels: int = 3,
    ):
        super().__init__()
        if len(decoder_channels) != 3 or min(decoder_channels) < 0:
            raise ValueError(
                f"MODEL.UNET.DECODER_CHANNELS takes three values >= 0 (c3, c4, c5), not {decoder_channels}"
            )
        encoder = bottom_up.output_shape()
        channels = [own or encoder[name].channels for own, name in zip(decoder_channels, ENCODER_FEATURES)]
        self.bottom_up = bottom_up
        self.c1 = nn.Sequential(
            Conv2d(in_channels, c1_channels, 3, padding=1, activation=F.relu),
            Conv2d(c1_channels, c1_channels, 3, padding=1, activation=F.relu),
        )
        for conv in self.c1:
            weight_init.c2_msra_fill(conv)
        low_channels = [channels[1], channels[2], encoder["res5"].channels]
        self.decoder = nn.ModuleDict(
            {
                f"c{i + 3}": ModuleB(low_channels[i], encoder[ENCODER_FEATURES[i]].channels, channels[i], norm, lateral)
                for i in range(3)
            }
        )
        self._size_divisibility = 32
        self._out_features = ["c1", "c2", "c3", "c4", "c5"]
        self._out_feature_strides = {f"c{i + 1}": 2**i for i in range(5)}
        self._out_feature_channels = dict(
            zip(self._out_features, [c1_channels, bottom_up.stem.out_channels, *channels])
        )

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        cfg = copy.deepcopy(cfg)
        cfg.defrost()
        cfg.MODEL.RESNETS.OUT_FEATURES = list(ENCODER_FEATURES)
        unet = cfg.MODEL.UNET
        return {
            "bottom_up": build_resnet_backbone(cfg, input_shape),
            "c1_channels": unet.C1_CHANNELS,
            "decoder_channels": unet.DECODER_CHANNELS,
            "norm": unet.NORM,
            "lateral": unet.LATERAL,
            "in_channels": input_shape.channels,
        }

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W), H and W multiples of 32 -> {"c1": (N, C1, H, W), ..., "c5": (N, C5, H / 16, W / 16)}."""
        resnet = self.bottom_up
        c2 = F.relu_(resnet.stem.conv1(image))
        x = F.max_pool2d(c2, kernel_size=3, stride=2, padding=1)
        encoded = []
        for stage in resnet.stages:
            x = stage(x)
            encoded.append(x)
        res2, res3, res4, res5 = encoded
        c5 = self.decoder["c5"](res5, res4)
        c4 = self.decoder["c4"](c5, res3)
        c3 = self.decoder["c3"](c4, res2)
        return {"c1": self.c1(image), "c2": c2, "c3": c3, "c4": c4, "c5": c5}


@BACKBONE_REGISTRY.register()
def build_resnet_unet_backbone(cfg, input_shape: ShapeSpec) -> ResNetUNet:
    """ResNet 18/34/50/101 by ``MODEL.RESNETS`` with the decoder by ``MODEL.UNET``."""
    return ResNetUNet(cfg, input_shape)
