"""Images of a given size with a given number of objects, to time methods on."""

from pathlib import Path

import cv2
import numpy as np

_DIAMETER = 30.0
# Of the width of a cell of the grid, where many objects leave no room for that.
_FILL = 0.6


def draw_cells(side: int, number: int, seed: int = 0) -> np.ndarray:
    """Bright ellipses on dark ground, one in each of ``number`` cells of a grid, blurred, with noise.

    Returns:
        (side, side, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    columns = int(np.ceil(np.sqrt(number)))
    width = side / columns
    diameter = min(_DIAMETER, _FILL * width)
    image = np.full((side, side), 20, np.float32)
    for cell in rng.permutation(columns**2)[:number].tolist():
        slack = (width - diameter) / 2
        center = (np.array([cell % columns, cell // columns]) + 0.5) * width + rng.uniform(-slack, slack, 2) / 2
        axes = diameter / 2 * rng.uniform(0.8, 1.2, 2)
        box = (tuple(center.tolist()), tuple((2 * axes).tolist()), float(rng.uniform(0, 180)))
        cv2.ellipse(image, box, float(rng.uniform(90, 200)), cv2.FILLED)
    image = cv2.GaussianBlur(image, (0, 0), max(0.5, diameter / 20)) + rng.normal(0, 4, image.shape)
    return np.repeat(np.rint(image.clip(0, 255)).astype(np.uint8)[..., None], 3, axis=2)


def write_cells(folder: Path, sides: list[int], numbers: list[int]) -> dict[str, list[Path]]:
    """An image for each side and number of objects, by its description, from the smallest on."""
    files = {}
    for side in sorted(sides):
        for number in sorted(numbers):
            path = folder / f"{side}_{number}.png"
            cv2.imwrite(str(path), draw_cells(side, number))
            files[f"{side} x {side}, {number} objects"] = [path]
    return files
