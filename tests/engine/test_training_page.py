"""The example of a custom dataset in docs/training.md, in one process and in two."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

ROOT = Path(__file__).parents[2]
# fmt: off
SMALL = [
    "SOLVER.MAX_ITER", "1", "SOLVER.MAX_MINUTES", "0.0", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0",
    "INPUT.SQUARE_CROP.OUTPUT_SIZE", "64", "INPUT.MIN_SIZE_TEST", "64", "TEST.DETECTIONS_PER_IMAGE", "5",
    "SOLVER.FREEZE_BN_AT", "1.0", "MODEL.CENTER_HEAD.CONV_DIM", "16", "MODEL.UNET.DECODER_CHANNELS", "[16, 16, 16]",
]
# fmt: on


def block(language: str, containing: str) -> str:
    """The code block of the page that has some text in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return found


@pytest.fixture
def script(toy_data, tmp_path, monkeypatch):
    """The page's files, and data of two categories where they want it."""
    cells = tmp_path / "cells"
    shutil.copytree(toy_data / "toy_train", cells / "images")
    content = json.loads((cells / "images/annotations.json").read_text())
    content["categories"].append({"id": 2, "name": "other"})
    content["annotations"][0]["category_id"] = 2
    for split in ("train", "val"):
        (cells / f"{split}.json").write_text(json.dumps(content))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "train_cells.py").write_text(block("python", "cells_train"))
    (tmp_path / "cells.yaml").write_text(block("yaml", "cells_train"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield tmp_path / "train_cells.py"
    for name in ("cells_train", "cells_val"):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def check_run(folder: Path) -> None:
    assert (folder / "model_final.pth").exists() and (folder / "config.yaml").exists()
    assert json.loads((folder / "inference/cells_val/metrics.json").read_text())["num_images"] == 7


def test_one_process(script, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_cells.py", "--config-file", "cells.yaml", *SMALL])
    runpy.run_path(str(script), run_name="__main__")
    check_run(script.parent / "output/cells")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CPU processes are for machines without CUDA")
def test_two_processes(script):
    command = [sys.executable, str(script), "--config-file", "cells.yaml", "--num-gpus", "2", *SMALL]
    process = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    check_run(script.parent / "output/cells")
