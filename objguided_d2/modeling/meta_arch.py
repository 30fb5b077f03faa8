"""The whole model: backbone -> center proposals -> ROI heads -> instances."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, detector_postprocess
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from .orientations import ORIENTATIONS, detect
from .postprocess import InstancePostprocessor
from .proposal_generator import CenterKeypointProposals

# Rows and columns of a dense mask over a box, where there is no post-processing.
ROI_MASK_SIDE = 56


class RaggedMaskRCNN(GeneralizedRCNN):
    """``GeneralizedRCNN`` whose ROI heads give ragged masks; inputs and outputs are Detectron2's.

    Padding. An image is padded with black at its right and bottom to a multiple of the backbone's
    ``size_divisibility``, as training crops are that reach beyond their image. Convolutions see what lies beyond an
    image, so at test time only images of the same padded size are batched: the content of a map is then that of the
    image alone. Centers in the padding are no detections. Together: an image gives the same instances alone and in any
    batch, up to rounding.

    Masks. ``mask_format`` says what ``pred_masks`` are, see :meth:`inference`. "dense", the default, is what Detectron2
    promises its users. "ragged" masks take memory by the objects' own sizes; this package's evaluation asks for them
    (:func:`ragged_masks`).

    Args:
        postprocessor: see :class:`InstancePostprocessor`.
        Others: those of ``GeneralizedRCNN``.
    """

    mask_format = "dense"

    @configurable
    def __init__(self, *, postprocessor: InstancePostprocessor, **kwargs):
        super().__init__(**kwargs)
        self.postprocessor = postprocessor

    @classmethod
    def from_config(cls, cfg) -> dict:
        head = cfg.MODEL.ROI_MASK_HEAD
        return {
            **super().from_config(cfg),
            "postprocessor": InstancePostprocessor(
                head.MASK_THRESH,
                head.PASTE_MODE,
                head.BOXES_FROM_MASKS,
                head.MASK_NMS_THRESH,
                head.LARGEST_PIECE,
                keep_input_masks="released" in cfg.TEST.EVALUATORS,  # That evaluator resizes them itself.
            ),
        }

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Pad with black, normalize and batch; channels-last, which convolutions and ROIs both prefer."""
        images = [self._move_to_current_device(x["image"]).to(self.pixel_mean.dtype) for x in batched_inputs]
        backbone = self.backbone
        images = ImageList.from_tensors(
            images, backbone.size_divisibility, padding_constraints=backbone.padding_constraints
        )
        images.tensor = ((images.tensor - self.pixel_mean) / self.pixel_std).contiguous(
            memory_format=torch.channels_last
        )
        return images

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """See ``GeneralizedRCNN.forward``: losses in training, ``[{"instances": Instances}, ...]`` at test time, each
        also with "all_scores", those of the instances before post-processing, the best center first, if they have any.

        A training input may have "ignore_region", (height, width) bool as its image, where objects are not annotated;
        a proposal generator with ``takes_ignore_region`` gets those of the batch.
        """
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        features = self.backbone(images.tensor)
        options = {}
        if getattr(self.proposal_generator, "takes_ignore_region", False):
            options["ignore_region"] = _batch_ignore_regions(batched_inputs, images.tensor)
        proposals, proposal_losses = self.proposal_generator(images, features, gt_instances, **options)
        _, mask_losses = self.roi_heads(images, features, proposals, gt_instances)
        return {**proposal_losses, **mask_losses}

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[dict] | list[Instances]:
        """See ``GeneralizedRCNN.inference``.

        ``pred_masks`` of R instances are with post-processing a bool tensor (R, height, width), or ragged
        :class:`RaggedMasks`; without it probabilities (R, 1, M, M) on a regular grid over each box, as of Mask R-CNN,
        or ragged :class:`RaggedROIMasks`.

        Raises:
            NotImplementedError: in a trace.
        """
        if torch.jit.is_tracing():
            raise NotImplementedError(self._no_trace())
        results: list = [None] * len(batched_inputs)
        for indices in _by_padded_size(batched_inputs, self.backbone.size_divisibility):
            inputs = [batched_inputs[i] for i in indices]
            given = None if detected_instances is None else [detected_instances[i] for i in indices]
            batch = self._infer_batch(inputs, given)
            for i, instances in zip(indices, batch):
                results[i] = instances
        if not do_postprocess:
            if self.mask_format == "dense":
                for instances in results:
                    if instances.has("pred_masks"):
                        boxes = instances.pred_boxes.tensor
                        instances.pred_masks = instances.pred_masks.to_squares(boxes, ROI_MASK_SIDE)
            return results
        return self._postprocess(results, batched_inputs, [instances.image_size for instances in results])

    def _infer_batch(self, inputs: list[dict], given: list[Instances] | None) -> list[Instances]:
        """Detections with ragged masks, before post-processing, of images of one padded size."""
        return super().inference(inputs, given, do_postprocess=False)

    def _postprocess(
        self, instances: list[Instances], batched_inputs: list[dict], image_sizes: list[tuple[int, int]]
    ) -> list[dict]:
        def postprocess(detections: Instances, height: int, width: int) -> Instances:
            # ROI heads whose ``mask_on`` is False find boxes alone.
            has_masks = detections.has("pred_masks")
            return (self.postprocessor if has_masks else detector_postprocess)(detections, height, width)

        outputs: list[dict] = [
            {
                "instances": postprocess(detections, inputs.get("height", height), inputs.get("width", width)),
                **({"all_scores": detections.scores} if detections.has("scores") else {}),
            }
            for detections, inputs, (height, width) in zip(instances, batched_inputs, image_sizes)
        ]
        if self.mask_format == "dense":
            for output in outputs:
                if output["instances"].has("pred_masks"):
                    output["instances"].pred_masks = output["instances"].pred_masks.tensor
        return outputs

    def __prepare_scriptable__(self) -> nn.Module:
        raise NotImplementedError(self._no_trace())

    def _no_trace(self) -> str:
        return (
            f"{type(self).__name__} cannot be traced or scripted: the sizes of its crops follow from the boxes that it "
            "predicts. Call the model itself, or torch.compile its backbone"
        )


