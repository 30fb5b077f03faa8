"""COCO AP of boxes and masks, computed by a library of choice.

T IoU thresholds, R = 101 recalls, K classes, A = 4 size ranges (all, small, medium, large), M = 3 limits.
"""

import contextlib
import io
import itertools
import logging
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets, instances_to_coco_json
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..utils.atomic_write import write_json
from ..utils.rle import encode_masks
from .base import MEAN_OVER_IOU, SIZE_NAMES, InstanceEvaluator, define_average_precision, register_evaluator
from .matched_detections import MatchedDetections, f1_by_score
from .score_threshold import best_score_threshold

logger = logging.getLogger(__name__)

# What another score threshold gains at least, in percent, to be told.
_F1_TO_TELL = 2.0

# Choices of TEST.COCO_EVAL.
LIBRARIES = {"faster_coco_eval": COCOeval_faster, "pycocotools": COCOevalMaxDets}

_TASK = (
    "COCO AP of {}, percent: precision read at 101 recalls; of the objects not yet taken, a detection takes the one it "
    "overlaps most; only the best TEST.DETECTIONS_PER_IMAGE detections of an image count"
)


def evaluate_coco(
    ground_truth: COCO,
    results: Sequence[dict],
    task: Literal["bbox", "segm"],
    *,
    limit: int,
    library: str = "faster_coco_eval",
    image_ids: Iterable | None = None,
) -> COCOeval | COCOeval_faster:
    """Compute AP and AR of boxes or masks.

    Args:
        ground_truth: the true objects.
        results: predictions in COCO's format, with boxes or encoded masks.
        limit: the best-scored predictions that count, per image and class.
        library: one of LIBRARIES. The numbers are equal but for the last digit of a float.
        image_ids: evaluate these images only.

    Returns:
        The library's evaluation: ``stats`` (12,) are AP, AP50, AP75, APs, APm, APl, then AR at 1, at 10 and at
        ``limit`` detections and AR of the three sizes, in [0, 1]; ``eval["precision"]`` is (T, R, K, A, M) and
        ``eval["recall"]`` (T, K, A, M). -1 where there is no object.

    Raises:
        ValueError: if an object has no area.
        KeyError: if there is no such library.
    """
    evaluation = LIBRARIES[library](*numbered_coco(ground_truth, results, task, image_ids), task)
    # The limits are sorted, and AP is reported at the last.
    evaluation.params.maxDets = [1, min(10, limit), limit]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def match_coco(
    ground_truth: COCO,
    results: Sequence[dict],
    task: Literal["bbox", "segm"],
    *,
    limit: int,
    iou_thresholds: Sequence[float] | None = None,
) -> COCOevalMaxDets:
    """Match predictions to objects of any size, as AP is computed from.

    Args:
        iou_thresholds: by default COCO's ten.
        Others: as for :func:`evaluate_coco`.

    Returns:
        pycocotools' evaluation after its ``evaluate()``: ``evalImgs`` has the matches of each class and image, which
        faster_coco_eval keeps to itself.

    Raises:
        ValueError: if an object has no area.
    """
    evaluation = COCOevalMaxDets(*numbered_coco(ground_truth, results, task), task)
    evaluation.params.maxDets = [limit]
    if iou_thresholds is not None:
        evaluation.params.iouThrs = np.array(iou_thresholds)
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return evaluation


