"""TIFF: single images, stacks, ImageJ hyperstacks, OME-TIFF and pyramids, of any size.

Axes by tifffile's letters: T is time, Z depth, C and S channels, Y and X the plane; pages along any other axis are
images of their own. A file of a multi-file OME-TIFF gives the planes that it holds itself.
"""

import dataclasses
import itertools
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from ...data.pixels import read_image_pixels
from ...data.source_error import SourceError
from . import tiff_color
from .flat import ArrayImage
from .stored_image import (
    ImageLayout,
    OpenFile,
    StoredImage,
    as_source_error,
    check_num_pixels,
    choose_level,
    level_pixel_size,
)
from .tiff_metadata import OmeImage, ome_images, resolution_pixel_size
from .tiff_orientation import is_swapped, orientation_of, stored_window, upright
from .tiff_pages import PageReader

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk")

_MOST_TRAILING_CHANNELS = 8
_REDUCED = 1  # of the tag NewSubfileType


def open_tiff(path: Path, level: int | None) -> OpenFile:
    """Open a TIFF without reading its pixels.

    Raises:
        SourceError: if it is no TIFF, cut off, or has no such level.
    """
    with as_source_error(path):
        file = tifffile.TiffFile(path, _multifile=False)
        # Without it, threads move each other's place in the file.
        file.filehandle.set_lock(True)
        try:
            _check_last_page(path, file)
            ome = ome_images(file.ome_metadata) if file.is_ome and file.ome_metadata else []
            pages = PageReader(path)
            images: list[StoredImage] = []
            for series in _image_series(file):
                chosen = series.levels[choose_level(path, level, [_plane_shape(one) for one in series.levels])]
                info = _ome_image(file, series, ome)
                size = info.pixel_size or (None if file.is_ome else resolution_pixel_size(file, series.keyframe))
                size = level_pixel_size(size, _plane_shape(series), _plane_shape(chosen))
                if not tiff_color.is_known(series.keyframe):
                    images.append(_convert_whole(path, file, series))
                elif _plane_axes(chosen) is None:
                    images.append(_WholeSeries(path, chosen, info, size))
                else:
                    images.append(_PagedSeries(path, chosen, info, size, pages))
            if not images:
                raise SourceError(f"{path} holds no image")
        except BaseException:
            file.close()
            raise
    return OpenFile(images, file.close)


