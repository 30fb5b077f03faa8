"""Cell nuclei: fluorescence (dark ground, bright nuclei) or stained tissue, in proportions like those of DSB2018.

Nuclei differ in size, elongation and brightness, and many sit in clusters. Each mask is one 4-connected piece, and no
two overlap: where a nucleus would cover another, it ends at the border of the earlier one.
"""

from __future__ import annotations

import cmath
import math
from typing import NamedTuple

import cv2
import numpy as np

from .imaging import (
    MIN_OBJECT_PIXELS,
    SyntheticImage,
    cloud_noise,
    expose,
    largest_piece,
    smooth_noise,
    uneven_illumination,
)

_HISTOLOGY_SHARE = 0.25
# A nucleus that earlier ones would cut down further is left out. One put next to another may be squeezed; the rest lie
# apart more often than chance has it, as cells move off each other.
_MIN_VISIBLE_CLUSTERED = 0.75
_MIN_VISIBLE_ALONE = 0.98


class _Style(NamedTuple):
    """What the nuclei of one image have in common."""

    radius: float  # typical, in pixels
    size_spread: float  # standard deviation of the log radius
    elongation: float  # mean log ratio of the axes
    roughness: float  # how far the outline strays from an ellipse, in parts of the radius
    fill: float  # part of the image to cover
    clustering: float  # chance that a nucleus is put next to an earlier one


class _Nucleus(NamedTuple):
    window: tuple[slice, slice]
    mask: np.ndarray  # visible part, inside the window
    depth: np.ndarray  # 0 at the center, 1 at the outline, inside the window
    radius: float


# Ground and nucleus colors of the stains in DSB2018: Giemsa on pale ground, violet on lilac, hematoxylin-eosin.
_STAINS = (
    ((232, 229, 221), (120, 42, 138)),
    ((222, 219, 216), (97, 35, 120)),
    ((198, 180, 226), (84, 46, 172)),
    ((190, 170, 222), (70, 36, 165)),
    ((229, 178, 208), (112, 62, 136)),
)


def make_nuclei(size: tuple[int, int], rng: np.random.Generator) -> SyntheticImage:
    """Draw an image of nuclei of ``size`` (height, width)."""
    stained = rng.random() < _HISTOLOGY_SHARE
    style = _tissue_style(size, rng) if stained else _culture_style(size, rng)
    nuclei = _place(size, style, rng)
    image = _render_stained(size, nuclei, style, rng) if stained else _render_fluorescence(size, nuclei, style, rng)
    masks = np.zeros((len(nuclei), *size), dtype=bool)
    for mask, nucleus in zip(masks, nuclei, strict=True):
        mask[nucleus.window] = nucleus.mask
    return SyntheticImage(image, masks)


def _culture_style(size: tuple[int, int], rng: np.random.Generator) -> _Style:
    radius = min(np.exp(rng.normal(np.log(7.5), 0.45)), min(size) / 8)
    fill = np.clip(np.exp(rng.normal(np.log(0.075), 0.7)) * (radius / 7.5) ** 0.5, 0.02, 0.35)
    return _Style(radius, rng.uniform(0.12, 0.28), rng.uniform(0.08, 0.4), 0.04, fill, rng.uniform(0.0, 0.22))


def _tissue_style(size: tuple[int, int], rng: np.random.Generator) -> _Style:
    radius = min(np.exp(rng.normal(np.log(11), 0.35)), min(size) / 8)
    fill = rng.uniform(0.1, 0.3)
    return _Style(radius, rng.uniform(0.2, 0.35), rng.uniform(0.1, 0.9), 0.08, fill, rng.uniform(0.1, 0.4))


