import itertools
import os
import random
import signal
import sys

import numpy as np
import pytest
import torch
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.data.seeding import derive_seed, seeded
from objguided_d2.data.train_stream import build_train_stream

DATASET = [{"id": i, "width": 10 + 10 * (i % 3 == 0), "height": 15} for i in range(7)]


def draw(sample: dict) -> tuple:
    """A mapper that shows which sample it got and what it drew from each generator."""
    return sample["id"], random.random(), np.random.rand(), torch.rand(()).item()


def batches(count, *, start_iter=0, rank=0, world_size=1, monkeypatch=None, **options):
    if monkeypatch is not None:
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
    stream = build_train_stream(
        DATASET,
        mapper=draw,
        sampler=TrainingSampler(len(DATASET), seed=5),
        total_batch_size=4,
        start_iter=start_iter,
        **options,
    )
    return list(itertools.islice(iter(stream), count))


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 30), grouping=st.booleans(), seed=st.integers(0, 2**32))
def test_stream_can_start_anywhere(start, grouping, seed):
    options = {"aspect_ratio_grouping": grouping, "seed": seed}
    assert batches(start + 3, **options)[start:] == batches(3, start_iter=start, **options)


def test_loader_processes_change_nothing():
    assert batches(6, num_workers=2) == batches(6, num_workers=0)


def test_two_processes_share_the_batches_of_one(monkeypatch):
    parts = [batches(5, rank=rank, world_size=2, monkeypatch=monkeypatch) for rank in (0, 1)]
    monkeypatch.undo()
    assert [sorted(a + b) for a, b in zip(*parts)] == [sorted(batch) for batch in batches(5)]


def test_every_position_has_its_own_random_numbers():
    drawn = [sample[1:] for batch in batches(20) for sample in batch]
    assert len(set(drawn)) == 80
    assert batches(1, seed=1) != batches(1, seed=2)


def test_grouped_batches_are_wide_or_tall():
    wide = {d["id"] for d in DATASET if d["width"] > d["height"]}
    for batch in batches(20, aspect_ratio_grouping=True):
        assert {sample[0] in wide for sample in batch} in ({True}, {False})


def test_batch_that_cannot_be_divided_among_processes(monkeypatch):
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH = 4 .* 3 processes"):
        batches(1, world_size=3, monkeypatch=monkeypatch)


def test_seeded_leaves_the_global_generators_as_they_were():
    def numbers():
        return random.random(), np.random.rand(), torch.rand(()).item()

    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = numbers(), numbers()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    first = numbers()
    with pytest.raises(RuntimeError), seeded(7):
        inside = numbers()
        raise RuntimeError
    assert (first, numbers()) == expected
    with seeded(7):
        assert numbers() == inside


def test_derived_seeds_are_32_bit_and_depend_on_every_part():
    seeds = {derive_seed(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are of Unix")
def test_loader_processes_take_no_signal_meant_for_all_but_end_without_an_error_when_told():
    stream = build_train_stream(
        DATASET, mapper=draw, sampler=TrainingSampler(len(DATASET), seed=5), total_batch_size=4, num_workers=1
    )
    iterator = iter(stream)
    next(iterator)
    (worker,) = iterator._workers
    assert os.getpgid(worker.pid) != os.getpgid(0)
    os.kill(worker.pid, signal.SIGINT)
    next(iterator)
    assert worker.is_alive()
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0
