"""A trained model as a package of the BioImage Model Zoo: weights, description, a test image and what it gives.

The weights are a PyTorch state dict of :class:`.label_image_model.LabelImageModel`, which programs import from this
library. ``bioimageio test FILE.zip`` runs the package's own test.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode
from torch import Tensor, nn

from .. import __version__
from ..data.synthetic import make_image
from ..utils.atomic_write import atomic_write
from .label_image_model import LabelImageModel
from .model_info import ModelInfo
from .preparation import as_pixels

# The library's own; that of the weights is for those to say who trained them.
LICENSE = "Apache-2.0"
# Any side from here on; the network's largest stride.
_MIN_SIDE = 32
_TEST_SIDE = 256
_PAPER = (
    "Yi et al., Object-Guided Instance Segmentation With Auxiliary Feature Refinement for Biological Images, "
    "IEEE Transactions on Medical Imaging 40(9), 2021",
    "10.1109/TMI.2021.3077285",
)
_VALIDATION = """
## Validation

Predict images of yours that were not trained on and for which you have label images, and compare the two, for example
by the F1 score of objects that match at an intersection over union of 0.5 and of 0.75.

## Use

The architecture comes from the Python package `objguided_d2`, which has to be installed beside `bioimageio.core`.
Input: one or more images, {channels}, {values}. Output: a label image each, 0 is background, 1 is the
object with the best score. {size}
"""


class PackageError(ValueError):
    """A package that cannot be written. The message says what to do."""


def write_bioimageio(
    cfg: CfgNode,
    model: nn.Module,
    info: ModelInfo,
    path: str | os.PathLike,
    *,
    card: str,
    name: str | None = None,
    license_id: str = LICENSE,
    authors: Sequence[str] = (),
    test_image: np.ndarray | None = None,
) -> Path:
    """Write a model as a package of the BioImage Model Zoo.

    Args:
        cfg, model, info: as :func:`.pretrained.load_pretrained` gives them; the model on the CPU.
        card: Markdown, the documentation of the package.
        name: of the model for people; by default made from its classes.
        license_id: of the weights, an SPDX identifier.
        authors: their names.
        test_image: (H, W) or (H, W, 3), 32 pixels or more on each side, with objects that the model finds. The package
            takes images of its channels. By default synthetic nuclei, RGB.

    Raises:
        PackageError: if ``bioimageio.core`` is not installed, the test image is none or has no object, or the
            description is not valid (a license that SPDX does not know, an author without a name).
        ValueError: if a weight is NaN or infinite.
    """
    from .bundle import require_finite_weights

    try:
        from bioimageio.spec import save_bioimageio_package
        from bioimageio.spec.model import v0_5
        from pydantic import ValidationError
    except ImportError as error:
        raise PackageError(f"a bioimage.io package needs pip install 'objguided_d2[bioimageio]' ({error})") from error

    for author in authors:
        if not author.strip() or not author.isprintable() or "/" in author:
            raise PackageError(f"author {author!r}: give --author a name, in one line and without a slash")
    require_finite_weights(model)
    kwargs = {"config": yaml.safe_load(_inference_config(cfg).dump()), "info": _plain(dataclasses.asdict(info))}
    module = LabelImageModel(**kwargs)
    module.model.load_state_dict(_inference_weights(model, module))
    images = _test_images(test_image, takes_bytes=not cfg.INPUT.INTENSITY)
    with torch.no_grad():
        labels = module(torch.from_numpy(images)).numpy()
    if not labels.any():
        raise PackageError(
            "the model finds no object in the test image; give --test-image FILE with objects of its kind"
        )

    channels = ["gray"] if images.shape[1] == 1 else ["red", "green", "blue"]
    with tempfile.TemporaryDirectory() as folder:
        files = {key: Path(folder) / file for key, file in _FILES.items()}
        np.save(files["input"], images)
        np.save(files["output"], labels)
        torch.save(module.state_dict(), files["weights"])
        files["documentation"].write_text(card.rstrip() + "\n" + _usage(images, info), encoding="utf-8")
        source = {key: {"source": str(file)} for key, file in files.items()}
        description: dict[str, Any] = {
            "name": name or _name(info),
            "description": f"Instance segmentation of {', '.join(info.class_names)}: one label image for each image.",
            "documentation": source["documentation"],
            "authors": [{"name": author} for author in authors],
            "cite": [{"text": _PAPER[0], "doi": _PAPER[1]}],
            "license": license_id,
            "tags": [
                "2d",
                "instance-segmentation",
                "pytorch",
                "detectron2",
                "objguided_d2",
                *map(_tag, info.class_names),
            ],
            "inputs": [
                {
                    "id": "image",
                    "axes": [
                        {"type": "batch"},
                        {"type": "channel", "channel_names": channels},
                        *({"type": "space", "id": axis, "size": _ANY_SIZE, **_scale(info)} for axis in "yx"),
                    ],
                    "data": {"type": images.dtype.name},
                    "test_tensor": source["input"],
                }
            ],
            "outputs": [
                {
                    "id": "labels",
                    "axes": [
                        {"type": "batch"},
                        {"type": "channel", "channel_names": ["label"]},
                        *({"type": "space", "id": axis, "size": _size_of(axis), **_scale(info)} for axis in "yx"),
                    ],
                    "data": {"type": "int32", "range": [0, None]},
                    "test_tensor": source["output"],
                }
            ],
            "weights": {
                "pytorch_state_dict": {
                    **source["weights"],
                    "pytorch_version": torch.__version__.partition("+")[0],
                    "architecture": {
                        "import_from": LabelImageModel.__module__,
                        "callable": LabelImageModel.__name__,
                        "kwargs": kwargs,
                    },
                    "comment": f"objguided_d2 {__version__}",
                }
            },
        }
        try:
            descr = v0_5.ModelDescr(format_version="0.5.12", type="model", **description)
            with atomic_write(path) as temporary:
                save_bioimageio_package(descr, output_path=temporary)
        except ValidationError as error:
            raise PackageError(_invalid(description, error.errors()[0])) from error
        except ValueError as error:
            raise PackageError(f"the package is not valid: {_one_line(error)}") from error
    return Path(path)


_FILES = {
    "weights": "weights.pt",
    "input": "test_input.npy",
    "output": "test_output.npy",
    "documentation": "README.md",
}
_ANY_SIZE = {"min": _MIN_SIDE, "step": 1}


def _size_of(axis: str) -> dict[str, str]:
    return {"tensor_id": "image", "axis_id": axis}


def _scale(info: ModelInfo) -> dict[str, Any]:
    return {} if info.pixel_size is None else {"unit": "micrometer", "scale": info.pixel_size}


def _inference_config(cfg: CfgNode) -> CfgNode:
    """The config of the model without the parts that only the training runs, and without what one machine has."""
    from .bundle import shareable_config

    cfg = shareable_config(cfg)
    cfg.MODEL.ROI_MASK_HEAD.REFINE.ENABLED = False
    return cfg


def _inference_weights(model: nn.Module, module: LabelImageModel) -> dict[str, Tensor]:
    expected = module.model.state_dict()
    return {name: value for name, value in model.state_dict().items() if name in expected}


def _test_images(image: np.ndarray | None, takes_bytes: bool) -> np.ndarray:
    """(1, C, H, W) uint8, or float32 for a model that maps intensities itself."""
    if image is None:
        image = make_image("nuclei", (_TEST_SIDE, _TEST_SIDE), np.random.default_rng(0)).image
    try:
        pixels = as_pixels(image)
    except ValueError as error:
        raise PackageError(f"the test image cannot be used: {error}") from error
    height, width = pixels.shape[:2]
    if min(height, width) < _MIN_SIDE:
        raise PackageError(
            f"the test image has {height} x {width} pixels; give --test-image one of {_MIN_SIDE} or more on each side"
        )
    if takes_bytes and pixels.dtype != np.uint8:
        raise PackageError(
            f"the test image holds {pixels.dtype} values, and the model takes images of 8 bits (its INPUT.INTENSITY is "
            "empty); give --test-image with one"
        )
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(planes[None], np.uint8 if takes_bytes else np.float32)


def _usage(images: np.ndarray, info: ModelInfo) -> str:
    return _VALIDATION.format(
        channels="gray" if images.shape[1] == 1 else "RGB",
        values="8 bits" if images.dtype == np.uint8 else "in any unit: their percentiles are mapped to 8 bits",
        size=(
            f"Scale images to {info.pixel_size:g} micrometers per pixel first."
            if info.pixel_size
            else "Images get the size that the model was trained at, whatever their own."
        ),
    )


def _name(info: ModelInfo) -> str:
    classes = re.sub(r"[^A-Za-z0-9_+\-()]+", " ", " ".join(info.class_names)).strip()
    return f"Object-guided segmentation of {classes or 'objects'}"[:64].rstrip()


def _tag(name: str) -> str:
    return re.sub(r"\s+", "-", name.strip().lower())


def _plain(values: dict) -> dict:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _invalid(description: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    field, *_ = error["loc"]
    if field == "license":
        # The zoo's own message lists all identifiers, some 600.
        return (
            f"license {description['license']!r} is no SPDX identifier, as CC-BY-4.0 or MIT are; "
            "give --license one of https://spdx.org/licenses"
        )
    return f"the description of the package is not valid: {'.'.join(map(str, error['loc']))}: {error['msg']}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
