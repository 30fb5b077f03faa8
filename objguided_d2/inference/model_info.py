"""What is known of a model beside its config: names, thresholds and the sizes of what it was trained on."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data.builtin import register_prepared
from .preparation import Preparation

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """
    Attributes:
        class_names: K names.
        score_threshold: instances from this score on are objects, where label images are made (the config's
            TEST.LABEL_MAP_SCORE_THRESH).
        pixel_size: micrometers per pixel of the training images, None if unknown.
        training_scale: pixels of the network per pixel of a training image (median), None if unknown.
        object_diameter: of a training object in the network's pixels: of the circle of its area (median), None if
            unknown.
    """

    class_names: tuple[str, ...]
    score_threshold: float
    pixel_size: float | None = None
    training_scale: float | None = None
    object_diameter: float | None = None

    def __post_init__(self) -> None:
        if not self.class_names or not all(isinstance(name, str) for name in self.class_names):
            raise ValueError(f"class_names must be names, one or more, not {self.class_names!r}")
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f"score_threshold must lie in 0 to 1, not {self.score_threshold!r}")
        for name in ("pixel_size", "training_scale", "object_diameter"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number above 0 or unknown, not {value!r}")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ModelInfo:
        """What the config says; class names are those of the training dataset where it has any."""
        count = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        names: list[str] = []
        for dataset in cfg.DATASETS.TRAIN[:1]:
            register_prepared(dataset)
            # `get` alone would make an entry for any name.
            names = MetadataCatalog.get(dataset).get("thing_classes", []) if dataset in MetadataCatalog.list() else []
        if len(names) != count:
            names = ["object"] if count == 1 else [f"class {i + 1}" for i in range(count)]
        return cls(tuple(names), cfg.TEST.LABEL_MAP_SCORE_THRESH)

    @property
    def network_pixel_size(self) -> float | None:
        """Micrometers per pixel of the network's input."""
        if self.pixel_size is None or self.training_scale is None:
            return None
        return self.pixel_size / self.training_scale

    def with_class_names(self, names: Sequence[str]) -> ModelInfo:
        """With other names, if they are as many as the classes."""
        return dataclasses.replace(self, class_names=tuple(names)) if len(names) == len(self.class_names) else self

    def with_training_sizes(self, cfg: CfgNode) -> ModelInfo:
        """With the sizes of images and objects of DATASETS.TRAIN, where they can be read."""
        try:
            for name in cfg.DATASETS.TRAIN:
                register_prepared(name)
            records = [record for name in cfg.DATASETS.TRAIN for record in DatasetCatalog.get(name)]
        except KeyError:  # its text lists every dataset that there is
            logger.warning(
                "Sizes of training objects are unknown: %s is not registered here",
                " or ".join(cfg.DATASETS.TRAIN),
            )
            return self
        except (OSError, ValueError) as error:
            logger.warning("Sizes of training objects are unknown: %s", error)
            return self
        names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes", []) if cfg.DATASETS.TRAIN else []
        preparation, scales, diameters = Preparation(cfg), [], []
        for record in records:
            height, width = preparation.network_size(record["height"], record["width"])
            scale = math.sqrt(height / record["height"] * width / record["width"])
            scales.append(scale)
            areas = [a["area"] for a in record["annotations"] if a.get("area") and not a.get("iscrowd", 0)]
            diameters += [scale * 2 * math.sqrt(area / math.pi) for area in areas]
        return dataclasses.replace(
            self.with_class_names(names),
            training_scale=round(float(np.median(scales)), 4) if scales else None,
            object_diameter=round(float(np.median(diameters)), 2) if diameters else None,
        )
