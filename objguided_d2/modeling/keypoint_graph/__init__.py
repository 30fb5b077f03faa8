"""Keypoint Graph, a baseline (Yi et al., "Multi-scale Cell Instance Segmentation with Keypoint Graph Based Bounding
Boxes", MICCAI 2019): boxes from the graph of their corners and centers, masks from the encoder's maps.

"(released)" marks a value that the paper leaves open and the authors' released program sets.

Glossary, for all of this package: N images, M objects of the batch, K classes, H x W a map of one scale, 5 kinds of
keypoints (``keypoints.KINDS``), r the radius of their discs in cells. Positions are index coordinates of a map (0 is
the center of the first cell), x first, unless said otherwise.
"""

from .mask_head import KeypointGraphMaskHead
from .meta_arch import KeypointGraphRCNN
from .proposal_generator import KeypointGraphProposals

__all__ = ["KeypointGraphMaskHead", "KeypointGraphProposals", "KeypointGraphRCNN"]
