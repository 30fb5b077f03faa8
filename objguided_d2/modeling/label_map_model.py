"""What models have in common that give one label to every pixel: no boxes, no proposals."""

from abc import ABC, abstractmethod

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from detectron2.structures import ImageList
from torch import Tensor, nn

from .label_map import LabeledObjects, label_map_to_instances, label_true_masks


class LabelMapModel(nn.Module, ABC):
    """Inputs and outputs are those of Detectron2's ``GeneralizedRCNN``, see its ``forward``.

    Images are padded with black at their right and bottom. Padding and ignored regions are in no loss. At test time
    each image is processed by itself, so that it gives the same instances in any batch, and its padding is cut off.
    ``mask_format`` is as of ``ObjectGuidedRCNN``: "dense" masks, or "ragged" ones within
    :func:`.meta_arch.ragged_masks`.

    Args:
        backbone: gives maps by name.
        size_divisibility: the sides of padded images are multiples of it.
        num_classes: K.
        pixel_mean, pixel_std: of each channel.
        max_detections: best instances kept per image.
        score_thresh: instances at or below it are left out.
    """

    mask_format = "dense"

    def __init__(
        self,
        *,
        backbone: nn.Module,
        size_divisibility: int,
        num_classes: int,
        pixel_mean: list[float],
        pixel_std: list[float],
        max_detections: int,
        score_thresh: float = 0.0,
    ):
        super().__init__()
        if max_detections < 1:
            raise ValueError(f"TEST.DETECTIONS_PER_IMAGE must be at least 1, not {max_detections}")
        self.backbone = backbone
        self.size_divisibility = size_divisibility
        self.num_classes = num_classes
        self.max_detections, self.score_thresh = max_detections, score_thresh
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        if cfg.TEST.ORIENTATIONS != 1:
            raise ValueError(f"TEST.ORIENTATIONS is {cfg.TEST.ORIENTATIONS}, which {cls.__name__} has not: set it to 1")
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "size_divisibility": max(
                backbone.size_divisibility, *(shape.stride for shape in backbone.output_shape().values())
            ),
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "score_thresh": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Pad with black, normalize and batch."""
        images = [inputs["image"].to(self.device, self.pixel_mean.dtype) for inputs in batched_inputs]
        batch = ImageList.from_tensors(images, self.size_divisibility)
        batch.tensor = ((batch.tensor - self.pixel_mean) / self.pixel_std).contiguous(memory_format=torch.channels_last)
        return batch

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Losses in training, ``[{"instances": Instances}, ...]`` at test time.

        Raises:
            ValueError: an object whose class is not one of ``num_classes``.
        """
        if not self.training:
            return [{"instances": self._detect(inputs)} for inputs in batched_inputs]
        images = self.preprocess_image(batched_inputs)
        size = tuple(images.tensor.shape[-2:])
        label_maps, classes = [], []
        for inputs in batched_inputs:
            instances = inputs["instances"]
            self._check_classes(instances.gt_classes)
            label_maps.append(label_true_masks(instances, inputs.get("ignore_region"), size))
            classes.append(instances.gt_classes)
        return self.losses(images.tensor, label_maps, classes)

    @abstractmethod
    def losses(self, images: Tensor, label_maps: list[Tensor], classes: list[Tensor]) -> dict[str, Tensor]:
        """
        Args:
            images: (N, 3, H, W), normalized.
            label_maps: N of (H, W) int64, see ``label_map.py``, where the inputs are (on the host as a rule).
            classes: of the objects of each, (R,) int64.
        """

    @abstractmethod
    def segment(self, image: Tensor, size: tuple[int, int]) -> LabeledObjects:
        """
        Args:
            image: (1, 3, H, W), normalized and padded.
            size: of the image without padding, which is that of the label map.
        """

    @torch.no_grad()
    def _detect(self, inputs: dict):
        images = self.preprocess_image([inputs])
        height, width = images.image_sizes[0]
        objects = self.segment(images.tensor, (height, width))
        output_size = (inputs.get("height", height), inputs.get("width", width))
        instances = label_map_to_instances(objects, output_size, self.max_detections, self.score_thresh)
        if self.mask_format == "dense":
            instances.pred_masks = instances.pred_masks.tensor
        return instances.to(self.device)

    def _check_classes(self, classes: Tensor) -> None:
        if len(classes) and int(classes.max()) >= self.num_classes:
            raise ValueError(
                f"an object has class {int(classes.max())}, but {type(self).__name__} has {self.num_classes} classes; "
                "set MODEL.ROI_HEADS.NUM_CLASSES to the number of categories"
            )
