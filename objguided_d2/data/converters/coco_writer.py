"""Write a dataset as PNG images and COCO instance JSON: the same input gives the same bytes, all of it or nothing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

from ...utils.rle import encode_mask
from ..source_error import SourceError


class CocoWriter:
    """Collects the images and instances of one split.

    Args:
        image_root: folder for the images, created when the first one is added.
        categories: names; the category ids are 1, 2, ... in this order.
        info: entries of the JSON's ``info``.
    """

    def __init__(self, image_root: Path, categories: Sequence[str], info: Mapping[str, str] | None = None) -> None:
        self.image_root = image_root
        self.info = dict(info or {})
        self.categories = [{"id": i, "name": name} for i, name in enumerate(categories, start=1)]
        self.images: list[dict] = []
        self.annotations: list[dict] = []

    def add(
        self,
        name: str,
        image: np.ndarray,
        masks: Iterable[np.ndarray],
        category_id: int | Sequence[int] = 1,
        *,
        crowd: np.ndarray | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Write ``<name>.png`` and record its instances.

        Args:
            image: (H, W, 3) uint8 RGB.
            masks: non-empty (H, W) boolean arrays, one per instance.
            category_id: of all masks, or one each.
            crowd: (H, W) bool, a region whose objects have no individual masks; recorded for every category.
            fields: further entries of the image's record.
        """
        height, width = image.shape[:2]
        file_name = f"{name}.png"
        _, png = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 4])
        path = self.image_root / file_name
        if not path.resolve().is_relative_to(self.image_root.resolve()):
            raise SourceError(f"{name} would be written outside of {self.image_root}; rename the image")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)

        record = {"id": len(self.images) + 1, "file_name": file_name, "height": height, "width": width}
        self.images.append({**(fields or {}), **record})
        for k, mask in enumerate(masks):
            self._annotate(mask, category_id if isinstance(category_id, int) else category_id[k])
        if crowd is not None:
            for category in self.categories:
                self._annotate(crowd, category["id"], is_crowd=True)

    def _annotate(self, mask: np.ndarray, category_id: int, is_crowd: bool = False) -> None:
        rle = encode_mask(mask)
        self.annotations.append(
            {
                # COCO's evaluation takes an id of 0 for "not matched".
                "id": len(self.annotations) + 1,
                "image_id": len(self.images),
                "category_id": category_id,
                "iscrowd": int(is_crowd),
                "area": int(mask_util.area(rle)),
                "bbox": mask_util.toBbox(rle).tolist(),
                "segmentation": rle,
            }
        )

    def write_json(self, path: Path) -> None:
        """Write the COCO file of everything added so far."""
        path.parent.mkdir(parents=True, exist_ok=True)
        info = {"info": self.info} if self.info else {}
        content = {**info, "categories": self.categories, "images": self.images, "annotations": self.annotations}
        path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8")
