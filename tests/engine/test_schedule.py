import logging

import pytest
import torch
from torch import nn

from objguided_d2 import get_cfg
from objguided_d2.engine.errors import ConfigError
from objguided_d2.engine.schedule import TrainingClock, build_lr_scheduler


def rates(elapsed_minutes, *options):
    """Learning rate of each iteration, given the minutes elapsed before it."""
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.BASE_LR", 1.0, "SOLVER.MAX_ITER", 100, "SOLVER.WARMUP_ITERS", 0, *options])
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    clock = TrainingClock(cfg.SOLVER.MAX_MINUTES)
    scheduler = build_lr_scheduler(cfg, optimizer, clock)
    found = []
    for minutes in elapsed_minutes[1:] + [elapsed_minutes[-1]]:
        found.append(optimizer.param_groups[0]["lr"])
        clock.seconds = 60 * minutes
        optimizer.step()
        scheduler.step()
    return found


COSINE = "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"


@pytest.mark.parametrize("schedule", [COSINE, ("SOLVER.STEPS", (30, 80), "SOLVER.GAMMA", 0.1)])
def test_steady_clock_gives_the_schedule_by_iterations(schedule):
    steady = [i / 10 for i in range(100)]
    expected = rates(steady, *schedule)
    assert rates(steady, *schedule, "SOLVER.MAX_MINUTES", 10.0) == pytest.approx(expected)
    assert expected[0] == 1 and expected[99] < 0.011


def test_multi_step_drops_at_fractions_of_the_time():
    options = "SOLVER.STEPS", (30, 80), "SOLVER.GAMMA", 0.1, "SOLVER.MAX_MINUTES", 10.0
    assert rates([0, 2.9, 3.1, 7.9, 8.1], *options) == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_few_iterations_left_also_lower_the_rate():
    options = *COSINE, "SOLVER.MAX_MINUTES", 1e6, "SOLVER.MAX_ITER", 4
    assert rates([0, 0, 0, 0], *options) == pytest.approx(rates([0, 0, 0, 0], *COSINE, "SOLVER.MAX_ITER", 4))


@pytest.mark.parametrize(("method", "expected"), [("linear", [0.2, 0.4, 0.6, 0.8, 1.0]), ("constant", [0.2] * 4 + [1])])
def test_warmup_goes_by_iterations(method, expected):
    options = "SOLVER.MAX_MINUTES", 10.0, "SOLVER.STEPS", (), "SOLVER.WARMUP_ITERS", 4, "SOLVER.WARMUP_FACTOR", 0.2
    assert rates([0, 3, 4, 5, 6], *options, "SOLVER.WARMUP_METHOD", method) == pytest.approx(expected)


@pytest.mark.parametrize(("iterations", "warns"), [(100, True), (99, True), (1000, False)])
def test_a_training_that_is_all_warm_up_is_said(iterations, warns, caplog):
    with caplog.at_level(logging.WARNING):
        found = rates([0] * min(iterations, 150), *COSINE, "SOLVER.WARMUP_ITERS", 100, "SOLVER.MAX_ITER", iterations)
    assert ("WARMUP_ITERS 100 is not less" in caplog.text) == warns
    assert (max(found) < 0.002) == warns


@pytest.mark.parametrize("iterations", [0, -1])
def test_a_training_without_a_step_is_refused(iterations):
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER = iterations
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    with pytest.raises(ConfigError, match=f"^SOLVER.MAX_ITER {iterations} trains nothing; give 1 or more$"):
        build_lr_scheduler(cfg, optimizer, TrainingClock(0.0))
