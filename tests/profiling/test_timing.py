import time

import pytest
import torch

from objguided_d2.profiling.timing import Timing, interleaved_rounds


def test_rounds_are_interleaved_and_warmup_rounds_are_not_timed():
    calls = []
    timings = interleaved_rounds({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3, warmup=2)
    assert "".join(calls) == "ab" * 5
    assert all(len(timing.seconds) == 3 for timing in timings.values())


def test_times_are_those_of_the_calls(device):
    timing = interleaved_rounds({"": lambda: time.sleep(0.02)}, rounds=3, device=device)[""]
    assert 0.02 <= timing.median < 0.2 or device.type == "cuda"


def test_ratio_is_taken_round_by_round():
    """The machine slows down by ten in the last round, for both."""
    fast, slow = Timing((1.0, 1.0, 10.0)), Timing((2.0, 2.0, 20.0))
    assert fast.times_faster_than(slow) == (2, 2, 2)
    assert slow.times_faster_than(fast) == (0.5, 0.5, 0.5)
    assert Timing((3.0, 1.0, 2.0)).quartiles == (1.5, 2.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_work_that_a_call_has_only_started_counts():
    matrix = torch.rand(4096, 4096, device="cuda")
    timings = interleaved_rounds(
        {n: lambda n=n: [matrix @ matrix for _ in range(n)] for n in (1, 20)}, rounds=3, device="cuda"
    )
    assert timings[20].median > 5 * timings[1].median
