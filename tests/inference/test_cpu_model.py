"""Preparation for a CPU changes neither what a model finds nor its hash."""

import copy

import numpy as np
import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from objguided_d2.inference import predictor as predictor_module
from objguided_d2.inference.cpu_model import prepare_for_cpu
from objguided_d2.inference.predictor import Predictor
from tests.inference.models import textured_image


@pytest.mark.parametrize("kind", ["BN", "FrozenBN", "no affine"])
def test_a_convolution_with_its_norm_folded_in_gives_the_same_values(kind):
    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(5) if kind == "FrozenBN" else nn.BatchNorm2d(5, affine=kind == "BN")
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    conv = Conv2d(3, 5, 3, bias=False, norm=norm, activation=torch.relu).double().eval()
    image = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    expected = conv(image)
    assert prepare_for_cpu(conv).norm is None
    torch.testing.assert_close(conv(image), expected, rtol=1e-12, atol=1e-12)


def test_norms_of_the_image_itself_stay():
    norms = [nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4), None]
    model = nn.Sequential(*(Conv2d(4, 4, 1, norm=norm) for norm in norms)).eval()
    prepare_for_cpu(model)
    assert [conv.norm for conv in model] == norms


def test_a_prepared_model_finds_the_same_instances(busy_run):
    cfg, model, _ = busy_run
    model = copy.deepcopy(model).double()
    image = textured_image(96, 96)
    expected = Predictor(cfg, model)(image)
    prepared = prepare_for_cpu(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    found = Predictor(cfg, prepared)(image)
    assert len(found) == len(expected) > 10
    np.testing.assert_allclose(found.objects.scores, expected.objects.scores, rtol=1e-6)
    np.testing.assert_array_equal(found.objects.boxes, expected.objects.boxes)
    assert all((one == other).all() for one, other in zip(found.objects.masks, expected.objects.masks))


def test_a_model_in_training_is_not_prepared(busy_run):
    _, model, _ = busy_run
    with pytest.raises(ValueError, match="eval mode only"):
        prepare_for_cpu(copy.deepcopy(model).train())


def test_a_loaded_model_is_prepared_and_keeps_the_hash_of_its_weights(busy_run):
    _, _, folder = busy_run
    prepared, plain = (Predictor.from_pretrained(folder, device="cpu", prepare=prepare) for prepare in (True, False))
    norms = [any(isinstance(module, nn.BatchNorm2d) for module in p.model.modules()) for p in (prepared, plain)]
    assert norms == [False, True]
    assert prepared.model_hash == plain.model_hash


def test_bfloat16_is_for_processors_that_have_it(busy_run, caplog, monkeypatch):
    cfg, model, _ = busy_run
    monkeypatch.setattr(predictor_module, "has_bfloat16", lambda: False)
    assert Predictor(cfg, model, precision="bfloat16").precision == "float32"
    assert "no bfloat16" in caplog.text
    monkeypatch.setattr(predictor_module, "has_bfloat16", lambda: True)
    predictor = Predictor(cfg, model, precision="bfloat16")
    assert isinstance(predictor._precision(), torch.autocast) and len(predictor(textured_image(64, 64)))
    with pytest.raises(ValueError, match="precision='half'"):
        Predictor(cfg, model, precision="half")
