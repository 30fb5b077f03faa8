"""COCO JSON of one image: run-length encoded masks, which may overlap, with scores.

COCO's boxes are (x, y, width, height) in pixel corners: (2, 3, 4, 5) covers columns 2-5 and rows 3-7. Its encodings
count pixels column by column. Category ids are class + 1, annotation ids the numbers of the label image.
"""

import json
from pathlib import Path

import numpy as np

from ...structures.run_lengths import encode_runs
from ...utils.atomic_write import atomic_write
from ..objects import SegmentedObjects

SUFFIX = ".coco.json"
_MOST_PIXELS = 2**31 - 1  # the counts of an encoding are read as 32-bit integers


def to_coco(objects: SegmentedObjects, image_name: str) -> dict:
    """Objects as COCO's ``images``, ``annotations`` (with ``score``) and ``categories``.

    Args:
        image_name: the image's ``file_name``.

    Raises:
        ValueError: for an image of 2^31 pixels or more, which COCO's encoding cannot count.
    """
    height, width = objects.shape
    if height * width > _MOST_PIXELS:
        raise ValueError(f"COCO cannot encode masks of an image of {height} x {width} pixels; save another format")
    annotations = []
    for i, (segmentation, mask) in enumerate(zip(encode_masks(objects), objects.masks)):
        x0, y0, x1, y1 = objects.boxes[i].tolist()
        annotations.append(
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": int(objects.classes[i]) + 1,
                "segmentation": segmentation,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(np.count_nonzero(mask)),
                "iscrowd": 0,
                "score": round(float(objects.scores[i]), 6),
            }
        )
    return {
        "images": [{"id": 1, "file_name": image_name, "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(objects.class_names, start=1)],
    }


def encode_masks(objects: SegmentedObjects) -> list[dict]:
    """COCO's compressed run-length encodings of whole-image masks, from the crops alone."""
    height, _ = objects.shape
    begins, ends, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for i, mask in enumerate(objects.masks):
        x0, y0 = objects.boxes[i, :2]
        columns = np.pad(mask.T, ((0, 0), (1, 1))).astype(np.int8)
        change = np.diff(columns, axis=1)
        column, begin = np.nonzero(change == 1)
        end = np.nonzero(change == -1)[1]
        first = (column + x0) * height + y0
        begin, end = first + begin, first + end
        # In an object of the full height, a run goes on at the top of the next column.
        joined = begin[1:] == end[:-1]
        begins.append(begin[np.concatenate([[True], ~joined])[: len(begin)]])
        ends.append(end[np.concatenate([~joined, [True]])[: len(end)]])
        owners.append(np.full(len(begins[-1]), i))
    return encode_runs(
        np.concatenate(begins), np.concatenate(ends), np.concatenate(owners), len(objects), objects.shape
    )


def write_coco(objects: SegmentedObjects, path: Path, *, image: object = None, image_name: str | None = None) -> None:
    """Write :func:`to_coco`; the image is called as the file without ``.coco.json`` if it is given no name."""
    content = to_coco(objects, image_name or path.name.removesuffix(SUFFIX))
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
