"""OME-Zarr 0.4: an image group with its ``labels`` group, as napari, Fiji and QuPath open it.

Zarr format 2, because that is what Bio-Formats and the viewers built on it read. Label pixels are the numbers of the
label image.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.atomic_write import atomic_folder
from ..objects import SegmentedObjects
from .image_crops import Image, channel_names, check_shape, crop
from .label_image import paint_labels

LABELS_NAME = "objects"
_CHUNK = 512
_SMALLEST_LEVEL = 256
_FORMAT = "0.4"
# In the attribute _creator of the root: it tells outputs, which may be replaced, from other Zarr images.
_CREATOR = "objguided_d2"


def write_ome_zarr(objects: SegmentedObjects, path: Path, *, image: Image | None = None) -> None:
    """Write labels as ``<path>/labels/objects``, and beside them the image, if it is given, as ``<path>`` itself.

    Raises:
        ImportError: if zarr is not installed; it says how to install it.
        ValueError: if the image is not as large as the objects' one, or as :func:`check_replaceable` says.
    """
    if image is not None:
        check_shape(image, objects.shape)
    check_replaceable(path, image)
    with atomic_folder(path) as temporary:
        root = open_root(temporary)
        if image is not None:
            _write_image(root, image, objects.shape, objects.pixel_size, path.stem)
        labels = create_labels(root, objects.shape, paint_labels(objects), objects.pixel_size)
        add_levels(labels, objects.pixel_size)


def check_replaceable(path: Path, image: Image | None = None) -> None:
    """Check that an output at ``path`` replaces nothing but an earlier output: an input may be the only copy.

    Args:
        image: what the output is made of.

    Raises:
        ValueError: if this program did not write what is there, or ``image`` is read from it.
    """
    if not path.exists():
        return
    source = getattr(image, "path", None)
    if source is not None and path.resolve() in (Path(source).resolve(), *Path(source).resolve().parents):
        raise ValueError(f"{path} is the image itself; choose another output folder or name")
    if not _is_output(path):
        raise ValueError(f"{path} exists and is no output of this program; choose another output folder or name")


def _is_output(path: Path) -> bool:
    try:
        attributes = json.loads((path / ".zattrs").read_text(encoding="utf-8"))
        return attributes["_creator"]["name"] == _CREATOR
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_root(path: Path) -> Any:
    """A new Zarr group at ``path``, which says that it is this program's.

    Raises:
        ImportError: if zarr is not installed; it says how to install it.
    """
    try:
        import zarr
    except ImportError as error:
        # The path is a temporary one.
        raise ImportError("OME-Zarr output needs zarr: pip install 'objguided_d2[zarr]'") from error
    return zarr.open_group(str(path), mode="w", zarr_format=2, attributes={"_creator": {"name": _CREATOR}})


def create_labels(
    root: Any,
    shape: tuple[int, int],
    labels: np.ndarray | np.dtype,
    pixel_size: tuple[float, float] | None,
    chunk: int = _CHUNK,
) -> Any:
    """The group ``labels/objects`` with its first level, filled or, if ``labels`` is a type only, empty."""
    parent = root.create_group("labels")
    parent.attrs["labels"] = [LABELS_NAME]
    group = parent.create_group(LABELS_NAME)
    group.attrs["image-label"] = {"version": _FORMAT, "source": {"image": "../../"}}
    dtype = labels.dtype if isinstance(labels, np.ndarray) else labels
    array = _create_level(group, 0, shape, dtype, chunk)
    if isinstance(labels, np.ndarray):
        array[:] = labels
    group.attrs["multiscales"] = [_multiscale(LABELS_NAME, "yx", shape, [shape], pixel_size)]
    return group


def add_levels(group: Any, pixel_size: tuple[float, float] | None) -> None:
    """Halve the first level, by every second row and column, until it fits into 256 pixels; a band at a time."""
    array = group["0"]
    shapes = [array.shape]
    while max(array.shape) > _SMALLEST_LEVEL:
        height, width = ((size + 1) // 2 for size in array.shape)
        smaller = _create_level(group, len(shapes), (height, width), array.dtype, array.chunks[0])
        for y in range(0, height, smaller.chunks[0]):
            smaller[y : y + smaller.chunks[0]] = array[2 * y : 2 * (y + smaller.chunks[0])][::2, ::2]
        array = smaller
        shapes.append(array.shape)
    group.attrs["multiscales"] = [_multiscale(LABELS_NAME, "yx", shapes[0], shapes, pixel_size)]


def _create_level(group: Any, level: int, shape: Sequence[int], dtype: np.dtype, chunk: int) -> Any:
    chunks = (*[1] * (len(shape) - 2), *(min(chunk, size) for size in shape[-2:]))
    return group.create_array(
        str(level),
        shape=tuple(shape),
        chunks=chunks,
        dtype=dtype,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        overwrite=True,
    )


def _multiscale(
    name: str,
    axes: str,
    full: Sequence[int],
    shapes: Sequence[Sequence[int]],
    pixel_size: tuple[float, float] | None,
) -> dict:
    unit = {} if pixel_size is None else {"unit": "micrometer"}
    height, width = pixel_size or (1.0, 1.0)
    kinds = {
        "c": {"name": "c", "type": "channel"},
        "y": {"name": "y", "type": "space", **unit},
        "x": {"name": "x", "type": "space", **unit},
    }
    datasets = []
    for level in range(len(shapes)):
        factor = 2**level
        scale = [1.0] * (len(axes) - 2) + [height * factor, width * factor]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    return {"version": _FORMAT, "name": name, "axes": [kinds[axis] for axis in axes], "datasets": datasets}


def _write_image(
    root: Any, image: Image, shape: tuple[int, int], pixel_size: tuple[float, float] | None, name: str
) -> None:
    height, width = shape
    names = channel_names(image)
    array: Any = None
    for y in range(0, height, _CHUNK):
        band = np.moveaxis(crop(image, y, 0, min(y + _CHUNK, height), width), -1, 0)
        if array is None:
            array = _create_level(root, 0, (len(names), height, width), band.dtype, _CHUNK)
        array[:, y : y + band.shape[1]] = band
    root.attrs["multiscales"] = [_multiscale(name, "cyx", array.shape, [array.shape], pixel_size)]
