"""BBBC039: nuclei of U2OS cells in a chemical screen (Caicedo et al., Cytometry Part A 2019), 16 bits, CC0.

``images/<name>.tif`` and ``masks/<name>.png``, whatever the folder around these two. The red channel of a mask is 0
outside of nuclei; touching nuclei have different values, nuclei apart may have the same one. So each connected piece of
each value is a nucleus. The smallest ones are micronuclei.
"""

from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from ..intensity import DEFAULT, IntensityMapping, to_rgb8
from ..pixels import read_image_pixels
from ..source_error import SourceError
from .conversion import ConversionNotes, open_source
from .dsb2018 import read_names_in_dsb2018
from .instance_dataset import LabeledImage, write_instance_dataset
from .label_files import Reader
from .label_objects import label_objects, label_pieces

_SUFFIXES = {"images": (".tif", ".tiff"), "masks": (".png",)}


def convert_bbbc039(
    source: Path, output: Path, *, keep_dsb2018: bool = False, min_area: int = 0, intensity: str = DEFAULT
) -> ConversionNotes:
    """Convert ``source`` to ``output/train/<name>.png`` and ``output/annotations/<folder>_train.json``.

    Args:
        source: folder or zip archive.
        output: the dataset's folder.
        keep_dsb2018: keep the images that are also in DSB2018, in its training, validation or test split.
        min_area: smaller objects, in pixels, become a crowd region, which training and evaluation ignore. DSB2018 has
            the same images without most of their micronuclei.
        intensity: see :mod:`..intensity`; how 16 bits become 8.

    Returns:
        notes on what was unusual and left out.
    Raises:
        SourceError: if the source is missing, damaged or laid out in another way.
        ValueError: for a mapping that makes no sense.
    """
    mapping = IntensityMapping.parse(intensity)
    names, read = open_source(source)
    images, masks = (_files_by_stem(source, names, folder) for folder in ("images", "masks"))
    if not images.keys() & masks.keys():
        raise SourceError(
            f"{source} holds no images/<name>.tif with masks/<name>.png; unpack images.zip and masks.zip of BBBC039 "
            "into one folder and give that"
        )
    notes = ConversionNotes()
    for kind, missing in (
        ("image without its mask, left out", images.keys() - masks.keys()),
        ("mask without its image, left out", masks.keys() - images.keys()),
    ):
        for name in sorted(missing):
            notes.leave_out(name, kind=kind)
    paired = images.keys() & masks.keys()
    in_dsb2018 = set() if keep_dsb2018 else paired & read_names_in_dsb2018("bbbc039")
    for name in sorted(in_dsb2018):
        notes.add("image that is also in DSB2018, not taken (--keep-dsb2018 takes it)", name)
    if not paired - in_dsb2018:
        raise SourceError(f"all {len(paired)} images in {source} are also in DSB2018; --keep-dsb2018 converts them")
    readers = [
        partial(_read_sample, read, images[name], masks[name], mapping, min_area, notes)
        for name in sorted(paired - in_dsb2018)
    ]
    info = {"intensity": str(mapping), "min_area": str(min_area)}
    write_instance_dataset(output, {"train": readers}, ["nucleus"], notes, info)
    return notes


def _files_by_stem(source: Path, names: list[str], folder: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        in_folder = path.parent.name == folder and not path.name.startswith(".")
        if not in_folder or path.suffix.lower() not in _SUFFIXES[folder]:
            continue
        if path.stem in files:
            raise SourceError(f"{source} holds {path.stem} twice in {folder}: {files[path.stem]} and {name}; keep one")
        files[path.stem] = name
    return files


def _read_sample(
    read: Reader, image_name: str, mask_name: str, mapping: IntensityMapping, min_area: int, notes: ConversionNotes
) -> LabeledImage:
    image = to_rgb8(read_image_pixels(read, image_name), mapping)
    values = read_image_pixels(read, mask_name)
    values = values[..., 0] if values.ndim == 3 else values
    if values.shape != image.shape[:2]:
        raise SourceError(f"{mask_name} is {values.shape}, its image {image.shape[:2]} (height, width)")
    objects = [mask for _, mask in label_objects(label_pieces(values), mask_name, notes)]
    masks, small = [], []
    for mask in objects:
        (masks if np.count_nonzero(mask) >= min_area else small).append(mask)
    if small:
        notes.add(f"objects under {min_area} pixels, made a region to ignore", f"{mask_name} ({len(small)})")
    crowd = np.logical_or.reduce(small) if small else None
    return LabeledImage(PurePosixPath(image_name).stem, image, masks, crowd=crowd)
