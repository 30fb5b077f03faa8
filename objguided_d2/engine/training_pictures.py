"""Pictures of what the model does while it trains, every VIS_PERIOD iterations (TensorBoard shows them)."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.engine import HookBase
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.visualizer import Visualizer
from torch import Tensor, nn

from ..modeling.meta_arch import RaggedMaskRCNN
from ..modeling.proposal_generator import CenterKeypointProposals
from ..structures.roi_atlas import RoiAtlas

MAX_INSTANCES = 20
POINTS_PICTURE_SIDE = 256


class TrainingPictures(HookBase):
    """Draws the first image of a batch after its step, as the model sees it then.

    Args:
        model: whose pictures are drawn; the hook gets the batch as it enters the forward pass.
        period: iterations between pictures.
    """

    def __init__(self, model: RaggedMaskRCNN, period: int) -> None:
        self._model, self._period = model, period
        self._batch: list[dict] | None = None

    def before_step(self) -> None:
        if self.trainer.iter % self._period == 0:
            self._handle = self._model.register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, args: tuple) -> None:
        (self._batch,) = args

    def after_step(self) -> None:
        if self._batch is not None:
            self._handle.remove()
            batch, self._batch = self._batch, None
            draw_training_pictures(self._model, batch[0])


@torch.no_grad()
def draw_training_pictures(model: RaggedMaskRCNN, inputs: dict) -> None:
    """Put pictures of one training sample into the event storage: truth beside prediction, and where the model has them
    the center heatmap beside its target, and the refinement's points on a predicted mask."""
    truth = inputs["instances"].to(model.device)
    with _evaluating(model):
        images = model.preprocess_image([inputs])
        features = model.backbone(images.tensor)
        _draw_instances(model, inputs, truth)
        if isinstance(model.proposal_generator, CenterKeypointProposals):
            _draw_heatmap(model.proposal_generator, features, truth)
        _draw_points(model, truth, features)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that each module had: some may be frozen."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _draw_instances(model: RaggedMaskRCNN, inputs: dict, truth: Instances) -> None:
    height, width = inputs["image"].shape[-2:]
    sample = {"image": inputs["image"], "height": height, "width": width}
    predicted = model.inference([sample])[0]["instances"][:MAX_INSTANCES].to("cpu")
    image = convert_image_to_rgb(inputs["image"].permute(1, 2, 0), model.input_format)
    pictures = [
        Visualizer(image).overlay_instances(boxes=boxes.to("cpu"), masks=masks).get_image()
        for boxes, masks in (
            (truth.gt_boxes, truth.gt_masks.to("cpu")),
            (predicted.pred_boxes, np.asarray(predicted.pred_masks)),
        )
    ]
    get_event_storage().put_image("left: true boxes and masks; right: predicted", _beside(*pictures))


def _draw_heatmap(generator: CenterKeypointProposals, features: dict[str, Tensor], truth: Instances) -> None:
    heatmap = generator.head(features[generator.in_feature])
    target = generator.targets(heatmap.shape, [truth]).heatmap
    gray = [(m[0].float().amax(0) * 255).byte().cpu().numpy() for m in (target, heatmap.sigmoid())]
    pictures = (np.stack([g] * 3, 2) for g in gray)
    get_event_storage().put_image("left: true center heatmap; right: predicted", _beside(*pictures))


def _draw_points(model: RaggedMaskRCNN, truth: Instances, features: dict[str, Tensor]) -> None:
    """The mask predicted for the largest true box, with its sampled points in red."""
    head = model.roi_heads.mask_head
    if head.refinement is None or not len(truth):
        return
    largest = truth.gt_boxes.tensor[truth.gt_boxes.area().argmax()][None]
    boxes = head.rois(largest)
    image = torch.zeros(1, dtype=torch.int64, device=boxes.device)
    atlas = RoiAtlas(boxes, image, head.strides, head.min_crop_size, head.grid)
    if not len(atlas):
        return
    logits, _ = head.predict([features[name] for name in head.in_features], atlas)
    probabilities = logits[:, 0].float().sigmoid()
    _, point_coords, _ = head.refinement.sample(atlas, probabilities)

    mask = atlas.grids[0].split(probabilities)[0][None, None]
    side = POINTS_PICTURE_SIDE
    picture = torch.nn.functional.interpolate(mask, size=(side, side), mode="bilinear", align_corners=False)[0, 0]
    picture = (picture * 255).byte().cpu()[None].repeat(3, 1, 1)
    x, y = (point_coords.cpu() * side).long().clamp(max=side - 1).unbind(1)
    picture[:, y, x] = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None]
    get_event_storage().put_image("refinement points on a predicted mask", picture.numpy())


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two (H, W, 3) uint8 pictures -> one (3, H, 2 W), the order of the event storage."""
    return np.concatenate([left, right], 1).transpose(2, 0, 1)
