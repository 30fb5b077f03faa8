"""A sheet of predictions beside the truth, for a registered data set."""

import os

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation.evaluator import inference_context
from torch import nn

from ..data.label_layers import decode_masks, segmentation_to_rle
from ..data.mapper import InstanceMapper
from ..utils.contact_sheet import Tile, contact_sheet, draw_instances
from ..utils.evenly_spaced import evenly_spaced


def draw_prediction_sheet(
    cfg: CfgNode,
    model: nn.Module,
    dataset_name: str,
    path: str | os.PathLike,
    *,
    num_images: int = 6,
    score_thresh: float = 0.4,
) -> None:
    """Write a sheet with a row an image: input, true objects (no crowds), predicted objects.

    Args:
        model: any Detectron2 model with ``pred_masks``.
        num_images: images spread evenly over the data set.
        score_thresh: predictions under this score are not drawn.
    """
    chosen = evenly_spaced(DatasetCatalog.get(dataset_name), num_images)
    mapper = InstanceMapper(cfg, is_train=False)
    tiles = []
    with torch.no_grad(), inference_context(model):
        for record in chosen:
            instances = model([mapper(record)])[0]["instances"].to("cpu")
            instances = instances[instances.scores >= score_thresh]
            image = cv2.cvtColor(cv2.imread(record["file_name"], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            height, width = image.shape[:2]
            objects = [a for a in record["annotations"] if not a.get("iscrowd", 0)]
            rles = [segmentation_to_rle(a["segmentation"], height, width) for a in objects]
            truth = decode_masks(rles, height, width)
            zoom = max(1, 512 // max(height, width))
            plain = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
            tiles += [
                Tile(plain, os.path.basename(record["file_name"])),
                Tile(draw_instances(image, truth, zoom=zoom), f"truth: {len(truth)} objects"),
                Tile(
                    draw_instances(image, np.asarray(instances.pred_masks), zoom=zoom),
                    f"predicted: {len(instances)} with score >= {score_thresh}",
                ),
            ]
    contact_sheet(tiles, 3, path)
