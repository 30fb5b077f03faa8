"""A model of a few thousand parameters, whose checkpoints cost nothing."""

from pathlib import Path

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from tests.inference.models import busy_cfg, busy_model, save_run

CHANNELS = 8
STRIDES = {"c1": 1, "c2": 2, "c3": 4, "c4": 8, "c5": 16}


class Pyramid(Backbone):
    """Five maps, each a convolution with BatchNorm on the one before it."""

    size_divisibility = 16

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        channels = [in_channels, *[CHANNELS] * len(STRIDES)]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in zip(channels, channels[1:])
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps, value = {}, images
        for name, stage in zip(STRIDES, self.stages):
            value = maps[name] = stage(value if name == "c1" else F.avg_pool2d(value, 2))
        return maps

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(channels=CHANNELS, stride=stride) for name, stride in STRIDES.items()}


@BACKBONE_REGISTRY.register()
def build_pyramid(cfg: CfgNode, input_shape: ShapeSpec) -> Pyramid:
    return Pyramid(input_shape.channels)


def tiny_cfg() -> CfgNode:
    """Two images a step; everything else as ``busy_cfg``."""
    cfg = busy_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_pyramid"
    cfg.MODEL.CENTER_HEAD.CONV_DIM = 8
    cfg.MODEL.ROI_MASK_HEAD.LADDER_CHANNELS = [8, 8, 8, 8]
    cfg.MODEL.ROI_MASK_HEAD.SEG_HEAD_DIM = 8
    cfg.MODEL.CENTER_HEAD.TOPK = cfg.TEST.DETECTIONS_PER_IMAGE = 50
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.OPTIMIZER, cfg.INPUT.INTENSITY = 2, "AdamW", "percentile:1,99"
    return cfg


def save_tiny_run(folder: Path) -> Path:
    """The run folder of such a model, which finds objects without any training."""
    cfg = tiny_cfg()
    return save_run(cfg, busy_model(cfg), folder)
