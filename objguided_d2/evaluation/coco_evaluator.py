"""COCO AP of a data set: Detectron2's evaluator for crowded images and masks that are encoded already."""

import itertools
import logging
import os

from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json

from .coco_ap import evaluate_coco
from .ground_truth import coco_json_file
from .masks import encode_masks
from .metrics_file import write_json

logger = logging.getLogger(__name__)


class COCOInstanceEvaluator(COCOEvaluator):
    """COCO AP of boxes and masks at a chosen number of detections per image.

    Differs from Detectron2's: masks may come as RLEs, images with hundreds of objects take no minutes, a limit under
    10 holds, ids of images and annotations may be text, negative or 0, and AP without any prediction or any object is 0
    instead of nan. APs, APm and APl are nan where no object has that size.
    """

    def __init__(
        self,
        dataset_name: str,
        output_folder: str,
        *,
        detections_per_image: int,
        library: str = "faster_coco_eval",
        distributed: bool = True,
    ):
        """
        Args:
            dataset_name: a registered data set with masks.
            output_folder: for ``coco_instances_results.json`` and the data set converted to COCO's format.
            detections_per_image: the best-scored that count, per image and class.
            library: that computes AP, one of :data:`.coco_ap.LIBRARIES` (TEST.COCO_EVAL).
            distributed: gather the predictions of all processes; otherwise evaluate those of this one alone.
        """
        coco_json_file(dataset_name, output_folder)  # Detectron2's own conversion may reuse an outdated file.
        super().__init__(
            dataset_name, tasks=("bbox", "segm"), distributed=distributed, output_dir=output_folder, use_fast_impl=False
        )
        self._detections_per_image = detections_per_image
        self._library = library

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
        if self._output_dir:
            write_json(os.path.join(self._output_dir, "coco_instances_results.json"), results)
        if not self._do_evaluation:
            logger.warning(f"{self._metadata.name}: {self._metadata.json_file} has no annotations to evaluate with")
            return

        if not results:
            logger.warning(f"{self._metadata.name}: no predictions for any image, so COCO AP is 0")
        has_objects = not all(annotation.get("iscrowd", 0) for annotation in self._coco_api.anns.values())
        if not has_objects:
            logger.warning(f"{self._metadata.name}: no objects in any image, nothing to find, so COCO AP is set to 0")
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
