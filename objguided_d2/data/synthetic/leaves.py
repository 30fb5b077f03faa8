"""A rosette of stalked leaves in a pot of soil on a tray, seen from above, as in the Leaf Segmentation Challenge (A1).

Leaves spring from one center in spiral order, the oldest and largest below, the youngest on top. Each mask is what can
be seen of a leaf: masks do not overlap, and a leaf that others cross may be in several pieces.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from .imaging import (
    MIN_OBJECT_PIXELS,
    SyntheticImage,
    cloud_noise,
    expose,
    smooth_noise,
    uneven_illumination,
)

_GOLDEN_ANGLE = math.radians(137.5)  # between one leaf and the next of most rosettes
_MIN_VISIBLE_FRACTION = 0.05  # a leaf more hidden than this would have no truth worth learning, so it is left out
_SOIL = np.array((66, 55, 44), dtype=np.float32) / 255
_TRAY = np.array((200, 97, 64), dtype=np.float32) / 255
_RIM = np.array((54, 54, 60), dtype=np.float32) / 255
_GREEN = np.array((98, 164, 38), dtype=np.float32) / 255
_PALE_GREEN = np.array((158, 200, 100), dtype=np.float32) / 255


class _Leaf(NamedTuple):
    window: tuple[slice, slice]
    shape: np.ndarray  # the whole leaf, inside the window
    along: np.ndarray  # of each pixel of the shape (P,): 0 at the plant's center, 1 at the tip
    across: np.ndarray  # of each pixel of the shape (P,): 0 at the midrib, -1 and 1 at the margins
    width: float  # greatest, in pixels


def make_leaves(size: tuple[int, int], rng: np.random.Generator) -> SyntheticImage:
    """Draw an image of one plant of ``size`` (height, width)."""
    scale = min(size)
    center = np.array(size) * rng.uniform(0.44, 0.56, 2)
    scene = _pot(size, center, scale * rng.uniform(0.36, 0.42), rng)
    leaves, masks = _keep_visible(_grow(size, center, scale * rng.uniform(0.23, 0.41), rng), size)

    light_angle = rng.uniform(0, 2 * np.pi)
    tint = 1 + rng.normal(0, 0.05, 3).astype(np.float32)
    texture = smooth_noise(size, max(scale / 110, 1.5), rng)
    for leaf in leaves:
        _paint(scene, leaf, tint, texture, light_angle, rng)
    scene *= uneven_illumination(size, rng.uniform(0.05, 0.3), rng)[..., None] * np.float32(rng.uniform(0.85, 1.15))
    image = expose(scene, rng.uniform(0.5, 0.9), rng.uniform(800, 3000), 0.006, rng)
    return SyntheticImage(image, masks)


def _grow(size: tuple[int, int], center: np.ndarray, reach: float, rng: np.random.Generator) -> list[_Leaf]:
    """Leaves from the oldest to the youngest; ``reach`` is the length of the longest with its stalk, in pixels."""
    count = int(rng.integers(10, 22))
    first = rng.uniform(0, 2 * np.pi)
    stalk = rng.uniform(0.3, 0.5)
    breadth = rng.uniform(0.3, 0.46)
    leaves = []
    for k in range(count):
        # Leaves lengthen until they are grown: the youngest third are small, the two seed leaves stay small as well.
        age = 1 - k / count
        length = reach * min(1.0, 0.2 + 1.1 * age) * rng.uniform(0.78, 1.05)
        if k < 2:
            length *= 0.6
        angle = first + k * _GOLDEN_ANGLE + rng.normal(0, 0.2)
        width = length * (1 - stalk) * breadth * rng.uniform(0.85, 1.15)
        leaf = _make_leaf(size, center + rng.normal(0, 0.015 * reach, 2), angle, length, width, stalk, rng)
        if leaf is not None:
            leaves.append(leaf)
    return leaves


def _make_leaf(
    size: tuple[int, int],
    base: np.ndarray,
    angle: float,
    length: float,
    width: float,
    stalk: float,
    rng: np.random.Generator,
) -> _Leaf | None:
    """A spoon: a stalk over the part ``stalk`` of the length, then a blade ``2 * width`` across, all gently bent."""
    tip = base + length * np.array([math.sin(angle), math.cos(angle)])
    pad = width + 0.15 * length + 2
    low = np.maximum(np.floor(np.minimum(base, tip) - pad), 0).astype(int)
    high = np.minimum(np.ceil(np.maximum(base, tip) + pad) + 1, size).astype(int)
    if (low >= high).any():
        return None
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    y, x = np.mgrid[window].astype(np.float32)
    y, x = y - np.float32(base[0]), x - np.float32(base[1])
    along = (math.cos(angle) * x + math.sin(angle) * y) / length
    bend = rng.normal(0, 0.12) * length
    offset = math.cos(angle) * y - math.sin(angle) * x - bend * (along**2 - along)

    on_blade = np.clip((along - stalk) / (1 - stalk), 0, 1)
    # Widest at 0.58 of the blade; the powers make it slope to the stalk and round off at the tip.
    outline = on_blade**0.85 * (1 - on_blade) ** 0.6 / (0.586**0.85 * 0.414**0.6)
    teeth = rng.uniform(0, 0.07) * np.sin(rng.uniform(25, 50) * on_blade + rng.uniform(0, 6))
    petiole = max(0.045 * length, 0.8) * (1 - 0.3 * np.minimum(along / stalk, 1))
    half_width = np.maximum(width * outline * (1 + teeth * np.sqrt(on_blade)), petiole)
    shape = (along >= 0) & (along < 1) & (np.abs(offset) < half_width)
    return _Leaf(window, shape, along[shape], (offset / half_width)[shape], width)


def _keep_visible(leaves: list[_Leaf], size: tuple[int, int]) -> tuple[list[_Leaf], np.ndarray]:
    """Drop leaves that the ones above hide, or that lie outside; return the rest and their visible masks (N, H, W)."""
    covered = np.zeros(size, dtype=bool)
    kept, masks = [], []
    for leaf in reversed(leaves):
        visible = leaf.shape & ~covered[leaf.window]
        if visible.sum() < max(MIN_OBJECT_PIXELS, _MIN_VISIBLE_FRACTION * leaf.shape.sum()):
            continue
        covered[leaf.window] |= leaf.shape
        mask = np.zeros(size, dtype=bool)
        mask[leaf.window] = visible
        kept.append(leaf)
        masks.append(mask)
    return kept[::-1], np.array(masks[::-1], dtype=bool).reshape(-1, *size)


def _paint(
    scene: np.ndarray,
    leaf: _Leaf,
    tint: np.ndarray,
    texture: np.ndarray,
    light_angle: float,
    rng: np.random.Generator,
) -> None:
    """Lay a leaf over ``scene``, with its shadow on what lies below."""
    view = scene[leaf.window]
    height = max(0.12 * leaf.width, 0.8)
    shift = np.array([[1, 0, -height * math.cos(light_angle)], [0, 1, -height * math.sin(light_angle)]])
    shadow = cv2.warpAffine(leaf.shape.astype(np.float32), shift, leaf.shape.shape[::-1])
    view *= 1 - 0.45 * cv2.GaussianBlur(shadow, (0, 0), height)[..., None]

    midrib = np.exp(-((leaf.across * leaf.width / max(0.06 * leaf.width, 0.7)) ** 2))
    # Side veins leave the midrib forwards, hence the slant with the distance from it.
    side_veins = np.maximum(np.sin(2 * np.pi * 7 * (leaf.along - 0.12 * np.abs(leaf.across))), 0) ** 6
    dome = rng.uniform(0.05, 0.2) * (0.5 - leaf.across**2)  # the blade arches, so its margins face away from the light
    slope = rng.normal(0, 0.1) * leaf.across + rng.normal(0.05, 0.05) * (leaf.along - 0.5)
    shade = 1 + dome + slope + 0.05 * texture[leaf.window][leaf.shape]
    paleness = np.clip(0.4 * midrib + 0.12 * side_veins + 0.7 * (leaf.along < 0.3) + rng.uniform(0, 0.25), 0, 1)
    paleness = paleness[:, None]
    color = ((1 - paleness) * _GREEN + paleness * _PALE_GREEN) * tint * shade[:, None] * rng.uniform(0.85, 1.12)
    view[leaf.shape] = color


def _pot(size: tuple[int, int], center: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """The ground: plastic tray with ledges, a dark pot rim, soil with crumbs, grit and moss."""
    height, width = size
    scale = min(size)
    tray = _TRAY * rng.uniform(0.85, 1.1) * (1 + 0.05 * cloud_noise(size, scale / 6, rng))[..., None]
    for _ in range(rng.integers(0, 4)):
        start = int(rng.integers(height))
        ledge = slice(start, start + max(1, int(scale * rng.uniform(0.01, 0.06))))
        tray[ledge] *= rng.uniform(0.75, 1.15)
    if rng.random() < 0.5:
        tray = tray.transpose(1, 0, 2)[:, ::-1] if height == width else tray[:, ::-1]

    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance = np.hypot(y - np.float32(center[0]), x - np.float32(center[1]))
    crumbs = np.exp(0.3 * smooth_noise(size, max(scale / 180, 1), rng) + 0.14 * cloud_noise(size, scale / 12, rng))
    soil = _SOIL * rng.uniform(0.75, 1.5) * crumbs[..., None]
    grit = smooth_noise(size, max(scale / 180, 1), rng) > 2.3
    soil[grit] = soil[grit] * 1.5 + 0.12
    moss = np.clip(cloud_noise(size, scale / 8, rng) - 1, 0, 1) * (smooth_noise(size, max(scale / 160, 1), rng) > 0)
    soil += (0.35 * moss)[..., None] * np.array((0.5, 0.9, 0.1), dtype=np.float32)

    rim = max(0.035 * radius, 1)
    in_pot = _soft_step(radius - distance)[..., None]
    in_soil = _soft_step(radius - rim - distance)[..., None]
    # The wall keeps light off the soil beside it.
    soil *= (1 - 0.5 * np.exp(-np.maximum(radius - distance, 0) / (2 * rim)))[..., None]
    tray = tray * (1 - 0.35 * np.exp(-np.maximum(distance - radius, 0) / (3 * rim)))[..., None]
    scene = tray * (1 - in_pot) + (_RIM * (1 - in_soil) + soil * in_soil) * in_pot
    return np.ascontiguousarray(scene, dtype=np.float32)


def _soft_step(distance: np.ndarray) -> np.ndarray:
    """0 to 1 over one pixel, so that edges are not jagged."""
    return np.clip(distance + 0.5, 0, 1)
