"""The model's stages, in the order that data goes through them; importing registers them in Detectron2."""

from .backbone import ResNetEncoder, ResNetUNet, build_resnet_encoder_backbone, build_resnet_unet_backbone
from .center_head import CenterHead
from .cosine_embedding import CosineEmbedding
from .dcan import DCAN
from .keypoint_graph import KeypointGraphMaskHead, KeypointGraphProposals, KeypointGraphRCNN
from .mask_head import ObjectGuidedMaskHead
from .meta_arch import ObjectGuidedRCNN, RaggedMaskRCNN, ragged_masks
from .proposal_generator import CenterKeypointProposals
from .roi_heads import ObjectGuidedROIHeads

__all__ = [
    "DCAN",
    "CenterHead",
    "CenterKeypointProposals",
    "CosineEmbedding",
    "KeypointGraphMaskHead",
    "KeypointGraphProposals",
    "KeypointGraphRCNN",
    "ObjectGuidedMaskHead",
    "ObjectGuidedRCNN",
    "ObjectGuidedROIHeads",
    "RaggedMaskRCNN",
    "ResNetEncoder",
    "ResNetUNet",
    "build_resnet_encoder_backbone",
    "build_resnet_unet_backbone",
    "ragged_masks",
]
