"""Devices that are there, and those that are not."""

import pytest
import torch

from objguided_d2.utils.device import check_device, device_here


def test_cuda_becomes_the_cpu_where_there_is_none(monkeypatch):
    for available, expected in ((False, ["cpu", "cpu", "cpu"]), (True, ["cpu", "cuda", "cuda:1"])):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=available: there)
        assert [device_here(name) for name in ("cpu", "cuda", "cuda:1")] == expected
    with pytest.raises(ValueError, match="^device 'gpu' is unknown"):
        device_here("gpu")


@pytest.mark.parametrize(
    ("count", "device", "message"),
    [
        (0, "foo", "device 'foo' is unknown or not there; give cpu"),
        (0, "cuda", "device 'cuda': there is no CUDA GPU here; give cpu"),
        (0, "cuda:1", "device 'cuda:1': there is no CUDA GPU here; give cpu"),
        (0, "meta", "device 'meta' is unknown or not there; give cpu"),
        (0, "hpu", "device 'hpu' is unknown or not there; give cpu"),
        (2, "cuda:2", "device 'cuda:2' is not among the CUDA GPUs here; give cpu or cuda:0 or cuda:1"),
        (1, "gpu", "device 'gpu' is unknown or not there; give cpu or cuda:0"),
    ],
)
def test_a_device_that_is_unknown_or_not_there_is_told_in_one_line(monkeypatch, count, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ValueError) as info:
        check_device(device)
    assert str(info.value) == message
