"""What the evaluators of label maps share: each image is compared with its truth once, and gives one record."""

import abc
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from pycocotools.coco import COCO
from scipy import ndimage

from .gathering import gather_by_image
from .ground_truth import true_objects
from .label_map import Overlaps, count_overlaps, paint_label_map
from .masks import encode_masks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparedImage:
    """P predicted instances as a label map, beside the G true objects that are no crowd.

    Attributes:
        record: the image in the data set's COCO file.
        label_map: (H, W) int32, see :func:`.label_map.paint_label_map`.
        predicted_classes, true_classes: (P,) and (G,) contiguous class indices.
        true_masks: G compressed RLEs; they may overlap.
        crowds: compressed RLEs of regions whose objects are not annotated one by one.
    """

    record: dict
    label_map: np.ndarray
    predicted_classes: np.ndarray
    true_classes: np.ndarray
    true_masks: list[dict]
    crowds: list[dict]

    @cached_property
    def overlaps(self) -> Overlaps:
        return count_overlaps(self.label_map, len(self.predicted_classes), self.true_masks)

    @cached_property
    def iou(self) -> np.ndarray:
        """(P, G) mask IoU, 0 between different classes."""
        return self.overlaps.iou * (self.predicted_classes[:, None] == self.true_classes)

    @cached_property
    def boxes(self) -> list[tuple[slice, slice] | None]:
        """P boxes of the predictions in the label map, as rows and columns; None for those without a pixel."""
        number = len(self.predicted_classes)
        return ndimage.find_objects(self.label_map, max_label=number) if number else []  # 0 would mean all labels.

    @cached_property
    def uncounted(self) -> np.ndarray:
        """(P,) bool: predictions that are hidden altogether, or lie in crowd regions by more than half."""
        areas = self.overlaps.predicted_area
        if not self.crowds:
            return areas == 0
        in_crowd = count_overlaps(self.label_map, len(areas), [mask_util.merge(self.crowds)]).intersection[:, 0]
        return (areas == 0) | (2 * in_crowd > areas)


class LabelMapEvaluator(DatasetEvaluator):
    """Paints the instances above a score into a label map, measures it, and sums up over the data set."""

    task: str

    def __init__(
        self, dataset_name: str, ground_truth: COCO, *, score_threshold: float, distributed: bool = True
    ) -> None:
        """
        Args:
            dataset_name: a registered data set with masks.
            ground_truth: its true objects, see :func:`.ground_truth.load_ground_truth`.
            score_threshold: instances under it are not painted (TEST.LABEL_MAP_SCORE_THRESH).
            distributed: gather the results of all processes; otherwise sum up those of this one alone.
        """
        self._dataset_name = dataset_name
        self._metadata = MetadataCatalog.get(dataset_name)
        self._ground_truth = ground_truth
        self._score_threshold = score_threshold
        self._distributed = distributed
        self._records: dict = {}

    @abc.abstractmethod
    def measure(self, image: ComparedImage) -> Any:
        """What the summary needs of one image; it is pickled."""

    @abc.abstractmethod
    def summarize(self, records: list) -> dict[str, float]:
        """Metric -> value from the records of all images, in the order of the data set."""

    def reset(self) -> None:
        self._records = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """See :meth:`.instance_evaluators.InstanceEvaluators.process`."""
        for image, output in zip(inputs, outputs):
            instances = output["instances"]
            instances = instances[instances.scores >= self._score_threshold]
            self._records[image["image_id"]] = self.measure(
                self._compare(
                    image["image_id"],
                    encode_masks(instances.pred_masks),
                    instances.scores.numpy(force=True),
                    instances.pred_classes.numpy(force=True),
                )
            )

    def evaluate(self) -> dict[str, dict[str, float]]:
        """
        Returns:
            ``{task: {metric: value}}``. Images of the set without predictions count as images where nothing was found.
            On all processes but the main one an empty dict.
        """
        records = self.records()
        if records is None:
            return {}
        if not any(not annotation.get("iscrowd", 0) for annotation in self._ground_truth.anns.values()):
            logger.warning(
                f"{self._dataset_name}: no objects in any image, so the share found of them ({self.task}) is 0"
            )
        return {self.task: self.summarize(list(records.values()))}

    def records(self) -> dict | None:
        """What :meth:`measure` has found, image id -> record in the order of the data set.

        None on all processes but the main one.
        """
        gathered = gather_by_image(self._records, self._distributed)
        if gathered is None:
            return None
        nothing = [], np.zeros(0), np.zeros(0, int)
        return {
            image_id: gathered[image_id] if image_id in gathered else self.measure(self._compare(image_id, *nothing))
            for image_id in self._ground_truth.imgs
        }

    def _compare(self, image_id: Any, rles: list[dict], scores: np.ndarray, classes: np.ndarray) -> ComparedImage:
        record = self._ground_truth.imgs[image_id]
        truth = true_objects(self._ground_truth, image_id, self._metadata)
        of_objects = np.flatnonzero(~truth.is_crowd)
        return ComparedImage(
            record,
            paint_label_map(rles, scores, (record["height"], record["width"])),
            classes,
            truth.classes[of_objects],
            [truth.masks[i] for i in of_objects],
            [truth.masks[i] for i in np.flatnonzero(truth.is_crowd)],
        )
