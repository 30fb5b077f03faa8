import math

import pytest
import torch
from torch import nn

from objguided_d2.engine.checkpoint import AtomicCheckpointer, BestModel


class Unsavable:
    def state_dict(self):
        return {"function": lambda: None}


def test_failed_save_leaves_the_former_checkpoint(tmp_path):
    AtomicCheckpointer(nn.Linear(1, 1), str(tmp_path)).save("model", iteration=1)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointer(nn.Linear(1, 1), str(tmp_path), broken=Unsavable()).save("model", iteration=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_saved_checkpoint_loads_by_detectron2_rules(tmp_path):
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    AtomicCheckpointer(model, str(tmp_path)).save("model", iteration=4)
    extra = AtomicCheckpointer(other, str(tmp_path)).resume_or_load("", resume=True)
    assert extra["iteration"] == 4
    assert torch.equal(other.weight, model.weight)


class TestBestModel:
    @staticmethod
    def offer(best, *values):
        for iteration, value in enumerate(values):
            best.offer({"segm": {"AP": value}}, iteration)

    def test_keeps_the_highest_value(self, tmp_path):
        best = BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP")
        self.offer(best, math.nan, 3.0, 5.0, 5.0, 4.0)
        saved = torch.load(tmp_path / "model_best.pth")
        assert (saved["iteration"], saved["value"]) == (2, 5.0)

    def test_nothing_is_saved_for_nan_alone(self, tmp_path):
        self.offer(BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP"), math.nan)
        assert list(tmp_path.iterdir()) == []

    def test_restored_value_is_the_one_to_beat(self, tmp_path):
        self.offer(BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP"), 5.0)
        resumed = BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP")
        resumed.restore()
        self.offer(resumed, 4.0)
        assert torch.load(tmp_path / "model_best.pth")["value"] == 5.0
        self.offer(resumed, 6.0)
        assert torch.load(tmp_path / "model_best.pth")["value"] == 6.0

    def test_value_of_another_metric_is_not_restored(self, tmp_path):
        self.offer(BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP"), 5.0)
        resumed = BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP50")
        resumed.restore()
        assert resumed.best is None

    def test_missing_metric_is_reported_with_those_there_are(self, tmp_path, caplog):
        best = BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP")
        best.offer({"a_val": {"segm": {"AP": 1.0}}}, 0)
        assert "TEST.BEST_METRIC 'segm/AP'" in caplog.text and "a_val/segm/AP" in caplog.text
        assert list(tmp_path.iterdir()) == []
