"""Neural cells: bodies with long, thin, tapering, curved processes, in phase contrast or fluorescence.

Each mask is one 8-connected piece: the whole silhouette of its cell, body and processes. Processes cross neighbors;
both looks show what lies above and below, so a crossing belongs to both cells and their masks overlap there.

Points of the plane are complex numbers, x + iy in pixels.
"""

from __future__ import annotations

import cmath
import math

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

_MAX_OVERLAP = 0.15  # part of a cell's pixels that earlier cells may hold as well
_SHIFT = 4  # binary digits after the point in the coordinates given to cv2
_STEP = 2.0  # pixels between the points of a process


def make_neurons(size: tuple[int, int], rng: np.random.Generator) -> SyntheticImage:
    """Draw an image of neural cells of ``size`` (height, width)."""
    radius = min(rng.uniform(5, 10), min(size) / 10)
    masks = _place(size, radius, rng)
    thickness = [_thickness(mask, radius) for mask in masks]
    render = _render_phase_contrast if rng.random() < 0.6 else _render_fluorescence
    return SyntheticImage(render(size, thickness, radius, rng), masks)


def _place(size: tuple[int, int], radius: float, rng: np.random.Generator) -> np.ndarray:
    """Add cells one by one, often in the reach of an earlier one so that processes meet; their masks (N, H, W)."""
    height, width = size
    wanted = max(1, round(rng.uniform(0.04, 0.25) * height * width / (3 * math.pi * radius**2)))
    clustering, direction = rng.uniform(0.2, 0.8), rng.uniform(0, 2 * math.pi)
    taken = np.zeros(size, dtype=bool)
    centers: list[complex] = []
    masks: list[np.ndarray] = []
    for _ in range(3 * wanted):
        if len(masks) == wanted:
            break
        if centers and rng.random() < clustering:
            center = centers[rng.integers(len(centers))] + complex(*rng.normal(0, 4 * radius, 2))
        else:
            center = complex(rng.uniform(0, width), rng.uniform(0, height))
        mask = _make_cell(size, center, radius * rng.uniform(0.75, 1.25), direction, rng)
        area = np.count_nonzero(mask)
        if area < max(MIN_OBJECT_PIXELS, radius**2) or np.count_nonzero(mask & taken) > _MAX_OVERLAP * area:
            continue
        taken |= mask
        centers.append(center)
        masks.append(mask)
    return np.array(masks, dtype=bool).reshape(-1, *size)


def _make_cell(
    size: tuple[int, int], center: complex, radius: float, direction: float, rng: np.random.Generator
) -> np.ndarray:
    """Silhouette (H, W) of one cell; what leaves the image and comes back is left out."""
    canvas = np.zeros(size, dtype=np.uint8)
    if rng.random() < 0.06:  # rounded up to divide, its processes retracted
        _fill(canvas, _body(center, 0.8 * radius, 1.0, 0.0, 0.02, rng))
    else:
        axis = rng.normal(direction, 0.7)
        _fill(canvas, _body(center, radius, rng.uniform(1.1, 2.8), axis, 0.15, rng))
        _draw_processes(canvas, center, radius, axis, rng)
    at_border = canvas[[0, -1]].any() or canvas[:, [0, -1]].any()
    return largest_piece(canvas > 0, connectivity=8) if at_border else canvas > 0


