import torch

from objguided_d2.profiling.inputs import RandomImage
from objguided_d2.profiling.model_under_test import load_model_under_test
from objguided_d2.profiling.stage_timer import StageTimer, time_stages
from tests.modeling.models import small_cfg


def test_stages_split_the_time_of_a_call_and_their_methods_are_restored():
    model = load_model_under_test(small_cfg(), "model")
    call = model.inference(RandomImage(96)(model.cfg))
    stages = time_stages(model.model, call, 2)
    expected = {"backbone", "decoder", "proposal generator", "ROI crop", "mask head", "post-processing", "other"}
    assert set(stages) >= expected
    assert all(seconds >= 0 for seconds in stages.values())
    assert "forward" not in vars(model.model) and "_postprocess" not in vars(model.model)


def test_time_of_an_inner_stage_is_not_counted_for_the_outer():
    class Model:
        def inner(self):
            torch.ones(10).sum()

        def outer(self):
            self.inner()

    model, timer = Model(), StageTimer(torch.device("cpu"))
    ticks = iter(range(100))
    timer._now = lambda: next(ticks)
    with timer.watching([("outer", model, "outer"), ("inner", model, "inner")]):
        model.outer()
    assert timer.seconds == {"outer": 2, "inner": 1}
