"""A sheet of predictions beside the truth, for a registered dataset, of one model or of several."""

import os
from collections.abc import Mapping

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation.evaluator import inference_context
from torch import nn

from ..data.mapper import InstanceMapper
from ..data.pixels import read_picture
from ..data.segmentation import segmentation_to_rle
from ..utils.contact_sheet import Tile, contact_sheet, draw_instances
from ..utils.evenly_spaced import evenly_spaced
from ..utils.rle import decode_masks


def draw_prediction_sheet(
    cfg: CfgNode,
    model: nn.Module,
    dataset_name: str,
    path: str | os.PathLike,
    *,
    num_images: int = 6,
) -> None:
    """Write a sheet of one row per image: input, true objects (no crowds), predicted objects.

    Predictions of a score under TEST.LABEL_MAP_SCORE_THRESH are left out.

    Args:
        model: any Detectron2 model with ``pred_masks``.
        num_images: images spread evenly over the dataset.
    """
    chosen = evenly_spaced(DatasetCatalog.get(dataset_name), num_images)
    draw_predictions(cfg, {"predicted": (model, cfg.TEST.LABEL_MAP_SCORE_THRESH)}, chosen, path)


def draw_predictions(
    cfg: CfgNode, models: Mapping[str, tuple[nn.Module, float]], records: list[dict], path: str | os.PathLike
) -> None:
    """As :func:`draw_prediction_sheet`, of some dataset dicts, with a column for each of several models of one config.

    Args:
        models: by the name that stands above their predictions, each with the score from which on they are drawn.
    """
    mapper = InstanceMapper(cfg, is_train=False)
    tiles = []
    for record in records:
        image = read_picture(record["file_name"])
        height, width = image.shape[:2]
        objects = [a for a in record["annotations"] if not a.get("iscrowd", 0)]
        rles = [segmentation_to_rle(a["segmentation"], height, width) for a in objects]
        truth = decode_masks(rles, height, width)
        zoom = max(1, 512 // max(height, width))
        plain = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
        tiles += [
            Tile(plain, os.path.basename(record["file_name"])),
            Tile(draw_instances(image, truth, zoom=zoom), f"truth: {len(truth)} objects"),
        ]
        for name, (model, score_threshold) in models.items():
            with torch.no_grad(), inference_context(model):
                instances = model([mapper(record)])[0]["instances"].to("cpu")
            instances = instances[instances.scores >= score_threshold]
            picture = draw_instances(image, np.asarray(instances.pred_masks), zoom=zoom)
            tiles.append(Tile(picture, f"{name}: {len(instances)} with score >= {score_threshold:g}"))
    contact_sheet(tiles, 2 + len(models), path)
