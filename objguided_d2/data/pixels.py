"""Image and label files as arrays: PNG, JPEG, BMP and TIFF, gray or color, of 8 to 32 bits."""

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePath

import cv2
import numpy as np
import tifffile
from detectron2.data import detection_utils
from PIL import Image, ImageOps, UnidentifiedImageError

from .intensity import IntensityMapping, to_rgb8
from .source_error import SourceError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_TIFF_SUFFIXES = (".tif", ".tiff")


def read_image_pixels(read: Callable[[str], bytes], name: str) -> np.ndarray:
    """Decode an image as it is stored, a palette looked up and the camera's orientation applied.

    Args:
        read: gives the bytes of a file by name.
        name: of the file; its ending tells the format.

    Returns:
        (H, W) gray or (H, W, 3) RGB; alpha is dropped. uint8, uint16 or a wider type.
    Raises:
        SourceError: if the file is damaged or holds no single 2D image.
    """
    pixels = _decode(read, name, palette_as_color=True)
    return pixels[..., :3] if pixels.ndim == 3 else pixels


def read_label_pixels(read: Callable[[str], bytes], name: str) -> np.ndarray:
    """Decode a label image: every value, palette index or color is an object, 0 or black is background.

    Returns:
        (H, W) integers.
    Raises:
        SourceError: if the file is damaged, holds no single 2D image, or values that are not whole or negative.
    """
    pixels = _decode(read, name, palette_as_color=False)
    if pixels.ndim == 3:
        weights = np.int64([1 << 32, 1 << 16, 1])
        pixels = pixels[..., :3].astype(np.int64) @ weights
    if pixels.dtype.kind == "f":
        if (pixels != np.floor(pixels)).any():
            raise SourceError(f"{name} holds fractions where labels are whole numbers; save it as integers")
        pixels = pixels.astype(np.int64)
    if pixels.min(initial=0) < 0:
        raise SourceError(f"{name} holds negative labels; save the background as 0 and objects as 1, 2, ...")
    return pixels


def _decode(read: Callable[[str], bytes], name: str, palette_as_color: bool) -> np.ndarray:
    try:
        data = read(name)
        if not data:
            raise SourceError(f"{name} is empty; copy it again from where it came from")
        if PurePath(name).suffix.lower() in _TIFF_SUFFIXES:
            return _as_image(tifffile.imread(io.BytesIO(data)), name)
        with Image.open(io.BytesIO(data)) as image:
            if image.mode == "P" and not palette_as_color:
                return np.array(image)
            if image.mode in ("1", "L", "P", "PA", "RGB", "RGBA", "LA", "CMYK"):
                upright = ImageOps.exif_transpose(image)
                gray = image.mode in ("1", "L", "LA")
                # 16-bit color opens as 8-bit RGB too; OpenCV alone keeps its depth.
                deep = (
                    cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if image.mode == "RGB" else None
                )
                if deep is None or deep.dtype == np.uint8:
                    return np.array(upright.convert("L" if gray else "RGB"))
                return np.ascontiguousarray(deep[..., 2::-1])
            return np.array(image)
    except (
        OSError,
        ValueError,
        UnidentifiedImageError,
        tifffile.TiffFileError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise SourceError(f"{name} cannot be read ({error}); save it again as PNG or TIFF") from error


def _as_image(pixels: np.ndarray, name: str) -> np.ndarray:
    """A TIFF's array with channels last."""
    pixels = pixels.squeeze()
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] not in (3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4)):
        return pixels
    raise SourceError(
        f"{name} is an array of {'x'.join(map(str, pixels.shape))}, neither gray nor RGB; save each plane, frame or "
        "channel as a file of its own"
    )


def read_image(file_name: str, image_format: str, mapping: IntensityMapping | None) -> np.ndarray:
    """Read an image for a network.

    Args:
        file_name: its path.
        image_format: a format of ``detection_utils.read_image``, which reads 8-bit files if there is no mapping.
        mapping: how values become 8 bits; it is applied to every image, 8-bit ones too.

    Returns:
        (H, W, C) uint8.
    Raises:
        SourceError: if the file cannot be read, or has more than 8 bits and there is no mapping.
    """
    if mapping is None and PurePath(file_name).suffix.lower() not in _TIFF_SUFFIXES and not _is_deep_png(file_name):
        return detection_utils.read_image(file_name, format=image_format)
    pixels = read_image_pixels(lambda name: Path(name).read_bytes(), file_name)
    try:
        rgb = to_rgb8(pixels, mapping)
    except ValueError as error:
        raise SourceError(f"{file_name}: {error}; set INPUT.INTENSITY to it") from error
    return detection_utils.convert_PIL_to_numpy(Image.fromarray(rgb), image_format)


def _is_deep_png(file_name: str) -> bool:
    """Whether a PNG has 16 bits a channel, which PIL would cut off without a word."""
    with open(file_name, "rb") as file:
        header = file.read(25)
    return header[:8] == b"\x89PNG\r\n\x1a\n" and header[24] == 16
