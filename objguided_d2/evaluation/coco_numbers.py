"""Objects and predictions under plain numbers, as the programs that compute COCO AP want them.

pycocotools never finds an annotation with id 0. faster_coco_eval finds none with a negative or fractional id, and takes
neither text nor very large numbers for the id of an image. Data sets have all of these.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pycocotools.coco import COCO

from .ground_truth import without_annotations


def numbered_coco(
    ground_truth: COCO, results: Sequence[dict], task: Literal["bbox", "segm"], image_ids: Iterable | None = None
) -> tuple[COCO, COCO]:
    """Copies of the objects and predictions with images and annotations numbered from 1.

    Args:
        ground_truth: stays as it is.
        results: predictions in COCO's format; they stay as they are.
        task: what will be evaluated.
        image_ids: of ``ground_truth.imgs``, to take these images only; by default all.

    Returns:
        Objects and predictions, with images in ascending order of their own ids.

    Raises:
        ValueError: if an object has no area, which the programs treat differently.
    """
    # Where scores are equal, AP depends on the order of the images, and COCO goes by their ids.
    number_of = {i: n for n, i in enumerate(sorted(ground_truth.imgs if image_ids is None else image_ids), start=1)}
    of_images = [annotation for annotation in ground_truth.anns.values() if annotation["image_id"] in number_of]
    truth = COCO()
    truth.dataset = {
        **ground_truth.dataset,
        "images": [{**ground_truth.imgs[i], "id": number} for i, number in number_of.items()],
        "annotations": [_numbered(annotation, n, number_of) for n, annotation in enumerate(of_images, start=1)],
    }
    # With a box, COCO takes its area for that of the mask.
    unused = "bbox" if task == "segm" else "segmentation"
    found = [
        {key: value for key, value in result.items() if key != unused} | {"image_id": number_of[result["image_id"]]}
        for result in results
        if result["image_id"] in number_of
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        # loadRes rejects an empty list.
        return truth, truth.loadRes(found) if found else without_annotations(truth)


def _numbered(annotation: dict[str, Any], number: int, number_of: dict[Any, int]) -> dict[str, Any]:
    if "area" not in annotation:
        raise ValueError(f"Annotation {annotation['id']} has no 'area'; add the number of pixels of its mask")
    return {"iscrowd": 0, **annotation, "id": number, "image_id": number_of[annotation["image_id"]]}
