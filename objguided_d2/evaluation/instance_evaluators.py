"""Several evaluators on the same predictions, which are checked and encoded once for all."""

from collections.abc import Sequence

import torch
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.structures import Instances
from pycocotools.coco import COCO

from ..utils.allocator import release_freed_memory
from ..utils.rle import EncodedMasks, encode_masks

# Images after which freed memory goes back to the system. What is kept of an image lies among the blocks that the
# network's feature maps have left; those of the next ones, which no longer fit between, would make the process grow.
_RELEASE_EVERY = 8


class InstanceEvaluators(DatasetEvaluators):
    """Evaluators of instance segmentation. Each gets ``pred_masks`` as :class:`..utils.rle.EncodedMasks`."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator], ground_truth: COCO):
        """
        Args:
            evaluators: what to run.
            ground_truth: the images and classes of the dataset, see :func:`.ground_truth.load_ground_truth`.
        """
        super().__init__(evaluators)
        self._images = ground_truth.imgs
        self._num_classes = len(ground_truth.cats)
        self._seen: set = set()

    def reset(self) -> None:
        self._seen = set()
        super().reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``: pred_boxes, pred_masks (see :func:`..utils.rle.encode_masks`), scores,
                pred_classes, all at the size of the original image. They are not changed.

        Raises:
            ValueError: if an image is not of the dataset or comes twice, or its predictions cannot be compared.
        """
        before = len(self._seen)
        encoded = [self._encode(image["image_id"], output["instances"]) for image, output in zip(inputs, outputs)]
        super().process(inputs, [{**output, "instances": one} for output, one in zip(outputs, encoded)])
        if len(self._seen) // _RELEASE_EVERY > before // _RELEASE_EVERY:
            release_freed_memory()

    def _encode(self, image_id: int | str, instances: Instances) -> Instances:
        if image_id not in self._images:
            raise ValueError(f"Image {image_id!r} is not in the ground truth of the dataset")
        if image_id in self._seen:
            raise ValueError(f"Image {image_id!r} was evaluated twice")
        self._seen.add(image_id)
        image = self._images[image_id]
        name, size = image["file_name"], (image["height"], image["width"])
        if not instances.has("pred_masks"):
            raise ValueError(f"Image '{name}': the predictions have no pred_masks to be evaluated")
        if not torch.isfinite(instances.scores).all():
            raise ValueError(f"Image '{name}': scores of the predictions are not all finite")
        unknown_classes = set(instances.pred_classes.tolist()) - set(range(self._num_classes))
        if unknown_classes:
            raise ValueError(
                f"Image '{name}': a predicted class is {min(unknown_classes)}, the dataset has {self._num_classes} "
                "class(es), counted from 0; set MODEL.ROI_HEADS.NUM_CLASSES to that number"
            )
        rles = encode_masks(instances.pred_masks)
        for rle in rles:
            # pycocotools takes masks of different sizes for masks that do not overlap.
            if tuple(rle["size"]) != size:
                raise ValueError(
                    f"Image '{name}' is {size} (height, width), a predicted mask {tuple(rle['size'])}; predictions "
                    "must have the size of the original image"
                )
        return Instances(size, **{**instances.get_fields(), "pred_masks": EncodedMasks(rles)})
