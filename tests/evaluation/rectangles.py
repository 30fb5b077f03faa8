"""Records and predictions made of chosen rectangles."""

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import Boxes, BoxMode, Instances

HEIGHT, WIDTH = 60, 90


def rectangle_mask(box, height=HEIGHT, width=WIDTH):
    """Bool (height, width), true inside the integer box (x1, y1, x2, y2) with exclusive far corners."""
    mask = np.zeros((height, width), dtype=bool)
    x1, y1, x2, y2 = box
    mask[y1:y2, x1:x2] = True
    return mask


def rectangle_record(image_id, objects, height=HEIGHT, width=WIDTH):
    """A record of Detectron2's format with objects (box, class) or (box, class, iscrowd)."""
    annotations = []
    for box, category, *crowd in objects:
        rle = mask_util.encode(np.asfortranarray(rectangle_mask(box, height, width)))
        annotations.append(
            {
                "bbox": list(box),
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": category,
                "iscrowd": crowd[0] if crowd else 0,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    return {
        "file_name": f"image_{image_id}.png",
        "image_id": image_id,
        "height": height,
        "width": width,
        "annotations": annotations,
    }


def rectangle_instances(detections, height=HEIGHT, width=WIDTH):
    """Predicted Instances from detections (box, class, score), as a model returns them."""
    boxes, classes, scores = zip(*detections) if detections else ((), (), ())
    masks = [torch.from_numpy(rectangle_mask(box, height, width)) for box in boxes]
    return Instances(
        (height, width),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        pred_masks=torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.bool),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
    )
