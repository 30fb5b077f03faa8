"""Dataset names, known to Detectron2's catalogs once this is imported. Nothing is read before it is used."""

import logging
from collections.abc import Callable
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from .coco_file import CocoFile
from .coco_validation import read_coco
from .root_folder import datasets_root
from .source_error import SourceError

logger = logging.getLogger(__name__)

# Cells that lie wholly in a strip of this many pixels at the border are not annotated (the challenge's field of
# interest, from its description of each dataset).
CTC_BORDERS = {
    "BF-C2DL-HSC": 25,
    "BF-C2DL-MuSC": 25,
    "DIC-C2DH-HeLa": 50,
    "Fluo-C2DL-Huh7": 50,
    "Fluo-C2DL-MSC": 50,
    "Fluo-N2DH-GOWT1": 50,
    "Fluo-N2DH-SIM+": 0,
    "Fluo-N2DL-HeLa": 25,
    "PhC-C2DH-U373": 50,
    "PhC-C2DL-PSC": 25,
}

# dataset -> (splits, class names, command that prepares it). A custom dataset has the classes of its files.
# Files: <root>/<dataset>/<split>/*.png, <root>/<dataset>/annotations/<dataset>_<split>.json.
_DATASETS = {
    "dsb2018": (("train", "val", "test"), ["nucleus"], "dsb2018 --source <download>"),
    "dsb2018_extra": (("train",), ["nucleus"], "dsb2018 --stage1-test <download>"),
    "bbbc039": (("train",), ["nucleus"], "bbbc039 --source <download>"),
    "synthetic": (("train", "val"), ["nuclei", "neurons", "leaves"], "synthetic"),
    "neurons": (
        ("train", "val", "test"),
        ["neurons"],
        "synthetic --name neurons --kinds neurons --num-train 386 --num-val 129 --num-test 129",
    ),
    "plant": (("train", "val", "test"), ["leaf"], "plant --source <download>"),
    "lsc": (("train", "val", "test"), ["leaf"], "plant --name lsc --source <download>"),
    "custom": (("train", "val", "test"), None, "labelmaps --images <folder> --labels <folder>"),
    **{f"ctc_{name}": (("train", "val"), ["cell"], f"ctc --source <download>/{name}") for name in CTC_BORDERS},
}

# name -> function that gives its annotation file and image folder, for the datasets registered here.
_FILES: dict[str, Callable[[], tuple[Path, Path]]] = {}


def register_objguided_instances(name: str, json_file: str, image_root: str) -> None:
    """Register COCO instance annotations of your own under ``name`` for DATASETS.TRAIN and DATASETS.TEST.

    The class names come from the JSON's ``categories``, in the order of their ids.

    Args:
        json_file: COCO instance JSON with polygon or RLE segmentations.
        image_root: folder that the ``file_name`` entries are relative to.
    """
    files = (Path(json_file), Path(image_root))
    _FILES[name] = lambda: files
    fix = f"check the json_file that {name!r} was registered with"
    DatasetCatalog.register(name, lambda: _load(name, *files, fix))
    MetadataCatalog.get(name).set(evaluator_type="coco", json_file=str(json_file), image_root=str(image_root))


def dataset_files(name: str) -> tuple[Path, Path]:
    """Annotation file and image folder of a registered dataset. Nothing is read.

    Raises:
        KeyError: if no dataset has this name, or it was registered without files.
    """
    register_prepared(name)
    if name in _FILES:
        return _FILES[name]()
    metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
    if metadata is None or not metadata.get("json_file") or not metadata.get("image_root"):
        raise KeyError(
            f"dataset {name!r} is neither prepared nor registered with a COCO file; prepare it (datasets/README.md), "
            "register it with register_objguided_instances, or give the JSON file's path"
        )
    return Path(metadata.json_file), Path(metadata.image_root)


def register_prepared(name: str) -> None:
    """Register ``<dataset>_<split>`` if a preparation script has written it under the datasets root.

    Names that are registered already stay as they are; one without files is left unknown.
    """
    dataset, _, split = name.rpartition("_")
    if name not in DatasetCatalog and (datasets_root() / dataset / "annotations" / f"{name}.json").is_file():
        _register_builtin(dataset, split, None, f"labelmaps --name {dataset}")


def _register_builtin(dataset: str, split: str, classes: list[str] | None, command: str) -> None:
    name = f"{dataset}_{split}"

    def files() -> tuple[Path, Path]:
        folder = datasets_root() / dataset
        return folder / "annotations" / f"{name}.json", folder / split

    _FILES[name] = files
    if name in DatasetCatalog:
        return
    fix = f"run `objguided prepare {command}` or set DETECTRON2_DATASETS"
    DatasetCatalog.register(name, lambda: _load(name, *files(), fix))
    MetadataCatalog.get(name).set(evaluator_type="coco", **({"thing_classes": classes} if classes else {}))


def _load(name: str, json_file: Path, image_root: Path, fix: str) -> list[dict]:
    if not json_file.is_file():
        raise FileNotFoundError(f"Dataset {name!r} has no annotation file {json_file}; {fix}")
    try:
        file = read_coco(json_file)
    except SourceError as error:
        raise ValueError(f"Dataset {name!r}: {error}; {fix}") from error
    if errors := file.all_errors():
        more = f"; {len(errors) - 1} more kind(s) of error" if len(errors) > 1 else ""
        raise ValueError(
            f"Dataset {name!r}: {json_file}: {errors[0]}{more}; `objguided check {json_file}` lists "
            "all, and preparing the file (datasets/README.md) leaves out what cannot be used"
        )
    for line in file.warnings.lines():
        logger.warning("%s: %s", json_file, line)
    _set_metadata(name, file, json_file, image_root)
    return _records(file, image_root)


def _set_metadata(name: str, file: CocoFile, json_file: Path, image_root: Path) -> None:
    metadata, classes = MetadataCatalog.get(name), list(file.categories.values())
    if metadata.get("thing_classes", classes) != classes:
        raise ValueError(
            f"Dataset {name!r}: {json_file} has the classes {classes}, but {metadata.thing_classes} are registered "
            "under this name; give the dataset another name"
        )
    # As Detectron2 has it: evaluators of a dataset without json_file write one from its records, the repaired ones.
    vars(metadata).pop("json_file", None)
    if not (file.is_repaired and file.is_annotated):
        metadata.json_file = str(json_file)
    metadata.set(
        image_root=str(image_root),
        thing_classes=classes,
        thing_dataset_id_to_contiguous_id={category: index for index, category in enumerate(file.categories)},
    )


def _records(file: CocoFile, image_root: Path) -> list[dict]:
    """Detectron2's dataset dicts, by ascending image id."""
    index = {category: index for index, category in enumerate(file.categories)}
    return [
        {
            "file_name": str(image_root / image.file_name),
            "height": image.height,
            "width": image.width,
            "image_id": image.id,
            "annotations": [
                {
                    "iscrowd": annotation["iscrowd"],
                    "bbox": annotation["bbox"],
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "area": annotation["area"],
                    "category_id": index[annotation["category_id"]],
                    "segmentation": annotation["segmentation"],
                }
                for annotation in image.annotations
            ],
        }
        for image in sorted(file.images, key=lambda image: (isinstance(image.id, str), image.id))
    ]


for _dataset, (_splits, _classes, _command) in _DATASETS.items():
    for _split in _splits:
        _register_builtin(_dataset, _split, _classes, _command)
