"""What the samples of a TIFF page mean: its photometric interpretation."""

import numpy as np
import tifffile
from PIL import Image
from tifffile import PHOTOMETRIC

_ALPHA = (1, 2)  # of the tag ExtraSamples
_RGB_COMPRESSIONS = (6, 7, 33007, 33003, 33005, 34892)  # JPEG and JPEG 2000 decode YCbCr to RGB


def is_known(page: tifffile.TiffPage) -> bool:
    """Whether :func:`to_gray_or_rgb` knows the interpretation."""
    photometric, samples = page.photometric, page.samplesperpixel
    if photometric == PHOTOMETRIC.YCBCR:
        return samples == 3 and (page.compression in _RGB_COMPRESSIONS or page.dtype == np.uint8)
    if photometric == PHOTOMETRIC.PALETTE:
        return page.colormap is not None
    if photometric == PHOTOMETRIC.SEPARATED:
        return samples >= 4 and page.dtype.kind == "u"
    return photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB)


def is_color(page: tifffile.TiffPage) -> bool:
    """Whether :func:`to_gray_or_rgb` gives red, green and blue."""
    if page.photometric == PHOTOMETRIC.PALETTE:
        return _palette(page).ndim == 2
    if page.photometric in (PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR):
        return True
    return page.photometric == PHOTOMETRIC.RGB and page.samplesperpixel in (3, 4)


def num_channels(page: tifffile.TiffPage) -> int:
    """Channels that :func:`to_gray_or_rgb` gives."""
    if is_color(page):
        return 3
    return 1 if page.photometric == PHOTOMETRIC.PALETTE else page.samplesperpixel - _has_gray_alpha(page)


def dtype_of(page: tifffile.TiffPage) -> np.dtype:
    """Type of what :func:`to_gray_or_rgb` gives."""
    if page.photometric == PHOTOMETRIC.PALETTE or page.dtype == bool:
        return np.dtype(np.uint8)
    return page.dtype


def to_gray_or_rgb(page: tifffile.TiffPage, pixels: np.ndarray) -> np.ndarray:
    """Turn stored samples into intensities: white is high, color is RGB, alpha is dropped, two levels are 0 and 255.

    Args:
        page: where they come from, of an interpretation that :func:`is_known`.
        pixels: (h, w, S) samples.

    Returns:
        (h, w, C), C as :func:`num_channels` says.
    """
    photometric = page.photometric
    if photometric == PHOTOMETRIC.PALETTE:
        colors = _palette(page)[pixels[..., 0].astype(np.int64)]
        return colors if colors.ndim == 3 else colors[..., None]
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
        return 255 - pixels if photometric == PHOTOMETRIC.MINISWHITE else pixels
    if photometric == PHOTOMETRIC.MINISBLACK:
        return pixels[..., :-1] if _has_gray_alpha(page) else pixels
    if photometric == PHOTOMETRIC.MINISWHITE:
        return _inverted(page, pixels)
    if photometric == PHOTOMETRIC.RGB:
        return pixels[..., :3] if is_color(page) else pixels
    if photometric == PHOTOMETRIC.SEPARATED:
        return _from_cmyk(pixels[..., :4])
    if page.compression in _RGB_COMPRESSIONS:
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels), "YCbCr").convert("RGB"))


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """(N, 3) uint8 colors, or (N,) where all are gray; some programs write entries of 8 bits instead of 16."""
    colors = np.asarray(page.colormap).T
    # Of 16 bits, some write v x 256 and some v x 257; the high byte is v in both.
    colors = (colors >> 8 if colors.max(initial=0) > 255 else colors).astype(np.uint8)
    return colors[:, 0] if (colors == colors[:, :1]).all() else colors


def _has_gray_alpha(page: tifffile.TiffPage) -> bool:
    gray = page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
    return gray and page.samplesperpixel > 1 and bool(page.extrasamples) and page.extrasamples[-1] in _ALPHA


def _inverted(page: tifffile.TiffPage, pixels: np.ndarray) -> np.ndarray:
    if _has_gray_alpha(page):
        pixels = pixels[..., :-1]
    if pixels.dtype.kind == "u":
        bits = page.bitspersample if isinstance(page.bitspersample, int) else page.bitspersample[0]
        return np.array(2**bits - 1, pixels.dtype) - pixels
    return -pixels


def _from_cmyk(cmyk: np.ndarray) -> np.ndarray:
    """(h, w, 4) inks -> (h, w, 3) of the same integer type; of 8 bits as Pillow converts them."""
    if cmyk.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(cmyk), "CMYK").convert("RGB"))
    full = np.iinfo(cmyk.dtype).max
    light = 1 - cmyk.astype(np.float64) / full
    return np.rint(light[..., :3] * light[..., 3:] * full).astype(cmyk.dtype)
