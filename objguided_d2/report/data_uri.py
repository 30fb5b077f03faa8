"""Pictures inside an HTML file."""

import base64

import cv2
import numpy as np


def jpeg_data_uri(pixels: np.ndarray, quality: int, full_color: bool = False) -> str:
    """A picture as ``data:image/jpeg;base64,...``.

    Args:
        pixels: (H, W, 3) uint8, BGR.
        quality: of JPEG, 0 to 100.
        full_color: keep color at the resolution of brightness, as thin colored lines want it; half of it otherwise.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if full_color:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, encoded = cv2.imencode(".jpg", pixels, options)
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode("ascii")
