from collections.abc import Callable

import torch

from objguided_d2.profiling.memory import peak_megabytes


def prepare(before: int, during: int) -> Callable[[], object]:
    """Holds ``before`` MiB, and the call takes ``during`` MiB for a while; of the device if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    held = torch.ones(before, 2**18, device=device)

    def call() -> None:
        torch.ones(during, 2**18, device=device)
        held.sum()

    return call


def test_peak_counts_what_the_call_needs_and_not_what_was_there():
    assert 95 < peak_megabytes(prepare, 300, 100) < 130
