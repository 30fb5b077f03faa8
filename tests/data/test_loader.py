"""Loaders in this process and with workers."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from objguided_d2 import get_cfg
from objguided_d2.data import build_test_loader, build_train_loader, register_objguided_instances
from objguided_d2.data.converters.coco_writer import CocoWriter

NAME = "loader_test_squares"


@pytest.fixture
def cfg(tmp_path):
    """Six images of different sizes with i objects in image i, so the first has none."""
    rng = np.random.default_rng(0)
    writer = CocoWriter(tmp_path / "images", ["square"])
    for i in range(6):
        size = (40 + i, 60 - i) if i % 2 else (60 - i, 40 + i)
        masks = np.zeros((i, *size), bool)
        for j, mask in enumerate(masks):
            mask[5 * j : 5 * j + 10, 8 * j : 8 * j + 10] = True
        writer.add(f"{i}", rng.integers(0, 256, (*size, 3), np.uint8), masks)
    writer.write_json(tmp_path / "train.json")
    register_objguided_instances(NAME, tmp_path / "train.json", tmp_path / "images")
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (NAME,)
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.SQUARE_CROP.ENABLED = True
    cfg.INPUT.SQUARE_CROP.OUTPUT_SIZE = 32
    cfg.INPUT.CACHE_MEGABYTES = 1
    cfg.INPUT.MIN_SIZE_TEST = 48
    cfg.SOLVER.IMS_PER_BATCH = 3
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    yield cfg
    DatasetCatalog.pop(NAME)
    MetadataCatalog.pop(NAME)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_train_batches(cfg, num_workers):
    cfg.DATALOADER.NUM_WORKERS = num_workers
    batches = [batch for batch, _ in zip(build_train_loader(cfg), range(4))]
    assert [len(batch) for batch in batches] == [3] * 4
    samples = sum(batches, [])
    assert all(sample["image"].shape == (3, 32, 32) for sample in samples)
    assert all(sample["instances"].image_size == (32, 32) for sample in samples)
    # Two epochs of six images each, the empty one included.
    assert sorted(sample["image_id"] for sample in samples) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert all(len(sample["instances"]) == 0 for sample in samples if sample["image_id"] == 1)
    # Every visit draws a new crop.
    first, second = (sample["image"] for sample in samples if sample["image_id"] == 6)
    assert not first.equal(second)


def test_loader_processes_that_are_not_forked_get_what_they_need(cfg):
    """As on Windows and macOS, where all of it is pickled."""
    cfg.DATALOADER.NUM_WORKERS = 1
    for loader in (build_train_loader(cfg), build_test_loader(cfg, NAME)):
        first = next(iter(loader))
        loader.multiprocessing_context = "spawn"
        again = next(iter(loader))
        assert [sample["image_id"] for sample in again] == [sample["image_id"] for sample in first]
        assert all(one["image"].equal(other["image"]) for one, other in zip(again, first))


def test_other_than_square_crops_are_grouped_by_shape(cfg):
    cfg.DATALOADER.NUM_WORKERS = 0

    def mixes_shapes() -> bool:
        batches = [batch for batch, _ in zip(build_train_loader(cfg), range(8))]
        return any(len({sample["width"] > sample["height"] for sample in batch}) > 1 for batch in batches)

    assert mixes_shapes()
    cfg.INPUT.SQUARE_CROP.ENABLED = False
    assert not mixes_shapes()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_test_loader_visits_each_image_once_in_order(cfg, num_workers):
    cfg.DATALOADER.NUM_WORKERS = num_workers
    loader = build_test_loader(cfg, NAME)
    batches = list(loader)
    assert len(loader) == len(batches) == 6
    assert [[sample["image_id"] for sample in batch] for batch in batches] == [[i] for i in range(1, 7)]
    assert all(min(batch[0]["image"].shape[1:]) == 48 for batch in batches)
    assert not any("instances" in batch[0] for batch in batches)