@META_ARCH_REGISTRY.register()
class ObjectGuidedRCNN(RaggedMaskRCNN):
    """The method: center proposals, and masks from the detector's own maps.

    Args:
        orientations: 1, 2, 4 or 8: how many of ``orientations.ORIENTATIONS`` a prediction averages.
        Others: those of ``RaggedMaskRCNN``.
    """

    @configurable
    def __init__(self, *, orientations: int = 1, **kwargs):
        super().__init__(**kwargs)
        if orientations not in (1, 2, 4, 8):
            raise ValueError(f"TEST.ORIENTATIONS must be 1, 2, 4 or 8, not {orientations}")
        self.orientations = ORIENTATIONS[:orientations]

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {**super().from_config(cfg), "orientations": cfg.TEST.ORIENTATIONS}

    def _infer_batch(self, inputs: list[dict], given: list[Instances] | None) -> list[Instances]:
        if given is None and len(self.orientations) > 1:
            return detect(self, self.preprocess_image(inputs), self.orientations)
        return super()._infer_batch(inputs, given)


@contextmanager
def ragged_masks(model: nn.Module) -> Iterator[None]:
    """Any model in ``model`` that has a ``mask_format`` gives ragged masks meanwhile; others stay as they are."""
    ours = [module for module in model.modules() if hasattr(module, "mask_format")]
    formats = [module.mask_format for module in ours]
    for module in ours:
        module.mask_format = "ragged"
    try:
        yield
    finally:
        for module, mask_format in zip(ours, formats):
            module.mask_format = mask_format


def finds_centers(model: nn.Module) -> TypeGuard[ObjectGuidedRCNN]:
    """Whether a model is an ``ObjectGuidedRCNN`` whose proposals are centers, from a heatmap."""
    return isinstance(model, ObjectGuidedRCNN) and isinstance(model.proposal_generator, CenterKeypointProposals)


@contextmanager
def averaged_orientations(model: nn.Module, count: int) -> Iterator[None]:
    """An ``ObjectGuidedRCNN`` averages ``count`` orientations meanwhile; other models stay as they are."""
    if not isinstance(model, ObjectGuidedRCNN):
        yield
        return
    own, model.orientations = model.orientations, ORIENTATIONS[:count]
    try:
        yield
    finally:
        model.orientations = own


def _by_padded_size(batched_inputs: list[dict], divisibility: int) -> list[list[int]]:
    """Indices of the inputs whose images have the same size when padded to multiples of ``divisibility``."""
    groups = defaultdict(list)
    for i, inputs in enumerate(batched_inputs):
        groups[tuple(-(-side // max(divisibility, 1)) for side in inputs["image"].shape[-2:])].append(i)
    return list(groups.values())


def _batch_ignore_regions(batched_inputs: list[dict], images: Tensor) -> Tensor | None:
    """The inputs' "ignore_region" as (N, H, W) bool, False in the padding of ``images`` (N, C, H, W); None if none."""
    if not any("ignore_region" in inputs for inputs in batched_inputs):
        return None
    num_images, _, height, width = images.shape
    regions = images.new_zeros((num_images, height, width), dtype=torch.bool)
    for padded, inputs in zip(regions, batched_inputs):
        if "ignore_region" in inputs:
            region = inputs["ignore_region"]
            padded[: region.shape[0], : region.shape[1]].copy_(region, non_blocking=True)
    return regions
