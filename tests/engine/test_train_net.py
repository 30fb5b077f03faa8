"""tools/train_net.py as people call it, on the toy data."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools/train_net.py"


@pytest.fixture
def train_net(monkeypatch):
    def call(*command_line: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *command_line])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return end.value.code

    return call


def test_trains_mask_rcnn_then_evaluates_it_alone(train_net, toy_data, tmp_path):
    config = SCRIPT.parents[1] / "configs/dsb2018/mask_rcnn_R_18_FPN_256.yaml"
    # fmt: off
    options = [
        "DATASETS.TRAIN", "('toy_train',)", "DATASETS.TEST", "('toy_val',)", "OUTPUT_DIR", str(tmp_path),
        "INPUT.SQUARE_CROP.OUTPUT_SIZE", "64", "INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "2",
        "DATALOADER.NUM_WORKERS", "0", "TEST.DETECTIONS_PER_IMAGE", "5", "MODEL.FPN.OUT_CHANNELS", "32",
        "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.ROI_MASK_HEAD.CONV_DIM", "32",
    ]
    # fmt: on
    assert train_net("--config-file", str(config), *options, "SOLVER.MAX_ITER", "2") == 0
    metrics = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    trained = {key: value for line in metrics for key, value in line.items()}
    assert trained["images_seen"] == 4 and "loss_mask" in trained
    predictions = tmp_path / "inference/toy_val/coco_instances_results.json"
    first = predictions.read_text()
    predictions.unlink()
    options += ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]
    assert train_net("--config-file", str(config), "--eval-only", *options) == 0
    assert predictions.read_text() == first


def test_bad_command_line_ends_with_one_line_that_names_it(train_net, capsys):
    assert train_net("--config-file", "missing.yaml") == 1
    assert "error: --config-file: config missing.yaml does not exist" in capsys.readouterr().err
