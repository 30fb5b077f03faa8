"""Registered datasets carried over to another process, which has the names of the package alone."""

from collections.abc import Sequence
from typing import NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data.builtin import register_objguided_instances, register_prepared


class Registration(NamedTuple):
    """A dataset from a COCO file: its name, the file and the folder of its images."""

    name: str
    json_file: str
    image_root: str


def registrations() -> list[Registration]:
    """All datasets of this process that come from COCO files."""
    found = []
    for name in DatasetCatalog.list():
        metadata = MetadataCatalog.get(name)
        if metadata.get("json_file") and metadata.get("image_root"):
            found.append(Registration(name, metadata.json_file, metadata.image_root))
    return found


def register_missing(datasets: Sequence[Registration]) -> None:
    """Register those that this process does not know; prepared datasets keep the hints of their preparation."""
    for dataset in datasets:
        register_prepared(dataset.name)
        if dataset.name not in DatasetCatalog:
            register_objguided_instances(*dataset)
