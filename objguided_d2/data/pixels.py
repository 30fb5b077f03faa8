"""Image and label files as arrays: PNG, JPEG, BMP, TIFF, WebP and JPEG 2000, gray or color, of 8 to 32 bits."""

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path, PurePath

import cv2
import imagecodecs
import numpy as np
from detectron2.data import detection_utils
from PIL import Image, ImageOps, UnidentifiedImageError

from .decode_limit import check_pixels, max_pixels
from .intensity import DEFAULT, IntensityMapping, deep_to_rgb8, to_rgb8
from .source_error import SourceError
from .tiff import is_tiff, read_tiff, upright

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jp2")
# Compression that changes values: fine for images, not for labels.
LOSSY_SUFFIXES = (".jpg", ".jpeg")
_PNG_GRAY_ALPHA = 4
_PNG_COLOR_TYPES = (2, _PNG_GRAY_ALPHA, 6)  # RGB, gray with alpha, RGB with alpha
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JP2_MAGIC = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")


def read_image_pixels(read: Callable[[str], bytes], name: str) -> np.ndarray:
    """Decode an image as its file says: palette looked up, "0 is white" inverted, the camera's orientation applied.

    Args:
        read: gives the bytes of a file by name.
        name: of the file. Its contents, not its ending, tell the format.

    Returns:
        (H, W) gray or (H, W, 3) RGB; alpha is dropped. bool, uint8, uint16 or a wider type.
    Raises:
        SourceError: if the file is damaged, too large (decode_limit.py) or holds no single 2D image.
    """
    return _decode(read, name, as_labels=False)


def read_label_pixels(read: Callable[[str], bytes], name: str) -> np.ndarray:
    """Decode a label image: every value, palette index or color is an object, 0 or black is background.

    Returns:
        (H, W) integers.
    Raises:
        SourceError: if the file is damaged, holds no single 2D image, or values that are not whole or negative.
    """
    pixels = _decode(read, name, as_labels=True)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all() or (pixels != np.floor(pixels)).any() or np.abs(pixels).max(initial=0) > 2**53:
            raise SourceError(f"{name} holds fractions where labels are whole numbers; save it as integers")
        pixels = pixels.astype(np.int64)
    if pixels.dtype.kind not in "iu":
        raise SourceError(f"{name} holds {pixels.dtype} values where labels are whole numbers; save it as integers")
    if pixels.min(initial=0) < 0:
        raise SourceError(f"{name} holds negative labels; save the background as 0 and objects as 1, 2, ...")
    if pixels.ndim == 3:
        if pixels.max(initial=0) > np.iinfo(np.uint16).max:
            raise SourceError(f"{name} holds colors of more than 16 bits; save labels as one number per pixel")
        pixels = pixels.astype(np.int64) @ np.int64([1 << 32, 1 << 16, 1])
    return pixels


def read_image(file_name: str, image_format: str, mapping: IntensityMapping | None) -> np.ndarray:
    """Read an image for a network, in training, prediction and ``check``.

    Args:
        file_name: its path.
        image_format: a format of ``detection_utils.read_image``.
        mapping: how values become 8 bits; it is applied to every image, 8-bit ones too.

    Returns:
        (H, W, C) uint8.
    Raises:
        SourceError: if the file cannot be read, or has more than 8 bits and there is no mapping. It names the file.
    """
    pixels = read_image_pixels(lambda name: Path(name).read_bytes(), file_name)
    try:
        rgb = to_rgb8(pixels, mapping)
    except ValueError as error:
        raise SourceError(f"{file_name}: {error}; set INPUT.INTENSITY to it") from error
    return detection_utils.convert_PIL_to_numpy(Image.fromarray(rgb), image_format)


def read_picture(file_name: str | Path) -> np.ndarray:
    """Read an image for people to look at: (H, W, 3) uint8 RGB; more than 8 bits are mapped by intensity.DEFAULT.

    Raises:
        SourceError: if the file cannot be read. It names the file.
    """
    pixels = read_image_pixels(lambda name: Path(name).read_bytes(), str(file_name))
    try:
        return deep_to_rgb8(pixels, IntensityMapping.parse(DEFAULT))
    except ValueError as error:
        raise SourceError(f"{file_name}: {error}") from error


def _decode(read: Callable[[str], bytes], name: str, as_labels: bool) -> np.ndarray:
    """(H, W) or (H, W, 3) of any type."""
    try:
        data = read(name)
        if not data:
            raise SourceError(f"{name} is empty; copy it again from where it came from")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags, and of sizes, which are checked here
            if is_tiff(data):
                pixels = read_tiff(data, name, as_labels=as_labels)
            elif data.startswith(_JP2_MAGIC):
                pixels = _read_jpeg2000(data, name)
            else:
                pixels = _read_with_pillow(data, name, as_labels)
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{name} does not exist; put it there or correct its name") from error
    except MemoryError as error:
        raise SourceError(f"{name} does not fit into memory; cut it into tiles") from error
    except UnidentifiedImageError as error:  # its own text has an address in memory
        raise SourceError(f"{name} cannot be read (it is no image of a known kind); {_advice(name)}") from error
    # Decoders of damaged files raise whatever they stumble over: struct.error, KeyError, IndexError, their own types.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise SourceError(f"{name} cannot be read ({reason}); {_advice(name)}") from error
    if not pixels.size:
        raise SourceError(f"{name} has no pixel; export it again")
    if pixels.dtype.kind not in "biuf":
        raise SourceError(f"{name} holds {pixels.dtype} values; save it as integers or floats")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _advice(name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "copy it again or save it again as PNG or TIFF"
    return f"{suffix or 'such'} files are not read; save it as PNG or TIFF"


def _read_with_pillow(data: bytes, name: str, as_labels: bool) -> np.ndarray:
    if max_pixels() > 2 * Image.MAX_IMAGE_PIXELS:
        # Pillow refuses above twice this number; whoever raises our limit means all decoders.
        Image.MAX_IMAGE_PIXELS = max_pixels() // 2 + 1
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        check_pixels(int(re.search(r"\d+", str(error))[0]), name)
        raise
    with image:
        check_pixels(image.width * image.height, name)
        # The second picture of a camera's JPEG (MPO) is a preview.
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            raise SourceError(f"{name} holds {image.n_frames} frames; save each as a file by itself")
        orientation = image.getexif().get(0x0112, 1)
        if data.startswith(_PNG_MAGIC) and data[24] == 16 and data[25] in _PNG_COLOR_TYPES:
            return upright(_read_deep_png(data, data[25]), orientation)
        if as_labels and image.mode == "P":
            return upright(np.array(image), orientation)
        if image.mode.startswith("I") or image.mode == "F":
            return upright(np.array(image), orientation)
        return np.array(ImageOps.exif_transpose(image).convert("L" if image.mode in ("1", "L", "LA") else "RGB"))


def _read_deep_png(data: bytes, color_type: int) -> np.ndarray:
    """16-bit color, which Pillow opens as 8-bit RGB without a word."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its data are damaged")
    return pixels[..., 0] if color_type == _PNG_GRAY_ALPHA else pixels[..., 2::-1]


def _read_jpeg2000(data: bytes, name: str) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        check_pixels(image.width * image.height, name)
    pixels = imagecodecs.jpeg2k_decode(data)
    if pixels.ndim == 2:
        return pixels
    if pixels.ndim == 3 and pixels.shape[2] in (1, 2, 3, 4):
        return pixels[..., 0] if pixels.shape[2] < 3 else pixels[..., :3]
    raise SourceError(f"{name} holds {pixels.shape[-1]} channels; save the one to be segmented as a file by itself")
