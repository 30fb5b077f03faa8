"""Small models and batches for the tests of this folder."""

import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances

from objguided_d2 import get_cfg

CHANNELS = {"c1": 4, "c2": 4, "c3": 8, "c4": 12, "c5": 16}


def small_cfg(num_classes: int = 1, device: str = "cpu") -> CfgNode:
    """The method with narrow layers, in the paper's settings otherwise."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = device
    cfg.MODEL.META_ARCHITECTURE = "ObjectGuidedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_unet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "CenterKeypointProposals"
    cfg.MODEL.ROI_HEADS.NAME = "ObjectGuidedROIHeads"
    cfg.MODEL.ROI_MASK_HEAD.NAME = "ObjectGuidedMaskHead"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.UNET.C1_CHANNELS = 8
    cfg.MODEL.UNET.DECODER_CHANNELS = [24, 24, 24]
    cfg.MODEL.UNET.LATERAL = True
    cfg.MODEL.CENTER_HEAD.CONV_DIM = 24
    cfg.MODEL.CENTER_HEAD.WH_KERNEL = 3
    cfg.MODEL.ROI_MASK_HEAD.LADDER_CHANNELS = [16, 16, 16, 16]
    cfg.MODEL.ROI_MASK_HEAD.SEG_HEAD_DIM = 16
    return cfg


def disk_batch(sizes: list[tuple[int, int]], counts: list[int], num_classes: int = 1, seed: int = 0) -> list[dict]:
    """Images of bright ellipses with exact masks: one (height, width) and one number of objects per image."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for (height, width), count in zip(sizes, counts):
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        center = torch.rand(count, 2, generator=generator) * torch.tensor([width - 20, height - 20]) + 10
        radius = torch.rand(count, 2, generator=generator) * 5 + 4
        distance = ((x - center[:, 0, None, None]) / radius[:, 0, None, None]) ** 2
        distance = distance + ((y - center[:, 1, None, None]) / radius[:, 1, None, None]) ** 2
        masks = BitMasks(distance < 1)
        image = masks.tensor.any(0).float() * 150 + torch.rand(height, width, generator=generator) * 60
        instances = Instances((height, width))
        instances.gt_masks = masks
        instances.gt_boxes = masks.get_bounding_boxes() if count else Boxes(torch.zeros(0, 4))
        instances.gt_classes = torch.randint(0, num_classes, (count,), generator=generator)
        batch.append(
            {"image": image.expand(3, -1, -1).to(torch.uint8), "instances": instances, "height": height, "width": width}
        )
    return batch
