"""Dataset names, known to Detectron2's catalogs once this is imported. Nothing is read before it is used."""

import os

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from .root_folder import datasets_root

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

# dataset -> (splits, class names, command that prepares it). A set of people's own has the classes of its files.
# Files: <root>/<dataset>/<split>/*.png, <root>/<dataset>/annotations/<dataset>_<split>.json.
_DATASETS = {
    "dsb2018": (("train", "val", "test"), ["nucleus"], "dsb2018 --source <download>"),
    "synthetic": (("train", "val"), ["nuclei", "neurons", "leaves"], "synthetic"),
    "plant": (("train", "val", "test"), ["leaf"], "plant --source <download>"),
    "lsc": (("train", "val", "test"), ["leaf"], "plant --name lsc --source <download>"),
    "custom": (("train", "val", "test"), None, "labelmaps --images <folder> --labels <folder>"),
    **{f"ctc_{name}": (("train", "val"), ["cell"], f"ctc --source <download>/{name}") for name in CTC_BORDERS},
}


def register_objguided_instances(name: str, json_file: str, image_root: str) -> None:
    """Register COCO instance annotations of your own under ``name`` for DATASETS.TRAIN and DATASETS.TEST.

    The class names come from the JSON's ``categories``, in the order of their ids.

    Args:
        json_file: COCO instance JSON with polygon or RLE segmentations.
        image_root: folder that the ``file_name`` entries are relative to.
    """
    fix = f"check the json_file that {name!r} was registered with"
    DatasetCatalog.register(name, lambda: _load(name, str(json_file), str(image_root), fix))
    MetadataCatalog.get(name).set(evaluator_type="coco", json_file=str(json_file), image_root=str(image_root))


def register_prepared(name: str) -> None:
    """Register ``<dataset>_<split>`` if a preparation script has written it under the datasets root.

    Names that are registered already stay as they are; one without files is left unknown.
    """
    dataset, _, split = name.rpartition("_")
    if name not in DatasetCatalog and (datasets_root() / dataset / "annotations" / f"{name}.json").is_file():
        _register_builtin(dataset, split, None, f"labelmaps --name {dataset}")


def _register_builtin(dataset: str, split: str, classes: list[str] | None, command: str) -> None:
    name = f"{dataset}_{split}"
    if name in DatasetCatalog:
        return

    def load() -> list[dict]:
        folder = datasets_root() / dataset
        json_file, image_root = str(folder / "annotations" / f"{name}.json"), str(folder / split)
        fix = f"run `objguided prepare {command}` or set DETECTRON2_DATASETS"
        dicts = _load(name, json_file, image_root, fix)
        MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root)
        return dicts

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(evaluator_type="coco", **({"thing_classes": classes} if classes else {}))


def _load(name: str, json_file: str, image_root: str, fix: str) -> list[dict]:
    if not os.path.isfile(json_file):
        raise FileNotFoundError(f"Dataset {name!r} has no annotation file {json_file}; {fix}")
    try:
        return load_coco_json(json_file, image_root, name)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"Dataset {name!r}: {json_file} is not COCO instance JSON ({error!r}); {fix}") from error


for _dataset, (_splits, _classes, _command) in _DATASETS.items():
    for _split in _splits:
        _register_builtin(_dataset, _split, _classes, _command)
