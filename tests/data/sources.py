"""Small image and label files, and what a conversion has made of them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import tifffile

HEIGHT, WIDTH = 24, 40


def labels(*boxes, dtype=np.uint8, size=(HEIGHT, WIDTH)):
    """(H, W) labels 1, 2, ... in boxes (x1, y1, x2, y2) with exclusive far corners."""
    array = np.zeros(size, dtype)
    for label, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        array[y1:y2, x1:x2] = label
    return array


def random_image(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape or (HEIGHT, WIDTH, 3), dtype, endpoint=True)


def write(path: Path, content) -> Path:
    """Bytes, text or JSON as they are, arrays as an image (RGB) of the type that the ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, (dict, list)):
        path.write_text(json.dumps(content))
    elif path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, content)
    else:
        assert cv2.imwrite(str(path), content[..., ::-1] if content.ndim == 3 else content)
    return path


def read_split(output: Path, split: str) -> dict:
    """The COCO file of a converted dataset."""
    return json.loads((output / "annotations" / f"{output.name}_{split}.json").read_text())


def masks_of(content: dict, stem: str, crowd: int = 0) -> list[np.ndarray]:
    """Bool masks of one image's annotations, in the order of the file."""
    (image,) = [image for image in content["images"] if Path(image["file_name"]).stem == stem]
    return [
        mask_util.decode(annotation["segmentation"]).astype(bool)
        for annotation in content["annotations"]
        if annotation["image_id"] == image["id"] and annotation["iscrowd"] == crowd
    ]
