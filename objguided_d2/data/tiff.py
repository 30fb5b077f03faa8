"""TIFF files as their tags say: axes, photometric interpretation, color map, orientation."""

import io
import logging
import math
import struct

import numpy as np
import tifffile
from PIL import Image

from .decode_limit import check_pixels
from .source_error import SourceError

MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_AXIS_NAMES = {
    "Z": "z slices",
    "T": "time points",
    "C": "channels",
    "S": "samples per pixel",
    "I": "pages",
    "Q": "planes",
}
MAX_PAGES = 10_000
_ORIENTATION = 274


def is_tiff(data: bytes) -> bool:
    return data[:4] in MAGIC


def read_tiff(data: bytes, name: str, *, as_labels: bool) -> np.ndarray:
    """Decode a TIFF file of one 2D image.

    Args:
        data: the file.
        name: for messages.
        as_labels: values as they are stored: neither a color map nor "0 is white" applies to them.

    Returns:
        (H, W), or (H, W, 3) RGB, of the stored type.
    Raises:
        SourceError: if the file holds no single gray or RGB image.
        Exception: whatever tifffile and its codecs raise on damaged files.
    """
    # What tifffile logs about damaged tags is in the error, or does not matter.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    _check_pages(data, name)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        series = _only_series(tiff, name)
        page = series.keyframe
        check_pixels(math.prod(series.shape), name)
        axes, shape = _without_single(series.axes, series.shape)
        if "".join(sorted(axes)) not in ("XY", "SXY"):
            raise SourceError(f"{name} holds {_describe(axes, shape)}, not one gray or RGB image; {_FIX}")
        photometric = getattr(page.photometric, "name", str(page.photometric))
        orientation = page.tags.valueof(_ORIENTATION, 1)
        if photometric not in ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE") and not (
            photometric == "YCBCR" and "JPEG" in getattr(page.compression, "name", "")
        ):
            pixels = _convert_color(data, photometric, name)
        else:
            pixels = series.asarray().reshape(shape)
            if "S" in axes:
                pixels = _drop_extra_samples(np.moveaxis(pixels, axes.index("S"), -1), page, photometric, name)
            if not as_labels:
                pixels = _apply_photometric(pixels, page, photometric)
    return upright(np.ascontiguousarray(pixels), orientation)


_FIX = "save the slice, frame or channel to be segmented as a file by itself"


def _check_pages(data: bytes, name: str) -> None:
    """Refuse a file whose chain of pages runs in a circle or through overlapping pages: tifffile would follow it.

    A page is a count of tags, the tags, and the offset of the next page (TIFF 6.0, section 2; BigTIFF has 64 bits).
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = 43 in data[2:4]
    count_format, offset_format = (f"{order}Q", f"{order}Q") if is_big else (f"{order}H", f"{order}I")
    tag_bytes = 20 if is_big else 12
    seen: set[int] = set()
    position = 8 if is_big else 4
    try:
        while offset := struct.unpack_from(offset_format, data, position)[0]:
            if offset in seen or len(seen) > MAX_PAGES:
                raise SourceError(f"{name} is damaged: its pages run in a circle or are too many; copy it again")
            seen.add(offset)
            (num_tags,) = struct.unpack_from(count_format, data, offset)
            position = offset + struct.calcsize(count_format) + tag_bytes * num_tags
    except struct.error:  # beyond the end of the file, where tifffile stops as well
        pass


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image as the orientation tag of TIFF and EXIF says, 1 to 8; others are taken for 1."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _only_series(tiff: tifffile.TiffFile, name: str) -> tifffile.TiffPageSeries:
    """The largest image; smaller ones beside it are thumbnails and levels of a pyramid."""
    if not len(tiff.series):
        raise SourceError(f"{name} is a TIFF file without an image; save it again")
    sizes = [math.prod(series.shape) for series in tiff.series]
    if sizes.count(max(sizes)) > 1:
        raise SourceError(f"{name} holds {len(sizes)} images; {_FIX}")
    return tiff.series[sizes.index(max(sizes))]


def _without_single(axes: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n != 1 or a in "YX"]
    return "".join(a for a, _ in kept), tuple(n for _, n in kept)


def _describe(axes: str, shape: tuple[int, ...]) -> str:
    parts = [f"{n} {_AXIS_NAMES.get(a, f'of axis {a}')}" for a, n in zip(axes, shape) if a not in "YX"]
    return f"{' x '.join(parts) or 'no plane'} (axes {axes}, {'x'.join(map(str, shape))})"


def _drop_extra_samples(pixels: np.ndarray, page: tifffile.TiffPage, photometric: str, name: str) -> np.ndarray:
    num_colors = 3 if photometric in ("RGB", "YCBCR") else 1
    if pixels.shape[-1] - len(page.extrasamples) > num_colors or pixels.shape[-1] < num_colors:
        raise SourceError(
            f"{name} has {pixels.shape[-1]} samples per pixel that its tags call {photometric}, not RGB; save it as "
            "RGB, or the channel to be segmented as a gray image"
        )
    unknown = [int(kind) for kind in page.extrasamples if int(kind) == 0]
    if num_colors == 1 and unknown:
        raise SourceError(
            f"{name} has {pixels.shape[-1]} channels that its tags do not name (photometric {photometric}); {_FIX}"
        )
    return pixels[..., :3] if num_colors == 3 else pixels[..., 0]


def _apply_photometric(pixels: np.ndarray, page: tifffile.TiffPage, photometric: str) -> np.ndarray:
    if photometric == "PALETTE" and page.colormap is not None:
        # 16-bit color map entries; some writers store 8-bit ones.
        colors = np.asarray(page.colormap)
        colors = (colors >> 8).astype(np.uint8) if colors.max(initial=0) > 255 else colors.astype(np.uint8)
        if (colors == colors[:1]).all():
            return colors[0][pixels]
        return np.moveaxis(colors[:, pixels], 0, -1)
    if photometric == "MINISWHITE":
        if pixels.dtype == bool:
            return ~pixels
        if pixels.dtype.kind == "u":
            return ((1 << page.bitspersample) - 1 - pixels).astype(pixels.dtype)
        return -pixels
    return pixels


def _convert_color(data: bytes, photometric: str, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except Exception as error:
        raise SourceError(
            f"{name} has colors of the kind {photometric}, which are not read ({error}); save it as RGB"
        ) from error
