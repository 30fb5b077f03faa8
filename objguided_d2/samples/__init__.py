"""A few labeled images of nuclei that come with the package (CC0): README.md beside this file is their card.

They are of the validation split of DSB2018: models trained on its training split have not seen them.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["Sample", "folder", "nuclei", "stained"]

_ROOT = Path(__file__).parent
_SOURCE = "BBBC038v1, stage1_train/{}, Broad Bioimage Benchmark Collection (Caicedo et al., Nature Methods 2019)"


@dataclass(frozen=True)
class Sample:
    """An image with the nuclei that its annotators outlined.

    Attributes:
        name: unique within its folder; the name of its files without ending.
        kind: what it shows, as ``fluorescence_small`` or ``stained_purple_large``.
        image: (H, W) gray or (H, W, 3) RGB, uint8.
        labels: (H, W) uint16, one number per nucleus, 0 elsewhere.
        source: where it is from, with its id there.
        license: SPDX identifier.
    """

    name: str
    kind: str
    image: np.ndarray
    labels: np.ndarray
    source: str
    license: str = "CC0-1.0"


def nuclei() -> list[Sample]:
    """One image of each kind: fluorescence of five kinds, stained tissue of three, bright field."""
    return _read("nuclei")


def stained(split: str) -> list[Sample]:
    """Stained tissue of one look, pink nuclei on white, to fine-tune a model and to see what it has gained.

    Args:
        split: ``train``, 5 images with 262 nuclei; or ``val``, 3 others with 129.

    Raises:
        ValueError: for another split.
    """
    if split not in ("train", "val"):
        raise ValueError(f"samples.stained has the splits train and val, not {split!r}")
    return _read(f"stained/{split}")


def folder(name: str = "nuclei") -> Path:
    """Where the files are, for commands and other programs: ``images/*.png`` and ``labels/*.png``.

    Args:
        name: ``nuclei``, ``stained/train``, ``stained/val``, or ``stained``, which holds both of its splits.

    Raises:
        ValueError: for another name.
    """
    names = ("nuclei", "stained", "stained/train", "stained/val")
    if name not in names:
        raise ValueError(f"there are no samples {name!r}; the folders are {', '.join(names)}")
    return _ROOT / name


def _read(name: str) -> list[Sample]:
    with open(_ROOT / "samples.tsv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["folder"] == name]
    return [
        Sample(
            row["name"],
            row["kind"],
            _pixels(_ROOT / name / "images" / f"{row['name']}.png"),
            _pixels(_ROOT / name / "labels" / f"{row['name']}.png").astype(np.uint16),
            _SOURCE.format(row["dsb2018"]) + (f", its pixels x, y, x, y = {row['crop']}" if row["crop"] else ""),
        )
        for row in rows
    ]


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)