def _body(
    center: complex, radius: float, stretch: float, axis: float, roughness: float, rng: np.random.Generator
) -> np.ndarray:
    """Outline (P,) of a wavy ellipse, its long axis along ``axis``."""
    theta = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = sum(rng.normal(0, roughness / k) * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    ellipse = math.sqrt(stretch) * np.cos(theta) + 1j / math.sqrt(stretch) * np.sin(theta)
    return center + radius * (1 + waves) * ellipse * cmath.exp(1j * axis)


def _draw_processes(canvas: np.ndarray, center: complex, radius: float, axis: float, rng: np.random.Generator) -> None:
    """One long process and some short ones around the body, with a branch here and there."""
    count = int(rng.choice([1, 2, 3, 4, 5], p=[0.08, 0.4, 0.3, 0.15, 0.07]))
    for k in range(count):
        heading = axis + 2 * math.pi * (k / count) + rng.normal(0, 0.35)
        length = radius * (rng.uniform(4, 12) if k == 0 else rng.uniform(1.5, 6))
        width = radius * rng.uniform(0.35, 0.7)
        path = _draw_process(canvas, center, heading, length, width, rng)
        if rng.random() < 0.35:
            fork = int(rng.uniform(0.3, 0.8) * len(path))
            turn = (-1) ** rng.integers(2) * rng.uniform(0.4, 1.0)
            heading = cmath.phase(path[fork] - path[fork - 1]) + turn
            _draw_process(canvas, path[fork], heading, 0.5 * length, 0.3 * width, rng)


def _draw_process(
    canvas: np.ndarray, start: complex, heading: float, length: float, width: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a process that wanders and tapers; return its center line (P,)."""
    count = max(5, int(length / _STEP))
    curvature = rng.normal(0, 0.007) + np.convolve(rng.normal(0, 0.07, count), np.ones(5) / 5, mode="same")
    ahead = np.exp(1j * (heading + _STEP * np.cumsum(curvature)))
    path = start + _STEP * np.cumsum(ahead)
    travelled = _STEP * np.arange(count)
    taper = 1 - travelled / travelled[-1]
    # A broad foot at the body, then a thin thread with swellings (varicosities).
    swelling = 0.09 * taper * (1 + 0.8 * np.sin(travelled / 4))
    half_width = width * (0.8 * np.exp(-travelled / (2.5 * width)) + swelling) + 0.35
    side = 1j * ahead * half_width
    _fill(canvas, np.concatenate([path + side, (path - side)[::-1]]))
    # The polygon may be thinner than a pixel at its tip; the line keeps it in one piece.
    cv2.polylines(canvas, [_fixed_point(np.append(start, path))], False, 1, 1, cv2.LINE_8, _SHIFT)
    return path


def _fill(canvas: np.ndarray, outline: np.ndarray) -> None:
    cv2.fillPoly(canvas, [_fixed_point(outline)], 1, cv2.LINE_8, _SHIFT)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    """Complex (P,) to the fixed-point integers (P, 2) of cv2."""
    return np.round(np.stack([points.real, points.imag], axis=1) * 2**_SHIFT).astype(np.int32)


def _thickness(mask: np.ndarray, radius: float) -> np.ndarray:
    """Height (H, W) of a cell over the dish, zero outside: bodies are domes of about 1, processes low ridges."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    # One pixel around the cell for its edge, but none beyond the image: there the cell goes on.
    window = (slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1))
    depth = cv2.distanceTransform(mask[window].astype(np.uint8), cv2.DIST_L2, 3)
    thickness = np.zeros(mask.shape, dtype=np.float32)
    thickness[window] = np.sqrt(np.minimum(depth / radius, 1))
    return thickness


def _render_phase_contrast(
    size: tuple[int, int], thickness: list[np.ndarray], radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Gray ground, cells darker inside with a bright halo: the phase ring passes only what differs from around it."""
    # Cells spread on the dish are flat but for their margin.
    height = sum((np.minimum(1.3 * cell, 1) for cell in thickness), np.zeros(size, dtype=np.float32))
    organelles = np.minimum(height, 1) * smooth_noise(size, 1.5, rng)
    height = height * np.exp(0.15 * cloud_noise(size, max(radius / 2, 2), rng)) + _specks(size, 12, rng)
    near = cv2.GaussianBlur(height, (0, 0), rng.uniform(1.3, 2.2))
    far = cv2.GaussianBlur(height, (0, 0), 1.2 * radius)
    margin = near - height
    # The margin itself is dark, and the halo outside it brighter than the margin is dark.
    phase = margin + 1.2 * np.maximum(margin, 0) + rng.uniform(0.05, 0.25) * (far - height)
    phase += rng.uniform(0.06, 0.16) * organelles
    contrast = rng.uniform(0.25, 0.7)
    ground = rng.uniform(0.42, 0.62) * (1 + 0.006 * cloud_noise(size, 12, rng))
    scene = uneven_illumination(size, rng.uniform(0.0, 0.2), rng) * (ground + contrast * phase)
    return expose(scene, rng.uniform(0.4, 0.7), rng.uniform(5000, 20000), 0.004, rng)


def _render_fluorescence(
    size: tuple[int, int], thickness: list[np.ndarray], radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Dark ground, cells glow by the dye they hold; light of crossing cells adds up."""
    glow = np.zeros(size, dtype=np.float32)
    for cell in thickness:
        glow += np.float32(np.exp(rng.normal(0, 0.35))) * cell
    glow *= np.exp(0.2 * cloud_noise(size, max(radius / 1.5, 2), rng))
    glow += 0.2 * cv2.GaussianBlur(glow, (0, 0), 1.5 * radius) + _specks(size, 6, rng)
    level = rng.uniform(0.2, 0.6)
    ground = level * rng.uniform(0.03, 0.12) * (1 + 0.2 * cloud_noise(size, 40, rng))
    scene = uneven_illumination(size, rng.uniform(0.05, 0.35), rng) * (ground + level * glow)
    if rng.random() < 0.4:  # shown in the color of a green dye
        scene = scene[..., None] * np.array((0.12, 1.0, 0.2), dtype=np.float32)
    return expose(scene, rng.uniform(0.6, 1.1), rng.uniform(300, 2000), 0.006, rng)


def _specks(size: tuple[int, int], density: float, rng: np.random.Generator) -> np.ndarray:
    """Debris: about ``density`` dots in 256 x 256 pixels, each a few pixels wide."""
    dots = np.zeros(size, dtype=np.float32)
    count = rng.poisson(density * size[0] * size[1] / 256**2)
    dots[rng.integers(size[0], size=count), rng.integers(size[1], size=count)] = rng.uniform(1, 6, count)
    return cv2.GaussianBlur(dots, (0, 0), 1.0)
