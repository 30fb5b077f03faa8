"""Average precision by the rules of the VOC2010 challenge, for boxes and for masks (Sec. III-B).

D detections and G objects of one class, T IoU thresholds.

A region is a box or a mask. Boxes are (x, y, width, height) in pixels with exclusive far corners, as in Detectron2:
a box over columns 0..9 has width 10, and no pixel is added to any side. Masks are compressed RLEs of pycocotools.

All detections of the set are sorted by score. A detection is true if the object of its image and class that it
overlaps best passes the IoU threshold and no better-scored detection has taken it; a detection whose best object is
taken is false even if it passes with another one. AP is the area under the precision made monotone, at every recall.
COCO's rules differ in both respects: a detection may take its second-best object, and AP is read at 101 recalls.
"""

import abc
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode, Instances
from pycocotools.coco import COCO

from ..utils.rle import encode_masks
from .base import IOU_THRESHOLDS, InstanceEvaluator, define_average_precision, gather_by_image, register_evaluator
from .ground_truth import Objects, true_objects

logger = logging.getLogger(__name__)

Regions = np.ndarray | list[dict]

_TASK = (
    "VOC2010 AP of {}, percent: area under the monotone precision envelope; a detection is true only with the object "
    "that it overlaps most, if no better-scored one has taken it"
)


@dataclass(frozen=True)
class Detections:
    """Detections in one image: boxes (D, 4), masks (D RLEs), class indices (D,), scores (D,)."""

    boxes: np.ndarray
    masks: list[dict]
    classes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class BestOverlaps:
    """For each of D detections: index of the best object, IoU with it, and the largest part of it inside one crowd."""

    object_index: np.ndarray
    iou: np.ndarray
    crowd_overlap: np.ndarray


@dataclass(frozen=True)
class ComparedDetections:
    """The D detections and the objects of one class in one image.

    Attributes:
        scores: (D,).
        best: what each detection overlaps.
        num_objects: those that are no crowd.
    """

    scores: np.ndarray
    best: BestOverlaps
    num_objects: int


_NO_DETECTIONS = Detections(np.zeros((0, 4)), [], np.zeros(0, dtype=int), np.zeros(0))


