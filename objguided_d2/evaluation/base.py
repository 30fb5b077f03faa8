"""What all evaluators share: their registry, their interface, and the base of those that compare label maps.

A measure is one file of this package: its pure functions, and a class with :func:`register_evaluator` that says how it
reads the config and what each of its numbers means. Importing the package imports every file in it.
"""

import abc
import itertools
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import detectron2.utils.comm as comm
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from pycocotools.coco import COCO

from ..utils.rle import encode_masks
from .compared_image import ComparedImage, compare_image

logger = logging.getLogger(__name__)

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MEAN_OVER_IOU = "mean over IoU thresholds 0.50:0.05:0.95"

# COCO's sizes of objects by suffix of a metric: from, below, in pixels of area; and in words.
SIZES = {"s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, np.inf)}
SIZE_NAMES = {"s": "under 32^2 pixels", "m": "of 32^2 to 96^2 pixels", "l": "over 96^2 pixels"}

LABEL_MAP = "of the instances with a score from TEST.LABEL_MAP_SCORE_THRESH, each pixel given to the best-scored one"

# The names of TEST.EVALUATORS.
EVALUATORS: dict[str, type["InstanceEvaluator"]] = {}

Evaluator = TypeVar("Evaluator", bound=type["InstanceEvaluator"])


def register_evaluator(name: str) -> Callable[[Evaluator], Evaluator]:
    """Class decorator: TEST.EVALUATORS may name the evaluator.

    Raises:
        ValueError: if another evaluator has the name, or one of its tasks.
    """

    def register(kind: Evaluator) -> Evaluator:
        if name in EVALUATORS:
            raise ValueError(f"evaluator '{name}' is registered as {EVALUATORS[name].__name__}; choose another name")
        for other in EVALUATORS.values():
            if taken := kind.tasks.keys() & other.tasks.keys():
                raise ValueError(f"task '{min(taken)}' belongs to {other.__name__}; choose another name")
        EVALUATORS[name] = kind
        return kind

    return register


class InstanceEvaluator(DatasetEvaluator, abc.ABC):
    """An evaluator that TEST.EVALUATORS can name.

    Its constructor takes the name and the true objects of a dataset, the keyword ``output_folder``, and what
    ``from_config`` returns. It gets masks as :class:`..utils.rle.EncodedMasks`.

    Attributes:
        tasks: task -> what its numbers measure; the keys of what ``evaluate()`` returns.
        metrics: metric -> its definition, of all tasks.
    """

    tasks: ClassVar[Mapping[str, str]]
    metrics: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Keyword arguments of the constructor.

        Raises:
            ValueError: if a key has no valid value.
        """
        return {}

    @classmethod
    def definition(cls, metric: str) -> str | None:
        """The meaning of one number; None if there is no such metric. Overridden where names have parameters."""
        return cls.metrics.get(metric)


class LabelMapEvaluator(InstanceEvaluator):
    """Paints the instances above a score into a label map, measures it, and sums up over the dataset.

    A subclass has one task, :meth:`measure` and :meth:`summarize`.
    """

    def __init__(
        self,
        dataset_name: str,
        ground_truth: COCO,
        *,
        score_threshold: float,
        output_folder: str | None = None,
        distributed: bool = True,
    ) -> None:
        """
        Args:
            dataset_name: a registered dataset with masks.
            ground_truth: its true objects, see :func:`.ground_truth.load_ground_truth`.
            score_threshold: instances under it are not painted (TEST.LABEL_MAP_SCORE_THRESH).
            output_folder: for files that the measure writes; none by default.
            distributed: gather the results of all processes; otherwise sum up those of this one alone.
        """
        self._dataset_name = dataset_name
        self._metadata = MetadataCatalog.get(dataset_name)
        self._ground_truth = ground_truth
        self._score_threshold = score_threshold
        self._output_folder = output_folder
        self._distributed = distributed
        self._records: dict = {}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"score_threshold": cfg.TEST.LABEL_MAP_SCORE_THRESH}

    @abc.abstractmethod
    def measure(self, image: ComparedImage) -> Any:
        """What the summary needs of one image; it is pickled."""

    @abc.abstractmethod
    def summarize(self, records: list) -> dict[str, float]:
        """Metric -> value from the records of all images, in the order of the dataset."""

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
            ``{task: {metric: value}}``. Images of the dataset without predictions count, with all their objects as
            false negatives. On all processes but the main one an empty dict.
        """
        records = self.records()
        if records is None:
            return {}
        (task,) = self.tasks
        if not any(not annotation.get("iscrowd", 0) for annotation in self._ground_truth.anns.values()):
            logger.warning(f"{self._dataset_name}: no objects in any image, so recall ({task}) is 0")
        return {task: self.summarize(list(records.values()))}

    def records(self) -> dict | None:
        """The result of :meth:`measure` by image id, in the order of the dataset.

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


def gather_by_image(results: Mapping, distributed: bool) -> dict | None:
    """The results of all processes by image id; None on all processes but the main one.

    Args:
        results: image id -> anything that can be pickled, of this process.
        distributed: False to take this process alone.
    """
    if not distributed:
        return dict(results)
    comm.synchronize()
    gathered = comm.gather(dict(results), dst=0)
    if not comm.is_main_process():
        return None
    return dict(itertools.chain.from_iterable(part.items() for part in gathered))


def define_average_precision(metric: str) -> str | None:
    """The meaning of ``AP``, ``AP<threshold>`` and ``AP-<class>``; None for other names."""
    if metric == "AP":
        return f"{MEAN_OVER_IOU} and classes"
    if metric.startswith("AP-"):
        return f"{MEAN_OVER_IOU}, class '{metric[3:]}' alone"
    if match := re.fullmatch(r"AP(\d\d)", metric):
        return f"IoU threshold 0.{match[1]}, mean over classes"
    return None
