"""Small images of bright rectangles and their label images, for the tests of this folder."""

from pathlib import Path

import numpy as np

from tests.data.sources import write

SIZE = 48


def write_images(folder: Path, count: int, *, num_objects: int = 4) -> tuple[Path, Path]:
    """``count`` images in ``folder/images``, their label images (TIFF) in ``folder/labels``."""
    rng = np.random.default_rng(count)
    for number in range(count):
        image = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
        labels = np.zeros((SIZE, SIZE), np.uint16)
        for label, (x, y) in enumerate([(3, 3), (27, 4), (5, 27), (28, 26)][:num_objects], start=1):
            width, height = rng.integers(9, 16, 2)
            image[y : y + height, x : x + width] = rng.integers(150, 255)
            labels[y : y + height, x : x + width] = label
        write(folder / "images" / f"img{number}.png", image)
        write(folder / "labels" / f"img{number}.tif", labels)
    return folder / "images", folder / "labels"
