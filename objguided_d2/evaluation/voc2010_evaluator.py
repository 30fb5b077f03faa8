"""VOC2010 AP of a data set, as a Detectron2 evaluator."""

import logging

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode, Instances
from pycocotools.coco import COCO

from .gathering import gather_by_image
from .ground_truth import true_objects
from .masks import encode_masks
from .voc2010 import IOU_THRESHOLDS, Detections, average_precision_per_class

logger = logging.getLogger(__name__)

_NO_DETECTIONS = Detections(np.zeros((0, 4)), [], np.zeros(0, dtype=int), np.zeros(0))


class VOC2010Evaluator(DatasetEvaluator):
    """AP^seg (mask IoU) and AP^dec (box IoU) at IoU 0.50:0.05:0.95, and their means (Sec. III-B)."""

    def __init__(self, dataset_name: str, ground_truth: COCO, *, distributed: bool = True):
        """
        Args:
            dataset_name: a registered data set with masks.
            ground_truth: its true objects, see :func:`.ground_truth.load_ground_truth`.
            distributed: gather the predictions of all processes; otherwise evaluate those of this one alone.
        """
        self._ground_truth = ground_truth
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._metadata = MetadataCatalog.get(dataset_name)
        self._predictions: dict = {}

    def reset(self) -> None:
        self._predictions = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """See :meth:`.instance_evaluators.InstanceEvaluators.process`."""
        for image, output in zip(inputs, outputs):
            self._predictions[image["image_id"]] = _detections(output["instances"])

    def evaluate(self) -> dict[str, dict[str, float]]:
        """
        Returns:
            ``{"voc_seg": {"AP": mean, "AP50": ..., "AP95": ...}, "voc_dec": {...}}`` in percent, averaged over the
            classes that have objects; with several classes also "AP-<class>" of each. Images of the set without
            predictions count. On all processes but the main one an empty dict.
        """
        predictions = gather_by_image(self._predictions, self._distributed)
        if predictions is None:
            return {}

        # In the order of the data set, which is the same however the images were shared out to processes.
        images = [
            (predictions.get(image_id, _NO_DETECTIONS), true_objects(self._ground_truth, image_id, self._metadata))
            for image_id in self._ground_truth.imgs
        ]
        if not any(len(detections.scores) for detections, _ in images):
            logger.warning(f"{self._dataset_name}: no predictions for any image, so VOC2010 AP is 0")
        if all(objects.is_crowd.all() for _, objects in images):
            logger.warning(f"{self._dataset_name}: no objects in any image, nothing to find, so VOC2010 AP is set to 0")
        return {
            task: self._summarize(average_precision_per_class(images, region))
            for task, region in (("voc_seg", "masks"), ("voc_dec", "boxes"))
        }

    def _summarize(self, per_class: dict[int, np.ndarray]) -> dict[str, float]:
        """Percentages from the AP (T,) of each class; 0 without any."""
        mean = 100 * np.mean(list(per_class.values()) or np.zeros((1, len(IOU_THRESHOLDS))), axis=0)
        summary = {"AP": float(mean.mean())}
        summary.update({f"AP{round(100 * t)}": float(ap) for t, ap in zip(IOU_THRESHOLDS, mean)})
        names = self._metadata.thing_classes
        if len(names) > 1:
            summary.update({f"AP-{names[c]}": float(100 * ap.mean()) for c, ap in per_class.items()})
        return summary


def _detections(instances: Instances) -> Detections:
    boxes = BoxMode.convert(instances.pred_boxes.tensor.cpu(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    return Detections(
        boxes.numpy(),
        encode_masks(instances.pred_masks),
        instances.pred_classes.numpy(force=True),
        instances.scores.numpy(force=True),
    )
