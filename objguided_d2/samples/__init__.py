"""A few labeled images of nuclei (CC0) and cells (MIT) that come with the package: README.md beside this is their card.

The nuclei are of the validation split of DSB2018: models trained on its training split have not seen them.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["Sample", "cells", "folder", "nuclei"]

_ROOT = Path(__file__).parent
# Of each set: where it is from and its license.
_SETS = {
    "bbbc038": (
        "BBBC038v1, stage1_train/{}, Broad Bioimage Benchmark Collection (Caicedo et al., Nature Methods 2019)",
        "CC0-1.0",
    ),
    "usiigaci": ("Usiigaci, Mask R-CNN/train/{} (Tsai et al., SoftwareX 2019)", "MIT"),
}


@dataclass(frozen=True)
class Sample:
    """An image with the objects that its annotators outlined.

    Attributes:
        name: unique within its folder; the name of its files without ending.
        kind: what it shows, as ``fluorescence_small`` or ``phase_contrast``.
        image: (H, W) gray or (H, W, 3) RGB, uint8.
        labels: (H, W) uint16, one number per object, 0 elsewhere.
        source: where it is from, with its id there.
        license: SPDX identifier.
    """

    name: str
    kind: str
    image: np.ndarray
    labels: np.ndarray
    source: str
    license: str


def nuclei() -> list[Sample]:
    """One image of each kind: fluorescence of five kinds, stained tissue of three, bright field."""
    return _read("nuclei")


def cells(split: str) -> list[Sample]:
    """Cells in phase contrast, long and touching, to fine-tune a model and to see what it has gained.

    Args:
        split: ``train``, 6 images with 170 cells; or ``val``, 3 of other fields with 93.

    Raises:
        ValueError: for another split.
    """
    if split not in ("train", "val"):
        raise ValueError(f"samples.cells has the splits train and val, not {split!r}")
    return _read(f"cells/{split}")


def folder(name: str = "nuclei") -> Path:
    """Where the files are, for commands and other programs: ``images/*.png`` and ``labels/*.png``.

    Args:
        name: ``nuclei``, ``cells/train``, ``cells/val``, or ``cells``, which holds both of its splits.

    Raises:
        ValueError: for another name.
    """
    names = ("nuclei", "cells", "cells/train", "cells/val")
    if name not in names:
        raise ValueError(f"there are no samples {name!r}; the folders are {', '.join(names)}")
    return _ROOT / name


def _read(name: str) -> list[Sample]:
    with open(_ROOT / "samples.tsv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["folder"] == name]
    return [_sample(row) for row in rows]


def _sample(row: dict[str, str]) -> Sample:
    source, license = _SETS[row["set"]]
    file = f"{row['name']}.png"
    return Sample(
        row["name"],
        row["kind"],
        _pixels(_ROOT / row["folder"] / "images" / file),
        _pixels(_ROOT / row["folder"] / "labels" / file).astype(np.uint16),
        source.format(row["id"]) + (f", its pixels x, y, x, y = {row['crop']}" if row["crop"] else ""),
        license,
    )


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)
