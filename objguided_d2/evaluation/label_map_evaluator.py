"""What the evaluators of label maps share: each image is compared with its truth once, and gives one record."""

import abc
import logging
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from pycocotools.coco import COCO

from .compared_image import ComparedImage, compare_image
from .gathering import gather_by_image
from .masks import encode_masks

logger = logging.getLogger(__name__)


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
                compare_image(
                    self._ground_truth,
                    self._metadata,
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
        return {
            image_id: gathered[image_id] if image_id in gathered else self.measure(self._without_predictions(image_id))
            for image_id in self._ground_truth.imgs
        }

    def _without_predictions(self, image_id: Any) -> ComparedImage:
        return compare_image(self._ground_truth, self._metadata, image_id, [], np.zeros(0), np.zeros(0, int))