def _convert_whole(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> ArrayImage:
    """A page of a color space that takes a conversion, as training reads it."""
    if len(file.pages) > 1:
        name = getattr(series.keyframe.photometric, "name", series.keyframe.photometric)
        raise SourceError(f"{path} has pages of the color space {name}; save it as gray or RGB")
    return ArrayImage(read_image_pixels(lambda name: Path(name).read_bytes(), str(path)))


def _image_series(file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """All series but thumbnails."""
    full = [series for series in file.series if not series.keyframe.subfiletype & _REDUCED]
    return full or list(file.series)


def _ome_image(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, ome: list[OmeImage]) -> OmeImage:
    """What OME-XML says of a series: by its place, or by its name where images of other files are between."""
    if len(ome) == len(file.series):
        return ome[file.series.index(series)]
    named = [image for image in ome if image.name == series.name]
    return named[0] if len(named) == 1 else OmeImage()


def _check_last_page(path: Path, file: tifffile.TiffFile) -> None:
    """tifffile takes a file whose next page lies behind its end for one that has no more pages."""
    tiff, handle = file.tiff, file.filehandle
    handle.seek(file.pages[-1].offset)
    (num_tags,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
    handle.seek(num_tags * tiff.tagsize, 1)
    (following,) = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))
    if following >= handle.size:
        raise SourceError(f"{path} is cut off after {len(file.pages)} pages; copy it again from where it came from")


def _plane_axes(series: tifffile.TiffPageSeries) -> int | None:
    """How many of the last axes a page holds, if it holds whole planes."""
    keyframe = series.keyframe
    num_axes = len(keyframe.axes)
    matches = series.shape[-num_axes:] == keyframe.shape and keyframe.axes in ("YX", "YXS", "SYX")
    if not matches or _has_trailing_channels(series):
        return None
    plane = series.axes[-num_axes:]
    return num_axes if all(plane[keyframe.axes.index(axis)] == axis for axis in "YX") else None


def _has_trailing_channels(series: tifffile.TiffPageSeries) -> bool:
    """tifffile itself writes an array (H, W, 5) as H pages of W x 5 pixels."""
    if series.kind != "shaped" or len(series.shape) != 3 or series.keyframe.samplesperpixel > 1:
        return False
    return series.axes[0] not in "TZC" and series.shape[-1] <= _MOST_TRAILING_CHANNELS < min(series.shape[:2])


def _plane_shape(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    if _has_trailing_channels(series):
        return series.shape[0], series.shape[1]
    sizes = dict(zip(series.axes, series.shape))
    return sizes.get("Y", 1), sizes.get("X", 1)


def _layout(
    series: tifffile.TiffPageSeries,
    info: OmeImage,
    pixel_size: tuple[float, float] | None,
    sizes: dict[str, int],
    samples: int,
    dtype: np.dtype,
    is_color: bool,
) -> ImageLayout:
    num_channels = sizes.get("C", 1) * samples
    if is_color and sizes.get("C", 1) == 1:
        names: Sequence[str] = ("red", "green", "blue")
    elif len(info.channel_names) == num_channels and all(info.channel_names):
        names = info.channel_names
    else:
        names = [str(i) for i in range(num_channels)]
    num_times = math.prod(size for axis, size in sizes.items() if axis not in "ZCSYX")
    known = set(sizes) <= set("TZCSYX") or num_times == 1
    return ImageLayout(
        name=info.name or (series.name if series.kind != "shaped" else ""),
        shape=_plane_shape(series),
        dtype=np.dtype(dtype),
        channel_names=tuple(names),
        is_color=is_color and num_channels == 3,
        num_times=num_times,
        num_slices=sizes.get("Z", 1),
        pages_unknown=not known,
        pixel_size=pixel_size,
    )


class _PagedSeries(StoredImage):
    """A series in which each page is a plane."""

    def __init__(
        self,
        path: Path,
        series: tifffile.TiffPageSeries,
        info: OmeImage,
        pixel_size: tuple[float, float] | None,
        pages: PageReader,
    ) -> None:
        self._path, self._series, self._pages = path, series, pages
        num_plane_axes = _plane_axes(series)
        axes, shape = series.axes[:-num_plane_axes], series.shape[:-num_plane_axes]
        page = series.keyframe
        self._samples = tiff_color.num_channels(page)
        self._mapped = (
            np.memmap(path, page.parent.byteorder + page.dtype.char, "r", series.dataoffset, series.shape)
            if series.is_truncated and series.dataoffset is not None
            else None
        )
        sizes = dict(zip(axes, shape))
        self._page_index = self._index_pages(axes, shape, sizes)
        held = [t for t, planes in enumerate(self._page_index) if not self._are_missing(planes)]
        if not held:
            raise SourceError(f"{path} holds no pixels of its own; open the other files of the same OME-TIFF")
        self._page_index = self._page_index[held]
        color = tiff_color.is_color(page)
        dtype = tiff_color.dtype_of(page)
        layout = _layout(series, info, pixel_size, sizes, self._samples, dtype, color)
        self._orientation = orientation_of(page)
        if is_swapped(self._orientation):
            size = layout.pixel_size and layout.pixel_size[::-1]
            layout = dataclasses.replace(layout, shape=layout.shape[::-1], pixel_size=size)
        super().__init__(dataclasses.replace(layout, num_times=len(held)))

    @staticmethod
    def _index_pages(axes: str, shape: tuple[int, ...], sizes: dict[str, int]) -> np.ndarray:
        """(T, Z, C) numbers of pages in the series."""
        numbers = np.arange(math.prod(shape)).reshape(shape)
        order = [axis for axis in axes if axis not in "ZC"] + [axis for axis in "ZC" if axis in axes]
        numbers = numbers.transpose([axes.index(axis) for axis in order])
        return numbers.reshape(-1, sizes.get("Z", 1), sizes.get("C", 1))

    def _are_missing(self, planes: np.ndarray) -> bool:
        return self._mapped is None and all(self._series[int(number)] is None for number in planes.flat)

    def read(self, time: int, z: int, channels: Sequence[int], window: tuple[int, int, int, int]) -> np.ndarray:
        window = stored_window(window, self.layout.shape, self._orientation)
        groups = []
        for plane, wanted in itertools.groupby(channels, key=lambda channel: channel // self._samples):
            pixels = self._read_plane(int(self._page_index[time, z, plane]), window)
            pixels = tiff_color.to_gray_or_rgb(self._series.keyframe, pixels)
            groups.append(pixels[..., [channel % self._samples for channel in wanted]])
        pixels = np.concatenate(groups, axis=-1) if len(groups) > 1 else groups[0]
        return np.ascontiguousarray(upright(pixels, self._orientation))

    def _read_plane(self, number: int, window: tuple[int, int, int, int]) -> np.ndarray:
        if self._mapped is not None:
            y0, x0, y1, x1 = window
            keyframe = self._series.keyframe
            plane = self._mapped.reshape(-1, *keyframe.shape)[number]
            plane = plane if plane.ndim == 3 else plane[..., None]
            plane = np.moveaxis(plane, 0, -1) if keyframe.axes == "SYX" else plane
            return plane[y0:y1, x0:x1].astype(keyframe.dtype)
        with self._series.keyframe.parent.filehandle.lock:
            page = self._series[number]
        if page is None:
            raise SourceError(
                f"{self._path} lacks a slice or channel that its OME metadata names; join the files of the dataset"
            )
        return self._pages.read(page, window)


class _WholeSeries(StoredImage):
    """A series whose pages are no planes; it is decoded whole when it is first read."""

    def __init__(
        self,
        path: Path,
        series: tifffile.TiffPageSeries,
        info: OmeImage,
        pixel_size: tuple[float, float] | None,
    ) -> None:
        self._path, self._series = path, series
        axes = "YXC" if _has_trailing_channels(series) else series.axes
        if not {"Y", "X"} <= set(axes):
            raise SourceError(f"{path} has the axes {axes}, which are no plane; save each plane as a page of its own")
        check_num_pixels(path, series.shape)
        self._axes = axes
        sizes = {axis: size for axis, size in zip(axes, series.shape) if axis not in "YX"}
        samples = sizes.get("S", 1)
        self._pixels: np.ndarray | None = None
        color = samples in (3, 4) and series.keyframe.photometric == tifffile.PHOTOMETRIC.RGB
        samples = 3 if color else samples
        super().__init__(_layout(series, info, pixel_size, sizes, samples, series.dtype, color))

    def read(self, time: int, z: int, channels: Sequence[int], window: tuple[int, int, int, int]) -> np.ndarray:
        if self._pixels is None:
            order = [axis for axis in self._axes if axis not in "ZCSYX"]
            order += [axis for axis in "ZYXCS" if axis in self._axes]
            pixels = self._series.asarray().transpose([self._axes.index(axis) for axis in order])
            sizes = dict(zip(order, pixels.shape))
            self._pixels = pixels.reshape(
                -1, sizes.get("Z", 1), sizes["Y"], sizes["X"], sizes.get("C", 1), sizes.get("S", 1)
            )
        y0, x0, y1, x1 = window
        pixels = self._pixels[time, z, y0:y1, x0:x1]
        if self.layout.is_color:
            pixels = pixels[..., :3]
        return pixels.reshape(*pixels.shape[:2], -1)[..., list(channels)]
