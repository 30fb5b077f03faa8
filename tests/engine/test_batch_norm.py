from types import SimpleNamespace

import pytest
import torch
from torch import nn

from objguided_d2.engine import Trainer
from objguided_d2.engine.batch_norm import FreezeBatchNorm
from tests.engine.toy import toy_cfg


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4, affine=False)).train()


def batches():
    generator = torch.Generator().manual_seed(1)
    while True:
        yield 5 * torch.randn(2, 3, 6, 6, generator=generator) + 3


def step(hook, progress):
    hook.trainer = SimpleNamespace()
    hook.progress = progress
    hook.before_step()


def freeze(model, fraction=0.5, num_iter=4):
    made = []
    hook = FreezeBatchNorm(fraction, lambda: hook.progress, model, lambda: made.append(1) or batches(), num_iter)
    return hook, made


def test_nothing_happens_before_its_time(model):
    hook, made = freeze(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    step(hook, 0.49)
    assert all(layer.training for layer in model) and not made
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_statistics_are_the_mean_over_the_batches_and_stay(model):
    hook, made = freeze(model)
    step(hook, 0.5)
    stream = batches()
    inputs = torch.stack([model[0](next(stream)) for _ in range(4)])
    expected = inputs.mean(dim=(0, 1, 3, 4))
    torch.testing.assert_close(model[1].running_mean, expected)
    assert not model[1].training and not model[3].training and model[0].training

    model.train()  # as after an evaluation
    step(hook, 0.6)
    assert not model[1].training and made == [1]
    before = model[1].running_mean.clone()
    model(100 * torch.ones(2, 3, 6, 6))
    assert torch.equal(model[1].running_mean, before)


def test_scale_and_shift_go_on_learning(model):
    hook, _ = freeze(model)
    step(hook, 1.0)
    model(next(batches())).sum().backward()
    assert model[1].weight.grad.abs().sum() > 0 and model[1].weight.requires_grad


def test_resumed_hook_does_not_measure_again(model):
    hook, made = freeze(model)
    step(hook, 0.7)
    again, made_again = freeze(model.train())
    again.load_state_dict(hook.state_dict())
    step(again, 0.8)
    assert made == [1] and not made_again and not model[1].training


def test_model_without_batch_norm_is_left_alone():
    hook, made = freeze(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)))
    step(hook, 1.0)
    assert not made


def test_fraction_that_makes_no_sense_is_refused(tmp_path, toy_data):
    with pytest.raises(ValueError, match="SOLVER.FREEZE_BN_AT is -0.5"):
        Trainer(toy_cfg(tmp_path, "SOLVER.FREEZE_BN_AT", -0.5))


def test_at_zero_the_statistics_of_the_weights_stay_from_the_first_step_on(model):
    hook, made = freeze(model, fraction=0.0)
    step(hook, 0.0)
    assert not made and [layer.training for layer in model] == [True, False, True, False]
