"""Datasets of images of one kind, to hold a kind out of a training.

    python -m benchmarks.image_kinds dsb2018_val --kinds "stained tissue" "stained, dark" --output stained_val

Writes them as ``objguided prepare`` does, under the datasets root; ``--others`` takes all images but those.
"""

import argparse
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from objguided_d2.data.builtin import dataset_files
from objguided_d2.data.pixels import read_image
from objguided_d2.data.root_folder import datasets_root
from objguided_d2.engine.dataset_checks import read_dataset
from objguided_d2.engine.errors import EngineError
from objguided_d2.utils.atomic_write import write_json

STAINED, STAINED_DARK, BRIGHT_FIELD = "stained tissue", "stained, dark", "bright field"
SMALL_NUCLEI, LARGE_NUCLEI = "fluorescence, small nuclei", "fluorescence, large nuclei"
IMAGE_KINDS = (STAINED, STAINED_DARK, BRIGHT_FIELD, SMALL_NUCLEI, LARGE_NUCLEI)
# Median diameters of the objects of an image, in pixels; DSB2018's 256 x 256 images have nuclei of 11.
SMALL_DIAMETER = 15.0


def image_kind(path: str, areas: Sequence[float]) -> str:
    """One of IMAGE_KINDS, by the colors of an image and the median diameter of its objects.

    Args:
        areas: of the objects, in pixels.
    """
    pixels = read_image(path, "RGB", None).astype(np.float32)
    colorful = float((pixels.max(2) - pixels.min(2)).mean()) > 8
    bright = float(np.median(pixels)) > 110
    if colorful:
        return STAINED if bright else STAINED_DARK
    if bright:
        return BRIGHT_FIELD
    return SMALL_NUCLEI if float(np.median(diameters(areas or [0]))) < SMALL_DIAMETER else LARGE_NUCLEI


def diameters(areas: Sequence[float]) -> np.ndarray:
    """Of circles of these areas."""
    return 2 * np.sqrt(np.asarray(areas, float) / np.pi)


def write_kinds(names: Sequence[str], kinds: Sequence[str], output: str, *, others: bool = False) -> tuple[int, int]:
    """Write a dataset of the images of some kinds.

    Args:
        names: registered datasets of the same classes.
        output: ``<dataset>_<split>`` to be written under the datasets root.
        others: take the images of all other kinds.

    Returns:
        Numbers of images and of objects.
    Raises:
        ValueError: if there is no image, two have one name, the classes differ, or the dataset is there already. Then
            nothing is written.
    """
    dataset, _, split = output.rpartition("_")
    folder = datasets_root() / dataset
    annotation_file = folder / "annotations" / f"{output}.json"
    if annotation_file.exists():
        raise ValueError(f"{annotation_file} is there already: choose another --output, or remove it")
    images, annotations, sources, categories = [], [], {}, None
    for name in names:
        json_file, image_root = dataset_files(name)
        content = json.loads(json_file.read_bytes())
        if categories not in (None, content["categories"]):
            raise ValueError(f"{name} has other classes than {names[0]}")
        categories = content["categories"]
        of_image = defaultdict(list)
        for annotation in content["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        for image in content["images"]:
            own = of_image[image["id"]]
            path = image_root / image["file_name"]
            kind = image_kind(str(path), [a["area"] for a in own if not a.get("iscrowd", 0)])
            if (kind in kinds) == others:
                continue
            if image["file_name"] in sources:
                raise ValueError(f"{name}: another dataset has an image {image['file_name']}, too")
            sources[image["file_name"]] = path
            images.append({**image, "id": len(images) + 1})
            annotations += [{**a, "id": len(annotations) + i, "image_id": len(images)} for i, a in enumerate(own, 1)]
    if not images:
        raise ValueError(f"{', '.join(names)}: no image is {'other than ' * others}{' or '.join(kinds)}")
    for file_name, path in sources.items():
        copy = folder / split / file_name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    annotation_file.parent.mkdir(parents=True, exist_ok=True)
    write_json(annotation_file, {"images": images, "annotations": annotations, "categories": categories})
    return len(images), len(annotations)


def main(argv: Sequence[str] | None = None) -> int:
    """Write a dataset; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.image_kinds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("datasets", nargs="+", metavar="NAME", help="registered datasets to take images from")
    parser.add_argument("--kinds", nargs="+", required=True, choices=IMAGE_KINDS, metavar="KIND", help=str(IMAGE_KINDS))
    parser.add_argument("--others", action="store_true", help="all images but those of the kinds")
    parser.add_argument("--output", required=True, metavar="NAME_SPLIT", help="dataset to write, as stained_train")
    args = parser.parse_args(argv)
    if not all(args.output.rpartition("_")):
        parser.error(f"--output {args.output} must be a name and a split, as stained_train")
    try:
        for name in args.datasets:
            read_dataset(name)
        counts = write_kinds(args.datasets, args.kinds, args.output, others=args.others)
    except (EngineError, ValueError, KeyError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    print(f"{args.output}: {counts[0]} images, {counts[1]} objects")
    return 0


if __name__ == "__main__":
    sys.exit(main())
