"""The class names that a training leaves beside its config."""

import json
import os
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..utils.atomic_write import write_json

# In OUTPUT_DIR: a JSON list of the names, in the order of the classes.
CLASS_NAMES_FILE = "class_names.json"


def write_class_names(cfg: CfgNode) -> None:
    """Beside the config, which has the number of classes alone, for machines that the dataset is not on."""
    if not cfg.DATASETS.TRAIN:
        return
    dataset = cfg.DATASETS.TRAIN[0]
    if not MetadataCatalog.get(dataset).get("thing_classes"):
        DatasetCatalog.get(dataset)  # Its file has the names.
    names = MetadataCatalog.get(dataset).get("thing_classes")
    if names:
        write_json(os.path.join(cfg.OUTPUT_DIR, CLASS_NAMES_FILE), list(names))


def read_class_names(run_folder: str | os.PathLike) -> tuple[str, ...]:
    """The names of a run, empty for one that left none.

    Raises:
        ValueError: if the file holds something else; the message names it.
    """
    path = Path(run_folder) / CLASS_NAMES_FILE
    if not path.is_file():
        return ()
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); remove it, or copy it from the training again") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} must hold a list of class names; remove it, or copy it from the training again")
    return tuple(names)
