"""From camera values to the 8 bits a network sees: chosen once, kept with the data, the same for every image.

A mapping is a short text, which annotation files and configs hold:

- ``percentile:LOW,HIGH``: the values at these percentiles of the image become 0 and 255;
- ``range:LOW,HIGH``: these values become 0 and 255, in every image.

What lies outside is cut off; between, the mapping is linear.
"""

from dataclasses import dataclass

import numpy as np

DEFAULT = "percentile:0.1,99.9"


@dataclass(frozen=True)
class IntensityMapping:
    """See the module; ``kind`` is "percentile" or "range"."""

    kind: str
    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> "IntensityMapping":
        """Read ``kind:LOW,HIGH``.

        Raises:
            ValueError: for another text, LOW not under HIGH, or percentiles outside 0 to 100.
        """
        kind, _, bounds = text.partition(":")
        try:
            low, high = (float(bound) for bound in bounds.split(","))
        except ValueError:
            kind = ""
        if kind not in ("percentile", "range"):
            raise ValueError(f"intensity mapping {text!r} is not percentile:LOW,HIGH or range:LOW,HIGH, as {DEFAULT}")
        if not low < high or (kind == "percentile" and not 0 <= low < high <= 100):
            raise ValueError(f"intensity mapping {text!r}: LOW must be under HIGH, percentiles within 0 to 100")
        return cls(kind, low, high)

    def __str__(self) -> str:
        return f"{self.kind}:{self.low:g},{self.high:g}"

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Map (H, W) or (H, W, C) values of any type to uint8; channels have one mapping.

        NaN and infinite values do not count among the percentiles; NaN and -inf become 0, +inf 255.

        Raises:
            ValueError: if no value is finite.
        """
        finite = pixels[np.isfinite(pixels)] if num_not_finite(pixels) else pixels
        if not finite.size:
            raise ValueError("no value of it is a finite number; export it again")
        low, high = self.low, self.high
        if self.kind == "percentile":
            low, high = np.percentile(finite, [low, high])
        with np.errstate(over="ignore", invalid="ignore"):  # values at the end of the scale, infinite ones
            # Where both bounds are one value, as in a dark image with few bright pixels, all above it is white.
            scaled = (pixels.astype(np.float64) - low) * (255 / (float(high) - float(low)) if high > low else np.inf)
        return np.rint(np.nan_to_num(scaled, nan=0.0).clip(0, 255)).astype(np.uint8)


def num_not_finite(pixels: np.ndarray) -> int:
    """How many values are NaN or infinite."""
    return pixels.size - int(np.count_nonzero(np.isfinite(pixels))) if pixels.dtype.kind == "f" else 0


def to_rgb8(pixels: np.ndarray, mapping: IntensityMapping | None) -> np.ndarray:
    """(H, W) or (H, W, 3) values of any type -> (H, W, 3) uint8.

    Args:
        mapping: applied to every image; None leaves 8-bit images as they are.

    Raises:
        ValueError: if the values have more than 8 bits and there is no mapping for them, or none is finite.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if mapping is not None:
        pixels = mapping(pixels)
    elif pixels.dtype != np.uint8:
        finite = pixels[np.isfinite(pixels)]
        bounds = f"{finite.min()} to {finite.max()}" if finite.size else "no finite number"
        raise ValueError(f"{pixels.dtype} values of {bounds} need an intensity mapping, as {DEFAULT}")
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else np.ascontiguousarray(pixels)


def deep_to_rgb8(pixels: np.ndarray, mapping: IntensityMapping | None) -> np.ndarray:
    """As :func:`to_rgb8`, but the mapping is for images of more than 8 bits alone."""
    return to_rgb8(pixels, None if pixels.dtype in (bool, np.uint8) else mapping)