def average_precision(true_positive: np.ndarray, num_ground_truth: int) -> float:
    """Area under the monotone precision envelope.

    Args:
        true_positive: (D,) whether each detection is true, best score first.
        num_ground_truth: objects that could have been matched, at least 1.

    Returns:
        AP in [0, 1]; 0 without detections.

    Raises:
        ValueError: if there is no object, for which AP is undefined.
    """
    if num_ground_truth < 1:
        raise ValueError(f"AP needs at least one object, got num_ground_truth={num_ground_truth}")
    num_true_positives = np.cumsum(true_positive)
    precision = num_true_positives / np.arange(1, len(true_positive) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall rises by 1 / num_ground_truth at each true detection and nowhere else.
    return float(envelope[np.asarray(true_positive, dtype=bool)].sum() / num_ground_truth)


def average_precision_per_class(
    images: Iterable[tuple[Detections, Objects]],
    region: Literal["boxes", "masks"],
    iou_thresholds: np.ndarray = IOU_THRESHOLDS,
) -> dict[int, np.ndarray]:
    """AP of every class that has objects, see :func:`average_precision_of_compared`.

    Args:
        images: detections and objects of each image; images without either matter too.
        region: what IoU is taken of.
        iou_thresholds: (T,) in (0, 1].
    """
    return average_precision_of_compared((_compare(*image, region) for image in images), iou_thresholds)


def average_precision_of_compared(
    images: Iterable[Mapping[int, ComparedDetections]], iou_thresholds: np.ndarray = IOU_THRESHOLDS
) -> dict[int, np.ndarray]:
    """AP of every class that has objects.

    Equal scores keep the order of ``images`` and, inside an image, of its detections.

    A crowd region is no object to be matched: a detection that fails the threshold with its best object but lies inside
    one crowd by at least that part of its own area is ignored: neither a true nor a false positive.

    Args:
        images: class index -> detections and objects, of each image.
        iou_thresholds: (T,); an IoU that equals one passes.

    Returns:
        class index -> (T,) AP in [0, 1]. A class that has only crowd regions, or only detections, is left out.
    """
    scores, overlaps = defaultdict(list), defaultdict(list)
    num_objects: dict[int, int] = defaultdict(int)
    for image in images:
        for class_index, compared in image.items():
            best = compared.best
            scores[class_index].append(compared.scores)
            overlaps[class_index].append((best.object_index + num_objects[class_index], best.iou, best.crowd_overlap))
            num_objects[class_index] += compared.num_objects

    per_class = {}
    for class_index in sorted(c for c, number in num_objects.items() if number):
        order = np.argsort(-np.concatenate(scores[class_index]), kind="stable")
        best = BestOverlaps(*(np.concatenate(column)[order] for column in zip(*overlaps[class_index])))
        per_class[class_index] = np.array(
            [_average_precision_at(best, threshold, num_objects[class_index]) for threshold in iou_thresholds]
        )
    return per_class


def summarize_average_precision(per_class: Mapping[int, np.ndarray], class_names: Sequence[str]) -> dict[str, float]:
    """Percentages from the AP (T,) of each class: "AP", "AP50" ..., of several classes "AP-<class>"; 0 without any."""
    mean = 100 * np.mean(list(per_class.values()) or np.zeros((1, len(IOU_THRESHOLDS))), axis=0)
    summary = {"AP": float(mean.mean())}
    summary.update({f"AP{round(100 * t)}": float(ap) for t, ap in zip(IOU_THRESHOLDS, mean)})
    if len(class_names) > 1:
        summary.update({f"AP-{class_names[c]}": float(100 * ap.mean()) for c, ap in per_class.items()})
    return summary


def _compare(
    detections: Detections, objects: Objects, region: Literal["boxes", "masks"]
) -> dict[int, ComparedDetections]:
    compared = {}
    for class_index in np.union1d(detections.classes, objects.classes).tolist():
        detection_indices = np.flatnonzero(detections.classes == class_index)
        object_indices = np.flatnonzero(objects.classes == class_index)
        is_crowd = objects.is_crowd[object_indices]
        best = best_overlaps(
            _select(getattr(detections, region), detection_indices),
            _select(getattr(objects, region), object_indices),
            is_crowd,
        )
        num_objects = int(np.count_nonzero(~is_crowd))
        compared[class_index] = ComparedDetections(detections.scores[detection_indices], best, num_objects)
    return compared


def best_overlaps(detections: Regions, objects: Regions, is_crowd: np.ndarray) -> BestOverlaps:
    """Compare the D detections and G objects of one class in one image.

    Args:
        detections, objects: boxes (D, 4) and (G, 4), or lists of RLEs of one image size.
        is_crowd: (G,) bool.

    Returns:
        Three arrays (D,). ``object_index`` counts the objects that are no crowd; where there is none it is 0 and
        ``iou`` is 0.
    """
    num_detections, is_crowd = len(detections), np.asarray(is_crowd, dtype=bool)
    if num_detections == 0 or len(objects) == 0:
        zeros = np.zeros(num_detections)
        return BestOverlaps(zeros.astype(int), zeros, zeros)
    # IoU with objects; with crowds, the intersection over the area of the detection.
    return best_of(mask_util.iou(detections, objects, is_crowd.astype(np.uint8)), is_crowd)


def best_of(overlaps: np.ndarray, is_crowd: np.ndarray) -> BestOverlaps:
    """What each detection overlaps most.

    Args:
        overlaps: (D, G), with objects that are no crowd and with crowds.
        is_crowd: (G,) bool.
    """
    nothing = np.zeros((len(overlaps), 1))
    with_objects = overlaps[:, ~is_crowd] if not is_crowd.all() else nothing
    with_crowds = overlaps[:, is_crowd] if is_crowd.any() else nothing
    return BestOverlaps(with_objects.argmax(axis=1), with_objects.max(axis=1), with_crowds.max(axis=1))


def _average_precision_at(best: BestOverlaps, iou_threshold: float, num_objects: int) -> float:
    """AP at one threshold from overlaps sorted by score."""
    passing = np.flatnonzero(best.iou >= iou_threshold)
    _, first_to_take = np.unique(best.object_index[passing], return_index=True)
    true_positive = np.zeros(len(best.iou), dtype=bool)
    true_positive[passing[first_to_take]] = True
    ignored = (best.iou < iou_threshold) & (best.crowd_overlap >= iou_threshold)
    return average_precision(true_positive[~ignored], num_objects)


def _select(regions: Regions, indices: np.ndarray) -> Regions:
    return regions[indices] if isinstance(regions, np.ndarray) else [regions[i] for i in indices]


class AveragePrecisionEvaluator(InstanceEvaluator):
    """Base of evaluators that keep something of each image and read AP off all of them in the main process."""

    def __init__(
        self, dataset_name: str, ground_truth: COCO, *, output_folder: str | None = None, distributed: bool = True
    ):
        """
        Args:
            dataset_name: a registered dataset with masks.
            ground_truth: its true objects, see :func:`.ground_truth.load_ground_truth`.
            output_folder: unused, no files are written.
            distributed: gather what all processes have kept; otherwise evaluate the images of this one alone.
        """
        self._ground_truth = ground_truth
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._metadata = MetadataCatalog.get(dataset_name)
        self._kept: dict = {}

    @classmethod
    def definition(cls, metric: str) -> str | None:
        return define_average_precision(metric)

    def reset(self) -> None:
        self._kept = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """See :meth:`.instance_evaluators.InstanceEvaluators.process`."""
        for image, output in zip(inputs, outputs):
            self._kept[image["image_id"]] = self._keep(image["image_id"], output["instances"])

    @abc.abstractmethod
    def _keep(self, image_id: Any, instances: Instances) -> Any:
        """What ``evaluate`` needs of an image, small: it is gathered from all processes."""


@register_evaluator("voc2010")
class VOC2010Evaluator(AveragePrecisionEvaluator):
    """AP^seg (mask IoU) and AP^dec (box IoU) at IoU 0.50:0.05:0.95, and their means (Sec. III-B)."""

    tasks = {"voc_seg": _TASK.format("masks"), "voc_dec": _TASK.format("boxes")}

    def _keep(self, image_id: Any, instances: Instances) -> Detections:
        return _detections(instances)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """
        Returns:
            ``{"voc_seg": {"AP": mean, "AP50": ..., "AP95": ...}, "voc_dec": {...}}`` in percent, averaged over the
            classes that have objects; with several classes also "AP-<class>" of each. Images of the dataset
            without predictions count. On all processes but the main one an empty dict.
        """
        predictions = gather_by_image(self._kept, self._distributed)
        if predictions is None:
            return {}

        # In the order of the dataset, which is the same however the images were split between processes.
        images = [
            (predictions.get(image_id, _NO_DETECTIONS), true_objects(self._ground_truth, image_id, self._metadata))
            for image_id in self._ground_truth.imgs
        ]
        if not any(len(detections.scores) for detections, _ in images):
            logger.warning(f"{self._dataset_name}: no predictions for any image, so VOC2010 AP is 0")
        if all(objects.is_crowd.all() for _, objects in images):
            logger.warning(f"{self._dataset_name}: no objects in any image, so VOC2010 AP is set to 0")
        return {
            task: summarize_average_precision(average_precision_per_class(images, region), self._metadata.thing_classes)
            for task, region in (("voc_seg", "masks"), ("voc_dec", "boxes"))
        }


def _detections(instances: Instances) -> Detections:
    boxes = BoxMode.convert(instances.pred_boxes.tensor.cpu(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    return Detections(
        boxes.numpy(),
        encode_masks(instances.pred_masks),
        instances.pred_classes.numpy(force=True),
        instances.scores.numpy(force=True),
    )
