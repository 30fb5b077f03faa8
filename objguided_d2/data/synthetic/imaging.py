"""What all synthetic images share: random textures, and how light gets from a scene to the pixels of a camera.

Scenes are float32 (H, W) or (H, W, 3), 0 = no light, 1 = the sensor's full range. Every random number comes from the
generator that is passed in.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

MIN_OBJECT_PIXELS = 12  # fewer cannot be told from debris, by an annotator or by a model


class SyntheticImage(NamedTuple):
    """``image`` is uint8 RGB (H, W, 3); ``masks`` is bool (N, H, W), the visible pixels of each object."""

    image: np.ndarray
    masks: np.ndarray


def smooth_noise(size: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Random texture (H, W) float32 of mean about 0 and deviation about 1, whose features are ``scale`` pixels wide."""
    height, width = size
    grid = (int(height / scale) + 4, int(width / scale) + 4)
    field = cv2.GaussianBlur(rng.standard_normal(grid, dtype=np.float32), (0, 0), 0.7) * 2.4
    to_grid = np.array([[1 / scale, 0, 1.5], [0, 1 / scale, 1.5]], dtype=np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(field, to_grid, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)


def cloud_noise(size: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Three octaves of :func:`smooth_noise`, the coarsest ``scale`` pixels wide and the strongest."""
    octaves = [(1.0, scale), (0.5, scale / 2), (0.25, scale / 4)]
    return sum(weight * smooth_noise(size, max(wide, 1.0), rng) for weight, wide in octaves) / np.float32(1.15)


def uneven_illumination(size: tuple[int, int], strength: float, rng: np.random.Generator) -> np.ndarray:
    """Light reaching each pixel (H, W): a tilt and a fall towards the corners, from 1 down to ``1 - strength``."""
    y, x = np.ogrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    angle, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1)
    light = tilt * (np.cos(angle) * x + np.sin(angle) * y) - (1 - tilt) * (x**2 + y**2)
    light = (light - light.min()) / np.ptp(light)
    return (1 - strength * (1 - light)).astype(np.float32)


def expose(scene: np.ndarray, blur: float, photons: float, read_noise: float, rng: np.random.Generator) -> np.ndarray:
    """Photograph a scene: point spread, shot noise, read noise, quantisation.

    Args:
        scene: float32 (H, W) or (H, W, 3).
        blur: standard deviation of the Gaussian point spread in pixels.
        photons: photons that make up a full pixel; shot noise is the normal limit of Poisson's law.
        read_noise: standard deviation, as a part of the full range.

    Returns:
        uint8 RGB (H, W, 3); a gray scene has one noise for all three channels.
    """
    scene = np.maximum(cv2.GaussianBlur(scene, (0, 0), blur), 0)
    noise = np.sqrt(scene / photons + read_noise**2) * rng.standard_normal(scene.shape, dtype=np.float32)
    image = np.clip((scene + noise) * 255 + 0.5, 0, 255).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def largest_piece(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """The largest connected part of a boolean mask (H, W); pixels touch by edges (4) or by corners as well (8)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    if count <= 2:
        return mask
    return labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
