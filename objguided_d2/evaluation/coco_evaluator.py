"""COCO AP of a data set: Detectron2's evaluator for crowded images and masks that are encoded already."""

import contextlib
import io
import logging
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets, instances_to_coco_json

from .ground_truth import coco_json_file
from .masks import encode_masks

logger = logging.getLogger(__name__)


class COCOInstanceEvaluator(COCOEvaluator):
    """COCO AP of boxes and masks at a chosen number of detections per image.

    Differs from Detectron2's in three ways: masks may come as RLEs, a limit under 10 is kept, and AP without any
    prediction or any object is 0 instead of nan. APs, APm and APl stay nan where no object has that size.
    """

    def __init__(self, dataset_name: str, output_folder: str, *, detections_per_image: int, distributed: bool = True):
        """
        Args:
            dataset_name: a registered data set with masks.
            output_folder: for ``coco_instances_results.json`` and the data set converted to COCO's format.
            detections_per_image: the best-scored that count, per image and class.
            distributed: gather the predictions of all processes; otherwise evaluate those of this one alone.
        """
        coco_json_file(dataset_name, output_folder)  # so that Detectron2 need not convert: it may reuse an old file
        super().__init__(
            dataset_name,
            tasks=("bbox", "segm"),
            distributed=distributed,
            output_dir=output_folder,
            # The compiled evaluation is unofficial, and Detectron2 skips it where the limit is not 100.
            use_fast_impl=False,
        )
        # COCOeval sorts its three limits and reports AP at the last.
        self._max_dets_per_image = [1, min(10, detections_per_image), detections_per_image]

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """See :meth:`.voc2010_evaluator.VOC2010Evaluator.process`."""
        for image, output in zip(inputs, outputs):
            instances = output["instances"].to(self._cpu_device)
            rles = encode_masks(instances.pred_masks)
            instances.remove("pred_masks")
            results = instances_to_coco_json(instances, image["image_id"])
            for result, rle in zip(results, rles):
                result["segmentation"] = rle
            self._predictions.append({"image_id": image["image_id"], "instances": results})

    def _derive_coco_results(
        self, coco_eval: COCOeval | None, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        if coco_eval is None:
            logger.warning(f"{self._metadata.name}: no predictions for any image, so COCO {iou_type} AP is 0")
            coco_eval = self._evaluate_nothing(iou_type)
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        if all(annotation.get("iscrowd", 0) for annotation in self._coco_api.anns.values()):
            logger.warning(
                f"{self._metadata.name}: no objects in any image, nothing to find, so COCO {iou_type} AP is set to 0"
            )
            results = dict.fromkeys(results, 0.0)
        return results

    def _evaluate_nothing(self, iou_type: str) -> Any:
        """What COCOeval says of a set without predictions, which ``COCO.loadRes`` rejects."""
        nothing = COCO()
        nothing.dataset = {**self._coco_api.dataset, "annotations": []}
        nothing.createIndex()
        coco_eval = COCOevalMaxDets(self._coco_api, nothing, iou_type)
        coco_eval.params.maxDets = self._max_dets_per_image
        with contextlib.redirect_stdout(io.StringIO()):
            coco_eval.evaluate()
            coco_eval.accumulate()
            coco_eval.summarize()
        return coco_eval
