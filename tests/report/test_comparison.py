"""The whole comparison on a small data set."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.modeling import build_model

from objguided_d2.engine.ablation import METRICS, AblationError
from objguided_d2.report.comparison import Options, compare
from objguided_d2.report.error_kinds import KINDS
from objguided_d2.report.runs import RunError
from tests.modeling.models import small_cfg
from tests.report.conftest import DATASET, SIZE

OPTIONS = Options(resamples=50, with_speed=False)


@pytest.fixture
def page(cells, tmp_path):
    return compare(DATASET, cells[2], tmp_path / "out", OPTIONS)


def viewer_data(page: Path) -> dict:
    text = page.read_text()
    return json.loads(re.search(r'id="viewer-data">(.*?)</script>', text, re.DOTALL)[1].replace("<\\/", "</"))


def test_files(page):
    folder = page.parent
    names = {path.name for path in folder.iterdir()}
    assert {"index.html", "tables.md", "metrics.json", "examples.png", "examples-in-detail.png"} <= names
    assert {"ap-by-iou-threshold.svg", "precision-and-recall.svg", "training.svg", "calibration.svg"} <= names
    assert "f1-by-score-threshold.svg" in names
    assert not [name for name in names if name.startswith(".")]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["metrics"]["perfect"]["segm/AP"] == pytest.approx(100)
    assert metrics["metrics"]["perfect"]["segm/APl"] is None
    assert metrics["tables"]["Cost"][1]["training minutes"] == "3"
    tables = (folder / "tables.md").read_text()
    assert "| perfect | 100.0" in tables and "cellpose" in tables
    sheet = cv2.imread(str(folder / "examples.png"))
    assert sheet.shape[1] > 4 * 384


def test_page_is_one_file_without_network(page):
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text) and "@import" not in text and "<!-- tables" not in text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert all('alt="' in tag for tag in re.findall(r"<img[^>]*>", text))
    assert re.search(r'alt="Examples. Rows: best, image\d.png; .*Columns: truth, perfect, shifted, cellpose."', text)
    for figure in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(re.sub(r"xlink:href", "href", figure))
        assert 'role="img"' in figure and "currentColor" in figure


def test_viewer_has_every_image_and_run(page):
    data = viewer_data(page)
    assert data["runs"] == ["perfect", "shifted", "cellpose"] and data["kinds"] == list(KINDS)
    assert [image["name"] for image in data["images"]] == [f"image{k}.png" for k in range(7)]
    assert all(len(image["predictions"]) == 3 for image in data["images"])


def test_model_and_ablation_are_drawn(cells, tmp_path):
    cfg = small_cfg()
    cfg.INPUT.MIN_SIZE_TEST = SIZE
    (cells[2][1] / "config.yaml").write_text(cfg.dump())
    torch.save({"model": build_model(cfg).state_dict()}, cells[2][1] / "model_final.pth")
    ablation = tmp_path / "ablation.json"
    runs = [dict.fromkeys(METRICS, value) for value in (40.0, 42.0)]
    ablation.write_text(json.dumps({"none": runs, "3,0.75": runs[:1]}))

    page = compare(DATASET, cells[2], tmp_path / "out", OPTIONS, ablation)
    text = page.read_text()
    assert re.search(r'<figure class="wide"><img [^>]*alt="Sampling points"', text)
    assert "one mask predicted by shifted" in text and "over seeds (1 to 2 of each)" in text
    assert re.search(r'<figure class="wide"><svg role="img" aria-label="Ablation"', text)
    assert ">41.0 ± 1.4</text>" in text and ">41.0 ± 1.4</text>" in (page.parent / "ablation.svg").read_text()
    assert cv2.imread(str(page.parent / "sampling-points.png")) is not None


def test_a_broken_ablation_is_refused_before_anything_is_measured(cells, tmp_path):
    (tmp_path / "table.md").write_text("| k | beta |")
    with pytest.raises(AblationError, match="table.md does not hold the results of an ablation"):
        compare(DATASET, cells[2], tmp_path / "out", OPTIONS, tmp_path / "table.md")
    assert not (tmp_path / "out").exists()


def test_run_without_predictions_and_weights_is_named(cells, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.yaml").write_text("VERSION: 2\n")
    with pytest.raises(RunError, match="run .*bare has neither predictions on report_cells nor weights"):
        compare(DATASET, [cells[2][0], bare], tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out" / "index.html").exists()


def run_command(*arguments):
    command = [sys.executable, "tools/compare.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)


def test_command_refuses_an_unknown_data_set(tmp_path):
    found = run_command(tmp_path, "--dataset", "nothing_val", "--output", tmp_path / "o")
    assert found.returncode == 1 and "error: data set nothing_val is neither registered nor prepared" in found.stderr


def test_command_takes_a_coco_json_that_is_not_registered(cells, tmp_path):
    options = ["--dataset", DATASET, "--output", tmp_path / "o", "--annotations", tmp_path / "cells.json"]
    found = run_command(*cells[2], *options, "--images", tmp_path / "val", "--no-speed")
    assert found.returncode == 0, found.stderr
    assert len(viewer_data(tmp_path / "o" / "index.html")["images"]) == 7
    found = run_command(*cells[2], *options)
    assert found.returncode == 2 and "--annotations and --images go together" in found.stderr
    (tmp_path / "list.json").write_text("[]")
    found = run_command(*cells[2], *options[:-1], tmp_path / "list.json", "--images", tmp_path / "val")
    assert found.returncode == 1 and "list.json is not COCO instance JSON" in found.stderr.splitlines()[-1]
    options[1] = "dsb2018_val"
    found = run_command(*cells[2], *options, "--images", tmp_path / "val")
    assert found.returncode == 2 and "dsb2018_val is registered already" in found.stderr
