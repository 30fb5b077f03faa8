"""The endless stream of training batches. It can start at any iteration, so that a run resumes in the middle of it."""

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import cv2
import torch
from detectron2.config import configurable
from detectron2.data.build import _train_loader_from_config
from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from .seeding import derive_seed, seeded


@configurable(from_config=_train_loader_from_config)
def build_train_stream(
    dataset: Sequence[dict],
    *,
    mapper: Callable[[dict], dict],
    sampler: Iterable[int],
    total_batch_size: int,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    seed: int = 0,
    start_iter: int = 0,
) -> DataLoader:
    """Batches of ``start_iter``, ``start_iter + 1``, ..., each of which depends on ``seed`` and its iteration alone.

    One process with batch size B and W processes with B / W each see the same samples at the same iteration, each with
    the same augmentation (except with ``aspect_ratio_grouping``, where each process fills its own batches). With a
    cfg in place of ``dataset`` the other arguments come from the keys that Detectron2's own loader reads.

    Args:
        dataset: samples in Detectron2's standard format.
        mapper: turns one of them into a model input; it may draw from the global generators of Python, NumPy, PyTorch.
        sampler: a Detectron2 training sampler, i.e. an endless iterable of this process's part of the indices.
        total_batch_size: images per iteration over all processes.
        aspect_ratio_grouping: put wide and tall images into different batches, to pad less.
        num_workers: loader processes; 0 loads in the training process.
        seed: run seed, the same in all processes.

    Raises:
        ValueError: if the batch cannot be divided among the processes.
    """
    world_size = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH = {total_batch_size} cannot be divided among {world_size} processes; "
            f"set it to a multiple of {world_size}"
        )
    groups = [int(aspect_ratio_grouping and sample["width"] > sample["height"]) for sample in dataset]
    return DataLoader(
        _SeededSamples(DatasetFromList(dataset, copy=False), mapper, seed),
        batch_sampler=_Batches(sampler, groups, total_batch_size // world_size, start_iter),
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=prepare_worker,
        # A separate generator: by default the loader draws a number from the global one.
        generator=torch.Generator(),
    )


class _SeededSamples(Dataset):
    """Samples by (position in the stream, index): the position, not the worker, decides the augmentation."""

    def __init__(self, samples: Dataset, mapper: Callable[[dict], dict], seed: int) -> None:
        self._samples, self._mapper, self._seed = samples, mapper, seed

    def __getitem__(self, position_and_index: tuple[int, int]) -> dict:
        position, index = position_and_index
        with seeded(derive_seed(self._seed, position)):
            return self._mapper(self._samples[index])


class _Batches(Sampler):
    """Batches of (position, index). Those before ``start_iter`` are drawn, which costs little, but never loaded."""

    def __init__(self, sampler: Iterable[int], groups: Sequence[int], batch_size: int, start_iter: int) -> None:
        self._sampler, self._groups, self._batch_size, self._start_iter = sampler, groups, batch_size, start_iter

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return itertools.islice(self._from_the_beginning(), self._start_iter, None)

    def _from_the_beginning(self) -> Iterator[list[tuple[int, int]]]:
        rank, world_size = comm.get_rank(), comm.get_world_size()
        unfilled: dict[int, list[tuple[int, int]]] = {group: [] for group in set(self._groups)}
        for count, index in enumerate(self._sampler):
            batch = unfilled[self._groups[index]]
            batch.append((count * world_size + rank, index))
            if len(batch) == self._batch_size:
                yield batch.copy()
                batch.clear()


def prepare_worker(worker_id: int) -> None:
    """For the start of a loader's process: no threads of OpenCV's, and of signals to all processes of a run none.

    A terminal and ``timeout`` signal the whole process group, but the step in progress still needs its workers. PyTorch
    has them end at SIGTERM from the process that started them.
    """
    cv2.setNumThreads(0)  # Where it is not forked, it does not inherit that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        os.setpgid(0, 0)
