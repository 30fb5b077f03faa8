"""What better boxes could gain: AP with the boxes as they are detected, and with those of the true objects.

    python -m benchmarks.true_boxes --model nuclei --dataset dsb2018_val

Of the detections that overlap an object most (IoU of the boxes 0.1 or more), the best gets the object's box; the mask
head makes its mask there, and scores and suppression follow from that. This is the oracle that
:mod:`benchmarks.missing_ap`, which has predictions alone, cannot ask.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, BoxMode, Instances, pairwise_iou
from tabulate import tabulate
from torch import Tensor, nn

from objguided_d2.engine.setup import check_config
from objguided_d2.engine.trainer import Trainer
from objguided_d2.inference.pretrained import load_pretrained
from objguided_d2.modeling.meta_arch import ObjectGuidedRCNN

from .missing_ap import BELONGS_IOU


class TrueBoxes(nn.Module):
    """An object-guided model whose mask head gets true boxes where it has detected something.

    Args:
        model: in eval mode.
        boxes: of each image id, (G, 4) XYXY in pixels of the image as it is stored.
    """

    def __init__(self, model: ObjectGuidedRCNN, boxes: Mapping[Any, Tensor]):
        super().__init__()
        self.model, self.boxes = model, boxes

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        model, heads = self.model, self.model.roi_heads
        images = model.preprocess_image(batched_inputs)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
        detections = []
        for inputs, found in zip(batched_inputs, proposals):
            height, width = found.image_size
            boxes = Boxes(self.boxes[inputs["image_id"]].to(model.device, copy=True))
            boxes.scale(width / inputs["width"], height / inputs["height"])
            detections.append(with_true_boxes(heads.select(found), boxes))
        detections = heads.rescore(heads.forward_with_given_boxes(features, detections))
        return model._postprocess(detections, batched_inputs, images.image_sizes)


def with_true_boxes(detections: Instances, boxes: Boxes) -> Instances:
    """The best detection of each object gets its box; a detection belongs to the object that it overlaps most."""
    if not len(detections) or not len(boxes):
        return detections
    iou = pairwise_iou(detections.pred_boxes, boxes)
    own = torch.zeros_like(iou).scatter_(1, iou.argmax(1, keepdim=True), 1.0) * iou
    value, best = own.max(0)
    found = value >= BELONGS_IOU
    detections.pred_boxes.tensor[best[found]] = boxes.tensor[found]
    return detections


def dataset_boxes(dataset: str) -> dict[Any, Tensor]:
    """Image id -> boxes of its objects that are no crowd, (G, 4) XYXY in pixels of the image."""
    return {
        record["image_id"]: torch.tensor(
            [
                BoxMode.convert(one["bbox"], one["bbox_mode"], BoxMode.XYXY_ABS)
                for one in record["annotations"]
                if not one.get("iscrowd", 0)
            ],
            dtype=torch.float32,
        ).reshape(-1, 4)
        for record in DatasetCatalog.get(dataset)
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.true_boxes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="nuclei", help="object-guided model (default: %(default)s)")
    parser.add_argument("--dataset", default="dsb2018_val", help="registered name (default: %(default)s)")
    parser.add_argument("--output", default="output/true_boxes", help="folder of both evaluations")
    args = parser.parse_args(argv)
    try:
        loaded = load_pretrained(args.model)
        if not isinstance(loaded.model, ObjectGuidedRCNN):
            raise ValueError(f"{args.model} is a {loaded.cfg.MODEL.META_ARCHITECTURE}; give an ObjectGuidedRCNN")
        cfg = loaded.cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TEST, cfg.TEST.EVALUATORS, cfg.DATALOADER.NUM_WORKERS = (args.dataset,), ["coco"], 0
        cfg.OUTPUT_DIR = args.output
        check_config(cfg, eval_only=True, resume=True)
        rows = []
        for name, model in (
            ("detected boxes", loaded.model),
            ("true boxes", TrueBoxes(loaded.model, dataset_boxes(args.dataset))),
        ):
            cfg.OUTPUT_DIR = f"{args.output}/{name.replace(' ', '_')}"
            results = Trainer.test(cfg, model)["segm"]
            rows.append([name, *(results[metric] for metric in ("AP", "AP50", "AP75"))])
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(tabulate(rows, ["", "AP", "AP50", "AP75"], tablefmt="github", floatfmt=".1f"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
