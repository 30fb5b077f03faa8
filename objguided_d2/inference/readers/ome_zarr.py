"""OME-Zarr (0.1 to 0.5, Zarr formats 2 and 3), its plates and collections of images, and bare Zarr arrays.

Only the chunks that a window touches are read.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...data.source_error import SourceError
from .stored_image import ImageLayout, OpenFile, StoredImage, as_source_error, choose_level
from .tiff_metadata import micrometers

_MARKERS = ("zarr.json", ".zgroup", ".zarray")
_MOST_TRAILING_CHANNELS = 4


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return path.is_dir() and any((path / marker).is_file() for marker in _MARKERS)


def open_zarr(path: Path, level: int | None) -> OpenFile:
    """Open a Zarr folder without reading its pixels.

    Raises:
        SourceError: if it holds no image, or has no such level.
        ImportError: if zarr is not installed; it says how to install it.
    """
    zarr = _import_zarr(path)
    with as_source_error(path):
        node = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Array):
            images = [ZarrImage(path, node, _guess_axes(path, node), "", {}, None)]
        else:
            images = [_open_multiscale(path, name, group, level) for name, group in _image_groups(path, node)]
        if not images:
            arrays = [name for name, _ in node.arrays()]
            raise SourceError(f"{path} holds no OME-Zarr image; {_choice(path, arrays)}")
    return OpenFile(images)


def _import_zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImportError(f"{path} needs zarr: pip install 'objguided_d2[zarr]'") from error
    return zarr


def _choice(path: Path, arrays: Sequence[str]) -> str:
    if not arrays:
        return "give the folder of the image itself"
    return "give one of its arrays: " + ", ".join(str(path / name) for name in arrays[:5])


def _attributes(group: Any) -> Mapping[str, Any]:
    """OME metadata, which version 0.5 moved under a key of its own."""
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes)


def _image_groups(path: Path, group: Any) -> Iterator[tuple[str, Any]]:
    """Names and groups of the images: the group itself, the fields of a plate or the series of a converted file."""
    attributes = _attributes(group)
    if "multiscales" in attributes:
        yield "", group
    elif "plate" in attributes:
        for well in attributes["plate"]["wells"]:
            for field in _attributes(group[well["path"]])["well"]["images"]:
                name = f"{well['path']}/{field['path']}"
                yield name, group[name]
    elif "bioformats2raw.layout" in attributes:
        for name in sorted((name for name, _ in group.groups() if name.isdigit()), key=int):
            yield name, group[name]
    elif "labels" in attributes:
        raise SourceError(f"{path} holds labels, not an image; give the folder of the image")


def _open_multiscale(path: Path, name: str, group: Any, level: int | None) -> "ZarrImage":
    attributes = _attributes(group)
    multiscale = attributes["multiscales"][0]
    datasets = multiscale["datasets"]
    arrays = [group[dataset["path"]] for dataset in datasets]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in multiscale.get("axes", [])]
    names = "".join(axis["name"].lower() for axis in axes) if axes else "tczyx"[-arrays[0].ndim :]
    if len(names) != arrays[0].ndim or not {"y", "x"} <= set(names) <= set("tczyx"):
        raise SourceError(f"{path} has the axes {names!r}; OME-Zarr images have some of t, c, z, and y and x")
    chosen = choose_level(
        path, level, [(array.shape[names.index("y")], array.shape[names.index("x")]) for array in arrays]
    )
    pixel_size = _pixel_size(axes, names, multiscale, datasets[chosen])
    return ZarrImage(path, arrays[chosen], names, name, attributes.get("omero", {}), pixel_size)


def _pixel_size(
    axes: Sequence[Mapping[str, Any]], names: str, multiscale: Mapping[str, Any], dataset: Mapping[str, Any]
) -> tuple[float, float] | None:
    scale = np.ones(len(names))
    for transformation in [
        *dataset.get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ]:
        if transformation.get("type") == "scale" and "scale" in transformation:
            scale = scale * transformation["scale"]
    sizes = []
    for axis in "yx":
        index = names.index(axis)
        factor = micrometers(axes[index].get("unit")) if axes else None
        if factor is None:
            return None
        sizes.append(float(scale[index]) * factor)
    return sizes[0], sizes[1]


def _guess_axes(path: Path, array: Any) -> str:
    """Axes of a bare array: (H, W), (H, W, C) of up to 4 channels, or pages before (H, W)."""
    if array.ndim == 2:
        return "yx"
    if array.ndim == 3:
        trailing = array.shape[2] <= _MOST_TRAILING_CHANNELS < min(array.shape[:2])
        return "yxc" if trailing else "pyx"
    raise SourceError(f"{path} has {array.ndim} axes without names; save it as OME-Zarr, which names them")


class ZarrImage(StoredImage):
    """An array with one letter an axis: t time (p: unknown pages), c channel, z, y, x."""

    def __init__(
        self,
        path: Path,
        array: Any,
        axes: str,
        name: str,
        omero: Mapping[str, Any],
        pixel_size: tuple[float, float] | None,
    ) -> None:
        self._path, self._array, self._axes = path, array, axes
        sizes = dict(zip(axes, array.shape))
        labels = [str(channel.get("label") or "") for channel in omero.get("channels", [])]
        num_channels = sizes.get("c", 1)
        named = len(labels) == num_channels and all(labels)
        # A bare array with channels last is a picture; OME-Zarr's channels come first and are stains.
        color = axes == "yxc" and num_channels in (3, 4)
        if color:
            names: Sequence[str] = ("red", "green", "blue")
        else:
            names = labels if named else [str(i) for i in range(num_channels)]
        super().__init__(
            ImageLayout(
                name=name,
                shape=(sizes["y"], sizes["x"]),
                dtype=np.dtype(np.uint8) if array.dtype == bool else array.dtype.newbyteorder("="),
                channel_names=tuple(names),
                is_color=color,
                num_times=sizes.get("t", sizes.get("p", 1)),
                num_slices=sizes.get("z", 1),
                pages_unknown="p" in sizes,
                pixel_size=pixel_size,
            )
        )

    def read(self, time: int, z: int, channels: Sequence[int], window: tuple[int, int, int, int]) -> np.ndarray:
        y0, x0, y1, x1 = window
        places = {"t": time, "p": time, "z": z, "y": slice(y0, y1), "x": slice(x0, x1)}
        planes = []
        for channel in channels:
            index = tuple({**places, "c": channel}[axis] for axis in self._axes)
            plane = np.asarray(self._array[index])
            planes.append(plane if self._axes.index("y") < self._axes.index("x") else plane.T)
        pixels = np.stack(planes, axis=-1).astype(self.layout.dtype, copy=False)
        return pixels * np.uint8(255) if self._array.dtype == bool else pixels
