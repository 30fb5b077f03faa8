"""Datasets registered for one test."""

import uuid

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def register():
    """Register records under a fresh name; forgotten after the test."""
    names = []

    def _register(records, classes=("cell",)):
        name = f"rectangles_{uuid.uuid4().hex}"
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).thing_classes = list(classes)
        names.append(name)
        return name

    yield _register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
