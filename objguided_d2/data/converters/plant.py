"""Rosettes from above: Plant Phenotyping (Minervini et al. 2016) and the Leaf Segmentation Challenge.

Folders hold ``<name>_rgb.png`` with ``<name>_label.png`` (palette indices or colors, one per leaf, black background)
and, in the challenge, ``<name>_fg.png`` (the plant). The challenge's HDF5 files, one of images and one of truth, hold
``<subset>/<plant>/{rgb,label,fg}``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from ...utils.rle import encode_mask
from ..decode_limit import check_bytes
from ..intensity import to_rgb8
from ..pixels import read_image_pixels, read_label_pixels
from ..source_error import SourceError
from .conversion import ConversionNotes, open_source
from .instance_dataset import LabeledImage, write_instance_dataset
from .label_objects import label_objects
from .splitting import SPLITS, split_groups

_HDF5_SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True)
class Plant:
    """One image of a source: its name there, its subset (Ara2012, A1, ...), and functions that read its arrays.

    Foreground is None where the source has none.
    """

    name: str
    subset: str
    rgb: Callable[[], np.ndarray]
    labels: Callable[[], np.ndarray]
    foreground: Callable[[], np.ndarray] | None


def convert_plants(
    source: Path, output: Path, *, val_fraction: float = 0.2, test_fraction: float = 0.2, seed: int = 0
) -> ConversionNotes:
    """Convert ``source`` to a dataset of class "leaf".

    The released split lists of the paper are not public: images are split by the seed, subset by subset, so
    that every subset is in every split.

    Args:
        source: a folder or zip archive of PNG files, or a folder with the challenge's HDF5 files.
        output: the dataset's folder.

    Returns:
        notes on what was unusual and left out.
    Raises:
        SourceError: if the source is missing, damaged or laid out in another way.
        ValueError: see :func:`.splitting.split_groups`.
    """
    notes = ConversionNotes()
    hdf5_files = sorted(path for path in source.rglob("*") if path.suffix.lower() in _HDF5_SUFFIXES)
    plants = list(_hdf5_plants(hdf5_files, notes) if hdf5_files else _folder_plants(source, notes))
    if not plants:
        raise SourceError(
            f"{source} holds no pair <name>_rgb.png and <name>_label.png; give the folder of a subset (A1 ... A5, "
            "Ara2012, Ara2013-Canon, Tobacco), their archive, or the folder of the challenge's HDF5 files"
            + (f"\n{notes}" if notes.names else "")
        )
    splits: dict[str, list] = {split: [] for split in SPLITS}
    for subset in sorted({plant.subset for plant in plants}):
        members = [plant for plant in plants if plant.subset == subset]
        chosen = split_groups([plant.name for plant in members], val_fraction, test_fraction, seed)
        for plant, split in zip(members, chosen):
            splits[split].append(partial(_read_plant, plant, notes))
    write_instance_dataset(output, {s: readers for s, readers in splits.items() if readers}, ["leaf"], notes)
    return notes


def _folder_plants(source: Path, notes: ConversionNotes) -> Iterator[Plant]:
    names, read = open_source(source)
    present = set(names)
    for name in names:
        if not name.endswith("_rgb.png") or PurePosixPath(name).name.startswith("."):
            continue
        stem = name.removesuffix("_rgb.png")
        label, foreground = f"{stem}_label.png", f"{stem}_fg.png"
        if label not in present:
            notes.leave_out(name, kind="image without its _label.png, left out")
            continue
        folder, plant = PurePosixPath(stem).parent.name, PurePosixPath(stem).name
        yield Plant(
            stem,
            folder or (plant.split("_")[0] if "_" in plant else source.stem),
            partial(read_image_pixels, read, name),
            partial(read_label_pixels, read, label),
            partial(read_label_pixels, read, foreground) if foreground in present else None,
        )


def _hdf5_plants(paths: list[Path], notes: ConversionNotes) -> Iterator[Plant]:
    where: dict[str, dict[str, Path]] = defaultdict(dict)  # plant -> kind of array -> file that has it
    for path in paths:
        try:
            with h5py.File(path, "r") as file:
                for subset, group in file.items():
                    for plant, arrays in group.items():
                        where[f"{subset}/{plant}"].update(dict.fromkeys(arrays, path))
        except Exception as error:  # of damaged files h5py raises whatever it stumbles over
            notes.leave_out(f"{path} is not a complete HDF5 file of the challenge ({error}); download it again")

    def read(path: Path, name: str, num_axes: int) -> np.ndarray:
        try:
            with h5py.File(path, "r") as file:
                check_bytes(file[name].nbytes, f"{path}, {name}")
                array = file[name][()]
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"{path}, {name} cannot be read ({error}); download it again") from error
        if not isinstance(array, np.ndarray) or array.ndim != num_axes or array.dtype.kind not in "biu":
            raise SourceError(f"{path}, {name} is no array of whole numbers with {num_axes} axes; download it again")
        return array

    for name, kinds in sorted(where.items()):
        if "rgb" not in kinds or "label" not in kinds:
            notes.leave_out(name, kind="plant without rgb or without label, left out")
            continue
        yield Plant(
            name,
            name.split("/")[0],
            lambda name=name, kinds=kinds: read(kinds["rgb"], f"{name}/rgb", 3)[..., :3],
            partial(read, kinds["label"], f"{name}/label", 2),
            partial(read, kinds["fg"], f"{name}/fg", 2) if "fg" in kinds else None,
        )


def _read_plant(plant: Plant, notes: ConversionNotes) -> LabeledImage:
    labels = plant.labels()
    try:
        image = to_rgb8(plant.rgb(), None)
    except ValueError as error:
        raise SourceError(f"{plant.name}_rgb: {error}") from error
    if image.shape[:2] != labels.shape:
        raise SourceError(f"{plant.name}: image is {image.shape[:2]}, its labels {labels.shape} (height, width)")
    masks = [mask for _, mask in label_objects(labels, plant.name, notes)]
    fields = {"subset": plant.subset}
    if plant.foreground is not None:
        foreground = plant.foreground() > 0
        if foreground.shape != labels.shape:
            raise SourceError(f"{plant.name}: foreground is {foreground.shape}, labels {labels.shape} (height, width)")
        outside = np.count_nonzero((labels > 0) & ~foreground)
        if outside:
            notes.add("leaf pixels outside the plant's foreground, kept", f"{plant.name} ({outside} pixels)")
        fields["foreground"] = encode_mask(foreground)
    return LabeledImage(plant.name.replace("/", "_"), image, masks, fields=fields)
