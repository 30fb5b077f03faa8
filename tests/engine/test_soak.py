"""The trials of ``make soak``, short. Two processes against one are in test_engine_distributed.py."""

import sys

import pytest
import torch

from tests.engine.soak import kill_and_resume
from tests.engine.soak_memory import LIMIT, growth, predict_again_and_again, train_on_and_on


@pytest.fixture(autouse=True)
def former_number_of_threads():
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


def test_killed_and_resumed_run_has_the_weights_of_one_without_a_break(toy_data, tmp_path):
    assert kill_and_resume(tmp_path, toy_data, kills=1, iterations=40) == []


def test_growth_of_memory_is_told_from_its_warm_up_and_from_temporaries():
    warm_up = [300.0 + 4 * step for step in range(50)]
    steady = warm_up + [500.0] * 150
    steady[199] = 900.0
    assert growth(steady) == 0
    assert growth(warm_up + [500.0 + 0.4 * step for step in range(150)]) > LIMIT


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is told by Linux's /proc")
def test_memory_is_sampled_over_predictions_and_training_steps(toy_data, tmp_path):
    for samples in (predict_again_and_again(6), train_on_and_on(tmp_path, toy_data, 6)):
        assert len(samples) == 6 and min(samples) > 50
