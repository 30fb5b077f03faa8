import math
import os

import pytest
import torch
from torch import nn

from objguided_d2.engine.checkpoint import AtomicCheckpointer, BestModel
from objguided_d2.engine.errors import DivergenceError, WeightsError


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


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = nn.Linear(2, 1)
    checkpointer = AtomicCheckpointer(model, str(tmp_path))
    checkpointer.save("model_0000001", iteration=1)
    model.bias.data[0] = math.nan
    with pytest.raises(DivergenceError, match="model_0000002.pth is not written: bias is no longer finite"):
        checkpointer.save("model_0000002", iteration=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_0000001.pth"]
    assert checkpointer.get_checkpoint_file().endswith("model_0000001.pth")


class TestNewestWholeCheckpoint:
    @pytest.fixture
    def checkpointer(self, tmp_path):
        class State:
            def state_dict(self):
                return {"seed": 1}

        checkpointer = AtomicCheckpointer(nn.Linear(2, 1), str(tmp_path), trainer=State())
        for iteration in (1, 3, 12):
            checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        torch.save({"model": nn.Linear(2, 1).state_dict(), "iteration": 20}, tmp_path / "model_best.pth")
        return checkpointer

    def test_is_the_last_one_where_all_are_whole(self, checkpointer, tmp_path, caplog):
        assert checkpointer.newest_whole_checkpoint() == str(tmp_path / "model_0000012.pth")
        checkpointer.tag_last_checkpoint("model_0000003.pth")
        assert checkpointer.newest_whole_checkpoint() == str(tmp_path / "model_0000003.pth")
        assert not caplog.text

    @pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: os.truncate(path, 900)])
    def test_is_the_one_before_a_damaged_one_with_a_warning(self, checkpointer, tmp_path, caplog, damage):
        damage(tmp_path / "model_0000012.pth")
        assert checkpointer.newest_whole_checkpoint() == str(tmp_path / "model_0000003.pth")
        assert "model_0000012.pth cannot be read: the file is " in caplog.text and "going on from " in caplog.text

    def test_is_found_without_the_file_that_names_the_last_one(self, checkpointer, tmp_path):
        (tmp_path / "last_checkpoint").write_text("")
        assert checkpointer.newest_whole_checkpoint() == str(tmp_path / "model_0000012.pth")
        (tmp_path / "last_checkpoint").unlink()
        assert checkpointer.newest_whole_checkpoint() == str(tmp_path / "model_0000012.pth")

    def test_is_none_in_an_empty_folder(self, tmp_path):
        assert AtomicCheckpointer(nn.Linear(2, 1), str(tmp_path)).newest_whole_checkpoint() is None

    def test_all_damaged_are_named(self, checkpointer, tmp_path):
        for path in tmp_path.glob("model_0*.pth"):
            path.write_bytes(b"")
        with pytest.raises(WeightsError, match="no whole checkpoint in .*0000012.pth cannot.*0000001.pth cannot"):
            checkpointer.newest_whole_checkpoint()


class TestBestModel:
    @staticmethod
    def offer(best, *values):
        for iteration, value in enumerate(values):
            best.offer({"segm": {"AP": value}}, iteration)

    def test_keeps_the_highest_value(self, tmp_path):
        best = BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP")
        self.offer(best, math.nan, 3.0, 5.0, 4.0)
        saved = torch.load(tmp_path / "model_best.pth")
        assert (saved["iteration"], saved["value"]) == (2, 5.0)

    def test_of_equal_values_the_later_is_kept_but_for_the_model_as_it_was(self, tmp_path):
        self.offer(BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP"), 0.0, 0.0, 0.0)
        assert torch.load(tmp_path / "model_best.pth")["iteration"] == 2
        best = BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP")
        best.offer({"segm": {"AP": 0.0}}, None)
        self.offer(best, 0.0, 0.0)
        assert torch.load(tmp_path / "model_best.pth")["iteration"] is None
        resumed = BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP")
        resumed.restore()
        self.offer(resumed, 0.0)
        assert torch.load(tmp_path / "model_best.pth")["iteration"] is None

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

    def test_damaged_file_is_told_and_replaced_by_the_next_best(self, tmp_path, caplog):
        (tmp_path / "model_best.pth").write_bytes(b"")
        best = BestModel(nn.Linear(1, 1), str(tmp_path), "segm/AP")
        best.restore()
        assert "model_best.pth cannot be read: the file is empty" in caplog.text
        self.offer(best, 4.0)
        assert torch.load(tmp_path / "model_best.pth")["value"] == 4.0

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
