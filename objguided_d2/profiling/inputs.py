"""Images that models are measured on, as each config maps them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from ..data.builtin import register_prepared
from ..data.mapper import InstanceMapper
from ..data.seeding import seeded
from ..utils.evenly_spaced import evenly_spaced
from .options import BenchmarkError


def dataset_records(name: str, count: int) -> list[dict]:
    """Evenly spaced images of a registered dataset that have objects; all of them where there are fewer.

    Raises:
        BenchmarkError: for a dataset that is not registered, cannot be read, or has no objects.
    """
    register_prepared(name)
    if name not in DatasetCatalog:
        raise BenchmarkError(f"--dataset {name} is not registered; prepare it under that name, or correct the name")
    try:
        records = [record for record in DatasetCatalog.get(name) if record["annotations"]]
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"--dataset {name}: {error}") from error
    if not records:
        raise BenchmarkError(f"--dataset {name} has no image with annotations; choose another one")
    return evenly_spaced(records, count)


def map_test_images(cfg: CfgNode, records: Sequence[dict]) -> list[dict]:
    """Images of a dataset as the config has them at test time."""
    mapper = InstanceMapper(cfg, is_train=False)
    return [mapper(record) for record in records]


def map_training_images(cfg: CfgNode, records: Sequence[dict], seed: int = 0) -> list[dict]:
    """Training crops of images: the same for every config with the same INPUT and the same seed."""
    mapper = InstanceMapper(cfg, is_train=True)
    with seeded(seed):
        return [mapper(record) for record in records]


@dataclass(frozen=True)
class RandomImage:
    """One square image of noise, whatever the config; picklable."""

    size: int

    def __call__(self, cfg: CfgNode) -> list[dict]:
        generator = torch.Generator().manual_seed(0)
        image = torch.randint(0, 256, (3, self.size, self.size), generator=generator, dtype=torch.uint8)
        return [{"image": image, "height": self.size, "width": self.size}]


@dataclass(frozen=True)
class DatasetImages:
    """Records of a dataset, mapped as each config has it; picklable."""

    records: tuple[dict, ...]

    def __call__(self, cfg: CfgNode) -> list[dict]:
        return map_test_images(cfg, self.records)
