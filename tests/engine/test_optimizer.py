import pytest
import torch
from torch import nn

from objguided_d2 import get_cfg
from objguided_d2.engine import ConfigError
from objguided_d2.engine.optimizer import build_optimizer


def optimizer_for(model, *options):
    cfg = get_cfg()
    cfg.merge_from_list(list(options))
    return build_optimizer(cfg, model)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_named_optimizer_gets_its_settings(name):
    options = "SOLVER.BASE_LR", 0.5, "SOLVER.MOMENTUM", 0.7, "SOLVER.ADAM_BETAS", [0.8, 0.95]
    optimizer = optimizer_for(nn.Linear(2, 2), "SOLVER.OPTIMIZER", name, *options)
    assert type(optimizer) is getattr(torch.optim, name)
    assert optimizer.defaults["lr"] == 0.5
    if name == "SGD":
        assert optimizer.defaults["momentum"] == 0.7
    else:
        assert optimizer.defaults["betas"] == (0.8, 0.95)


def test_norm_and_bias_parameters_have_their_own_settings():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    decays = "SOLVER.WEIGHT_DECAY", 0.3, "SOLVER.WEIGHT_DECAY_NORM", 0.0, "SOLVER.BIAS_LR_FACTOR", 2.0
    optimizer = optimizer_for(model, "SOLVER.OPTIMIZER", "AdamW", "SOLVER.BASE_LR", 0.1, *decays)
    found = {id(p): (g["weight_decay"], g["lr"]) for g in optimizer.param_groups for p in g["params"]}
    expected = {"0.weight": (0.3, 0.1), "0.bias": (0.3, 0.2), "1.weight": (0.0, 0.1), "1.bias": (0.0, 0.2)}
    assert {name: found[id(p)] for name, p in model.named_parameters()} == expected


@pytest.mark.parametrize(
    ("clip_type", "expected"),
    [
        # gradients (3, 4) and (12,): all together they have norm 13, each by itself 5 and 12
        ("full_model", [[3 / 13, 4 / 13], [12 / 13]]),
        ("norm", [[3 / 5, 4 / 5], [1.0]]),
        ("value", [[1.0, 1.0], [1.0]]),
    ],
)
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_gradients_are_clipped_before_the_update(name, clip_type, expected):
    model = nn.ParameterList([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))])
    clip = "SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clip_type
    optimizer = optimizer_for(model, "SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", 1.0, "SOLVER.MOMENTUM", 0.0, *clip)
    model[0].grad, model[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    optimizer.step()
    assert [p.grad.tolist() for p in model] == [pytest.approx(e, rel=1e-5) for e in expected]
    if name == "SGD":
        assert [p.tolist() for p in model] == [pytest.approx([-x for x in e], rel=1e-5) for e in expected]


def test_no_clipping_unless_enabled():
    model = nn.ParameterList([nn.Parameter(torch.zeros(1))])
    optimizer = optimizer_for(model, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model")
    model[0].grad = torch.tensor([12.0])
    optimizer.step()
    assert model[0].grad.item() == 12


@pytest.mark.parametrize("key", ["SOLVER.OPTIMIZER", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE"])
def test_unknown_names_are_errors_that_name_the_key(key):
    with pytest.raises(ConfigError, match=f"{key} = 'Lion' is unknown"):
        optimizer_for(nn.Linear(1, 1), key, "Lion")
