"""The first trial of ``make soak``, short. Two processes against one are in test_engine_distributed.py."""

import pytest
import torch

from tests.engine.soak import kill_and_resume


@pytest.fixture(autouse=True)
def former_number_of_threads():
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


def test_killed_and_resumed_run_has_the_weights_of_one_without_a_break(toy_data, tmp_path):
    assert kill_and_resume(tmp_path, toy_data, kills=1, iterations=40) == []