def _place(size: tuple[int, int], style: _Style, rng: np.random.Generator) -> list[_Nucleus]:
    """Put nuclei on the image, one by one, until they cover the fraction that the style asks for."""
    taken = np.zeros(size, dtype=bool)
    nuclei: list[_Nucleus] = []
    centers: list[np.ndarray] = []
    wanted = max(1, round(style.fill * taken.size / (np.pi * style.radius**2)))
    direction = rng.uniform(0, np.pi)
    for _ in range(3 * wanted):
        if len(nuclei) == wanted:
            break
        radius = style.radius * np.exp(np.clip(rng.normal(0, style.size_spread), -0.8, 0.7))
        clustered = len(nuclei) > 0 and rng.random() < style.clustering
        if clustered:
            neighbor = rng.integers(len(nuclei))
            gap, angle = rng.uniform(0.92, 1.08), rng.uniform(0, 2 * np.pi)
            step = gap * (radius + nuclei[neighbor].radius) * np.array([np.sin(angle), np.cos(angle)])
            center = centers[neighbor] + step
        else:
            center = rng.uniform(0, 1, 2) * size
        min_visible = _MIN_VISIBLE_CLUSTERED if clustered else _MIN_VISIBLE_ALONE
        nucleus = _make_nucleus(center, radius, direction, taken, min_visible, style, rng)
        if nucleus is not None:
            taken[nucleus.window] |= nucleus.mask
            nuclei.append(nucleus)
            centers.append(center)
    return nuclei


def _make_nucleus(
    center: np.ndarray,
    radius: float,
    direction: float,
    taken: np.ndarray,
    min_visible: float,
    style: _Style,
    rng: np.random.Generator,
) -> _Nucleus | None:
    """A wavy ellipse around ``center``, cut where ``taken``; None if less than ``min_visible`` of it would be left."""
    stretch = math.exp(abs(rng.normal(style.elongation, 0.15)) / 2)
    angle = direction + rng.normal(0, 0.6)
    reach = radius * stretch * 1.3 + 1
    low = np.maximum(np.floor(center - reach), 0).astype(int)
    high = np.minimum(np.ceil(center + reach) + 1, taken.shape).astype(int)
    if (low >= high).any():
        return None
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    y, x = np.ogrid[window]
    turned = ((x - center[1]) + 1j * (y - center[0])) * cmath.exp(-1j * angle)
    position = turned.real / (radius * stretch) + 1j * turned.imag / (radius / stretch)
    depth = np.abs(position)
    # The outline is a Fourier series in the direction of a pixel: powers of a unit vector represent cos(k theta).
    waves = rng.normal(0, style.roughness, 3) / [1, 1, 1.5] * np.exp(1j * rng.uniform(0, 2 * np.pi, 3))
    outline = np.polyval([*waves[::-1], 0, 1], position / np.maximum(depth, 1e-6)).real
    depth /= np.maximum(outline, 0.4)

    inside = depth < 1
    visible = largest_piece(inside & ~taken[window], connectivity=4)
    if visible.sum() < max(MIN_OBJECT_PIXELS, min_visible * inside.sum()):
        return None
    return _Nucleus(window, visible, depth.astype(np.float32), radius)


def _render_fluorescence(
    size: tuple[int, int], nuclei: list[_Nucleus], style: _Style, rng: np.random.Generator
) -> np.ndarray:
    contrast = rng.uniform(0.08, 0.35)
    chromatin = np.exp(contrast * cloud_noise(size, max(style.radius / 2.5, 2), rng))
    flatness, spread = rng.uniform(2, 6), rng.uniform(0.15, 0.45)
    light = np.zeros(size, dtype=np.float32)
    for nucleus in nuclei:
        # Condensed nuclei hold the same DNA in less space, so small ones are the brighter.
        brightness = np.exp(rng.normal(0, spread)) * (style.radius / nucleus.radius) ** 0.7
        if rng.random() < 0.04:
            brightness *= 2.2  # dividing or dying
        profile = 1 - 0.55 * nucleus.depth**flatness
        light[nucleus.window][nucleus.mask] = (brightness * chromatin[nucleus.window] * profile)[nucleus.mask]
    haze = cv2.GaussianBlur(light, (0, 0), 2.0 * style.radius)
    cytoplasm = np.maximum(cloud_noise(size, 6 * style.radius, rng), 0) * haze
    light += rng.uniform(0.05, 0.3) * haze + 0.3 * cytoplasm + _fluorescent_debris(size, style, rng)

    level = np.clip(np.exp(rng.normal(np.log(0.24), 0.55)), 0.09, 0.85)
    ground = level * rng.uniform(0.03, 0.2) * (1 + 0.1 * smooth_noise(size, max(size) / 2, rng))
    scene = uneven_illumination(size, rng.uniform(0.05, 0.4), rng) * (ground + level * light)
    return expose(scene, rng.uniform(0.6, 1.3), rng.uniform(400, 3000), rng.uniform(0.002, 0.006), rng)


