"""The whole baseline: encoder -> keypoint graph proposals -> ROI heads -> instances."""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY

from ..meta_arch import RaggedMaskRCNN
from .proposal_generator import KeypointGraphProposals


@META_ARCH_REGISTRY.register()
class KeypointGraphRCNN(RaggedMaskRCNN):
    """``RaggedMaskRCNN`` with boxes from keypoint graphs; its parts are named in ``Base-keypoint-graph.yaml``.

    Args:
        See ``RaggedMaskRCNN``.
    """

    @configurable
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(self.proposal_generator, KeypointGraphProposals):
            raise ValueError("KeypointGraphRCNN needs MODEL.PROPOSAL_GENERATOR.NAME KeypointGraphProposals")

    @classmethod
    def from_config(cls, cfg) -> dict:
        if cfg.TEST.ORIENTATIONS != 1:
            raise ValueError(
                f"TEST.ORIENTATIONS is {cfg.TEST.ORIENTATIONS}, but KeypointGraphRCNN has one orientation: set it to 1"
            )
        return super().from_config(cfg)
