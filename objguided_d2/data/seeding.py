"""Random numbers as a function of where the run stands, so that nothing of the generators' state has to be saved.

What is random in a training step comes from (run seed, rank, iteration), and in a training sample from (run seed,
position in the stream of samples). A resumed run therefore repeats an uninterrupted one, whatever the number of loader
workers and whatever evaluation drew in between.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*parts: int) -> int:
    """Mix non-negative integers into one 32-bit seed; different tuples give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global CPU generators inside the block and put their former states back after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
