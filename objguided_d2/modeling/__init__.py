"""The model's stages, in the order that data goes through them; importing registers them in Detectron2."""

from .backbone import ResNetUNet, build_resnet_unet_backbone
from .center_head import CenterHead
from .cosine_embedding import CosineEmbedding
from .dcan import DCAN
from .mask_head import ObjectGuidedMaskHead
from .meta_arch import ObjectGuidedRCNN, ragged_masks
from .proposal_generator import CenterKeypointProposals
from .roi_heads import ObjectGuidedROIHeads

__all__ = [
    "DCAN",
    "CenterHead",
    "CenterKeypointProposals",
    "CosineEmbedding",
    "ObjectGuidedMaskHead",
    "ObjectGuidedRCNN",
    "ObjectGuidedROIHeads",
    "ResNetUNet",
    "build_resnet_unet_backbone",
    "ragged_masks",
]