def numbered_coco(
    ground_truth: COCO, results: Sequence[dict], task: Literal["bbox", "segm"], image_ids: Iterable | None = None
) -> tuple[COCO, COCO]:
    """Copies of the objects and predictions with images and annotations numbered from 1, as the libraries want them.

    pycocotools never matches an annotation with id 0. faster_coco_eval matches none with a negative or fractional id,
    and takes neither text nor very large numbers for the id of an image. Datasets have all of these.

    Args:
        ground_truth: stays as it is.
        results: predictions in COCO's format; they stay as they are.
        task: what will be evaluated.
        image_ids: of ``ground_truth.imgs``, to take these images only; by default all.

    Returns:
        Objects and predictions, with images in ascending order of their own ids.

    Raises:
        ValueError: if an object has no area, which the libraries treat differently.
    """
    # Where scores are equal, AP depends on the order of the images, and that follows their ids.
    number_of = {i: n for n, i in enumerate(sorted(ground_truth.imgs if image_ids is None else image_ids), start=1)}
    annotations = [annotation for annotation in ground_truth.anns.values() if annotation["image_id"] in number_of]
    truth = COCO()
    truth.dataset = {
        **ground_truth.dataset,
        "images": [{**ground_truth.imgs[i], "id": number} for i, number in number_of.items()],
        "annotations": [_numbered(annotation, n, number_of) for n, annotation in enumerate(annotations, start=1)],
    }
    # With a box, COCO takes its area for that of the mask.
    unused = "bbox" if task == "segm" else "segmentation"
    predictions = [
        {key: value for key, value in result.items() if key != unused} | {"image_id": number_of[result["image_id"]]}
        for result in results
        if result["image_id"] in number_of
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        # loadRes rejects an empty list.
        return truth, truth.loadRes(predictions) if predictions else _without_annotations(truth)


def _numbered(annotation: dict[str, Any], number: int, number_of: dict[Any, int]) -> dict[str, Any]:
    if "area" not in annotation:
        raise ValueError(f"Annotation {annotation['id']} has no 'area'; add the number of pixels of its mask")
    return {"iscrowd": 0, **annotation, "id": number, "image_id": number_of[annotation["image_id"]]}


def _without_annotations(ground_truth: COCO) -> COCO:
    """The same images and categories with nothing on them."""
    nothing = COCO()
    nothing.dataset = {**ground_truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing


@register_evaluator("coco")
class COCOInstanceEvaluator(COCOEvaluator, InstanceEvaluator):
    """COCO AP of boxes and masks at a chosen number of detections per image.

    Differs from Detectron2's: masks may come as RLEs, images with hundreds of objects take no minutes, a limit under
    10 holds, ids of images and annotations may be text, negative or 0, and AP without any prediction or any object is 0
    instead of nan. APs, APm and APl are nan where no object has that size.
    """

    tasks = {"bbox": _TASK.format("boxes"), "segm": _TASK.format("masks")}

    def __init__(
        self,
        dataset_name: str,
        ground_truth: COCO,
        *,
        detections_per_image: int,
        library: str = "faster_coco_eval",
        score_threshold: float | None = None,
        output_folder: str | None = None,
        distributed: bool = True,
    ):
        """
        Args:
            dataset_name: a registered dataset with masks.
            ground_truth: its true objects, see :func:`.ground_truth.load_ground_truth`.
            detections_per_image: the best-scored that count, per image and class.
            library: that computes AP, one of LIBRARIES (TEST.COCO_EVAL).
            score_threshold: of label maps (TEST.LABEL_MAP_SCORE_THRESH); one that is far from the best is told. None =
                there are none.
            output_folder: for ``coco_instances_results.json``; by default it is not written.
            distributed: gather the predictions of all processes; otherwise evaluate those of this one alone.
        """
        super().__init__(
            dataset_name, tasks=("bbox", "segm"), distributed=distributed, output_dir=output_folder, use_fast_impl=False
        )
        # There Detectron2 would write the same once more, as a file that a full disk leaves half of.
        self._output_dir, self._output_folder = None, output_folder
        self._coco_api = ground_truth
        self._detections_per_image = detections_per_image
        self._library = library
        self._score_threshold = score_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        library = cfg.TEST.COCO_EVAL
        if library not in LIBRARIES:
            raise ValueError(f"TEST.COCO_EVAL is '{library}'; choose one of {sorted(LIBRARIES)}")
        return {
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "library": library,
            "score_threshold": cfg.TEST.LABEL_MAP_SCORE_THRESH,
        }

    @classmethod
    def definition(cls, metric: str) -> str | None:
        if match := re.fullmatch("AP([sml])", metric):
            return f"{MEAN_OVER_IOU} and classes, objects {SIZE_NAMES[match[1]]}; undefined without any"
        return define_average_precision(metric)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """See :meth:`.instance_evaluators.InstanceEvaluators.process`."""
        for image, output in zip(inputs, outputs):
            instances = output["instances"].to(self._cpu_device)
            rles = encode_masks(instances.pred_masks)
            instances.remove("pred_masks")
            results = instances_to_coco_json(instances, image["image_id"])
            for result, rle in zip(results, rles):
                result["segmentation"] = rle
            self._predictions.append({"image_id": image["image_id"], "instances": results})

    def _eval_predictions(self, predictions: list[dict], img_ids: list | None = None) -> None:
        results = list(itertools.chain.from_iterable(prediction["instances"] for prediction in predictions))
        class_of = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if class_of:
            category_of = {contiguous: category for category, contiguous in class_of.items()}
            results = [{**result, "category_id": category_of[result["category_id"]]} for result in results]
        if self._output_folder:
            write_json(os.path.join(self._output_folder, "coco_instances_results.json"), results)
        if not self._do_evaluation:
            logger.warning(f"{self._metadata.name}: {self._metadata.json_file} has no annotations to evaluate with")
            return

        if not results:
            logger.warning(f"{self._metadata.name}: no predictions for any image, so COCO AP is 0")
        has_objects = not all(annotation.get("iscrowd", 0) for annotation in self._coco_api.anns.values())
        if not has_objects:
            logger.warning(f"{self._metadata.name}: no objects in any image, so COCO AP is set to 0")
        for task in self._tasks:
            evaluation = evaluate_coco(
                self._coco_api,
                results,
                task,
                limit=self._detections_per_image,
                library=self._library,
                image_ids=img_ids,
            )
            metrics = self._derive_coco_results(evaluation, task, self._metadata.get("thing_classes"))
            self._results[task] = metrics if has_objects else dict.fromkeys(metrics, 0.0)
        if self._score_threshold is not None and results and has_objects:
            self._tell_a_better_score_threshold(results, self._score_threshold)

    def _tell_a_better_score_threshold(self, results: list[dict], threshold: float) -> None:
        """Scores of a short training, or of objects that are hard, are low: there may be none from the threshold on."""
        limit = self._detections_per_image
        matches = match_coco(self._coco_api, results, "segm", limit=limit, iou_thresholds=[0.5])
        matched = MatchedDetections.by_class(matches)
        best = best_score_threshold(matched, threshold)
        f1, best_f1 = 100 * f1_by_score(matched, np.array([threshold, best]))
        if best_f1 > f1 + _F1_TO_TELL:
            logger.warning(
                f"{self._metadata.name}: F1 at IoU 0.5 is {f1:.1f} for instances from TEST.LABEL_MAP_SCORE_THRESH "
                f"{threshold:g} on, which label maps and predictions take; from {best:g} on it is {best_f1:.1f}: set "
                f"the key, or `objguided export --score {best:g}`"
            )
