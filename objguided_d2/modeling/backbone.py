"""ResNet without and with a decoder: image -> c1, c2, res2 .. res5 or c1 .. c5 (II-A and II-B).

| name | stride | what it is |
|---|---|---|
| c1 | 1 | two 3x3 convolutions on the image |
| c2 | 2 | the ResNet stem after its norm and ReLU, before the max-pool |
| res2 .. res5 | 4, 8, 16, 32 | the ResNet's stages |
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


def fill_conv(conv: nn.Conv2d, has_norm: bool) -> None:
    """Kaiming initialization before a ReLU, as Detectron2's by the outputs where a norm follows.

    Without norms by the inputs: by the outputs, every layer that narrows makes the values larger.
    """
    if has_norm:
        weight_init.c2_msra_fill(conv)
    else:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)


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
                fill_conv(conv, bool(norm))

    def forward(self, low: Tensor, skip: Tensor) -> Tensor:
        """low (N, C_low, H', W'), skip (N, C_skip, H, W) -> (N, C_out, H, W)."""
        low = self.up(F.interpolate(low, size=skip.shape[-2:], mode="bilinear", align_corners=False))
        if self.lateral is not None:
            skip = self.lateral(skip)
        return self.merge(torch.cat([skip, low], 1))


class ResNetEncoder(Backbone):
    """Detectron2's ResNet with c1 and c2, and no decoder.

    Args:
        bottom_up: a ResNet whose out_features are all its stages.
        c1_channels: channels of c1.
        in_channels: of the image.
    """

    @configurable
    def __init__(self, *, bottom_up: nn.Module, c1_channels: int, in_channels: int = 3):
        super().__init__()
        self.bottom_up = bottom_up
        self.c1 = nn.Sequential(
            Conv2d(in_channels, c1_channels, 3, padding=1, activation=F.relu),
            Conv2d(c1_channels, c1_channels, 3, padding=1, activation=F.relu),
        )
        for conv in self.c1:
            weight_init.c2_msra_fill(conv)
        stages = bottom_up.output_shape()
        self._set_maps(
            {"c1": c1_channels, "c2": bottom_up.stem.out_channels}
            | {name: stages[name].channels for name in bottom_up.stage_names}
        )

    def _set_maps(self, channels: dict[str, int]) -> None:
        """The maps' names and channels, finest first; their strides are the powers of two."""
        self._out_features = list(channels)
        self._out_feature_strides = {name: 2**i for i, name in enumerate(channels)}
        self._out_feature_channels = channels

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        cfg = copy.deepcopy(cfg)
        cfg.defrost()
        deepest = max(ENCODER_FEATURES.index(name) for name in cfg.MODEL.RESNETS.OUT_FEATURES)
        cfg.MODEL.RESNETS.OUT_FEATURES = list(ENCODER_FEATURES[: deepest + 1])
        return {
            "bottom_up": build_resnet_backbone(cfg, input_shape),
            "c1_channels": cfg.MODEL.UNET.C1_CHANNELS,
            "in_channels": input_shape.channels,
        }

    @property
    def size_divisibility(self) -> int:
        return 4 * 2 ** (len(self.bottom_up.stages) - 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W), H and W multiples of ``size_divisibility`` -> {"c1": (N, C1, H, W), "c2": ..., "res2": ...}."""
        resnet = self.bottom_up
        maps = {"c1": self.c1(image), "c2": F.relu_(resnet.stem.conv1(image))}
        x = F.max_pool2d(maps["c2"], kernel_size=3, stride=2, padding=1)
        for name, stage in zip(resnet.stage_names, resnet.stages):
            maps[name] = x = stage(x)
        return maps


class ResNetUNet(ResNetEncoder):
    """The encoder with the decoder on top.

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
        super().__init__(bottom_up=bottom_up, c1_channels=c1_channels, in_channels=in_channels)
        if len(decoder_channels) != 3 or min(decoder_channels) < 0:
            raise ValueError(
                f"MODEL.UNET.DECODER_CHANNELS takes three values >= 0 (c3, c4, c5), not {decoder_channels}"
            )
        encoder = bottom_up.output_shape()
        channels = [own or encoder[name].channels for own, name in zip(decoder_channels, ENCODER_FEATURES)]
        low_channels = [channels[1], channels[2], encoder["res5"].channels]
        self.decoder = nn.ModuleDict(
            {
                f"c{i + 3}": ModuleB(low_channels[i], encoder[ENCODER_FEATURES[i]].channels, channels[i], norm, lateral)
                for i in range(3)
            }
        )
        self._set_maps({"c1": c1_channels, "c2": bottom_up.stem.out_channels} | dict(zip(("c3", "c4", "c5"), channels)))

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        cfg = copy.deepcopy(cfg)
        cfg.defrost()
        cfg.MODEL.RESNETS.OUT_FEATURES = list(ENCODER_FEATURES)
        unet = cfg.MODEL.UNET
        return {
            **super().from_config(cfg, input_shape),
            "decoder_channels": unet.DECODER_CHANNELS,
            "norm": unet.NORM,
            "lateral": unet.LATERAL,
        }

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W), H and W multiples of 32 -> {"c1": (N, C1, H, W), ..., "c5": (N, C5, H / 16, W / 16)}."""
        maps = super().forward(image)
        c5 = self.decoder["c5"](maps["res5"], maps["res4"])
        c4 = self.decoder["c4"](c5, maps["res3"])
        c3 = self.decoder["c3"](c4, maps["res2"])
        return {"c1": maps["c1"], "c2": maps["c2"], "c3": c3, "c4": c4, "c5": c5}


@BACKBONE_REGISTRY.register()
def build_resnet_encoder_backbone(cfg, input_shape: ShapeSpec) -> ResNetEncoder:
    """ResNet 18/34/50/101 by ``MODEL.RESNETS``, up to the deepest of its OUT_FEATURES; c1 by ``MODEL.UNET``."""
    return ResNetEncoder(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_resnet_unet_backbone(cfg, input_shape: ShapeSpec) -> ResNetUNet:
    """ResNet 18/34/50/101 by ``MODEL.RESNETS`` with the decoder by ``MODEL.UNET``."""
    return ResNetUNet(cfg, input_shape)