def _fluorescent_debris(size: tuple[int, int], style: _Style, rng: np.random.Generator) -> np.ndarray:
    """Specks, and faint glows of nuclei far out of focus, which nobody would annotate."""
    area = size[0] * size[1] / 256**2
    specks = np.zeros(size, dtype=np.float32)
    _add_at_random(specks, rng.poisson(5 * area), (0.1, 0.6), rng)
    glows = np.zeros(size, dtype=np.float32)
    _add_at_random(glows, rng.poisson(1.5 * area), (0.05, 0.2), rng)
    wide = 0.9 * style.radius
    return cv2.GaussianBlur(specks, (0, 0), 0.7) + 2 * np.pi * wide**2 * cv2.GaussianBlur(glows, (0, 0), wide)


def _add_at_random(canvas: np.ndarray, count: int, strength: tuple[float, float], rng: np.random.Generator) -> None:
    canvas[rng.integers(canvas.shape[0], size=count), rng.integers(canvas.shape[1], size=count)] = rng.uniform(
        *strength, count
    )


def _render_stained(
    size: tuple[int, int], nuclei: list[_Nucleus], style: _Style, rng: np.random.Generator
) -> np.ndarray:
    ground, stained = (np.array(color, dtype=np.float32) / 255 for color in _STAINS[rng.integers(len(_STAINS))])
    absorbance = np.log(ground / stained)  # Beer-Lambert: light falls off exponentially with the stain it passes

    chromatin = np.exp(rng.uniform(0.2, 0.45) * cloud_noise(size, max(style.radius / 3.5, 2), rng))
    # Tissue takes up a little of the stain: cytoplasm in clouds, fibres that run one way here and there.
    clouds = cloud_noise(size, 5 * style.radius, rng)
    stain = rng.uniform(0.01, 0.05) * (1 + 0.7 * clouds) + 0.01 * smooth_noise(size, 2, rng)
    stain += rng.uniform(0.0, 0.08) * np.clip(0.5 - clouds, 0, 1) * _fibres(size, rng)
    stain = np.maximum(stain, 0) + _blurred_nuclei(size, style, rng)
    for nucleus in nuclei:
        uptake = np.clip(rng.normal(0.95, 0.25), 0.45, 1.5) * np.sqrt(style.radius / nucleus.radius)
        rim = rng.uniform(0.0, 0.35)  # vesicular nuclei are pale inside, with the chromatin at the envelope
        profile = 1 - rim * (1 - nucleus.depth**3)
        stain[nucleus.window][nucleus.mask] = (uptake * chromatin[nucleus.window] * profile)[nucleus.mask]
    stain = cv2.GaussianBlur(stain, (0, 0), rng.uniform(0.5, 1.2))
    light = uneven_illumination(size, rng.uniform(0.02, 0.12), rng)
    scene = ground * light[..., None] * np.exp(-stain[..., None] * absorbance)
    return expose(scene, rng.uniform(0.5, 1.0), rng.uniform(2000, 8000), 0.004, rng)


def _fibres(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Texture stretched along one direction, bent by a slow random shift."""
    height, width = size
    noise = smooth_noise((height, 2 * width), rng.uniform(2, 4), rng)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(3, 7)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bend = 6 * smooth_noise(size, 50, rng)
    cos, sin = math.cos(angle), math.sin(angle)
    along = (cos * x + sin * y) / stretch
    across = cos * y - sin * x + bend
    return cv2.remap(noise, along, across, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _blurred_nuclei(size: tuple[int, int], style: _Style, rng: np.random.Generator) -> np.ndarray:
    """Pale shadows of nuclei above or below the focal plane."""
    shadows = np.zeros(size, dtype=np.float32)
    for _ in range(rng.poisson(4 * size[0] * size[1] / 256**2)):
        x, y = rng.integers(size[1]), rng.integers(size[0])
        axes = (max(1, int(style.radius * rng.uniform(0.6, 1.1))), max(1, int(style.radius * rng.uniform(0.5, 0.8))))
        cv2.ellipse(shadows, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, rng.uniform(0.1, 0.3), -1)
    return cv2.GaussianBlur(shadows, (0, 0), 0.35 * style.radius)
