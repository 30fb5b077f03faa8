"""The whole comparison on a small dataset."""

import json
import re
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from objguided_d2.engine.ablation import METRICS, AblationError
from objguided_d2.report.collect import collect
from objguided_d2.report.compare_command import main
from objguided_d2.report.comparison import Options, compare
from objguided_d2.report.error_kinds import KINDS
from objguided_d2.report.render import render_comparison
from objguided_d2.report.runs import RunError
from objguided_d2.report.tables import comparison_tables, uncertainties
from objguided_d2.utils.rle import encode_mask
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
    assert "Speed and memory were not measured." in tables and "measured here" not in tables
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


def test_each_run_has_its_own_score_threshold_unless_one_is_given(cells, tmp_path):
    name, _, (perfect, shifted, _) = cells
    (shifted / "config.yaml").write_text("VERSION: 2\nTEST: {LABEL_MAP_SCORE_THRESH: 0.7}\n")
    collected = collect(name, [perfect, shifted], tmp_path / "out", OPTIONS)
    assert collected.score_thresholds == {"perfect": 0.3, "shifted": 0.7}
    kept = collected.compared_images(1)["shifted"].scores
    assert len(kept) < len(collected.compared_images(1, 0.0)["shifted"].scores) and (kept >= 0.7).all()
    quality = comparison_tables(collected, uncertainties(list(collected.scores.values()), 10))[0]
    assert "each run's own threshold (perfect 0.3, shifted 0.7)" in quality[1]

    given = collect(name, [perfect, shifted], tmp_path / "out", replace(OPTIONS, score_threshold=0.7))
    assert given.score_thresholds == {"perfect": 0.7, "shifted": 0.7}
    assert given.scores["shifted"].metrics["matching/f150"] == collected.scores["shifted"].metrics["matching/f150"]
    assert given.scores["perfect"].metrics["matching/f150"] < collected.scores["perfect"].metrics["matching/f150"]


def test_a_missing_image_is_told_before_anything_is_measured(cells, tmp_path):
    name, _, (perfect, *_) = cells
    (tmp_path / "val" / "image1.png").unlink()
    with pytest.raises(RunError, match=r"its image .*image1\.png does not exist; give the folder"):
        collect(name, [perfect], tmp_path / "out", OPTIONS)


def test_each_run_at_its_best_score(cells, tmp_path):
    name, _, (perfect, shifted, _) = cells
    results = perfect / "inference" / name / "coco_instances_results.json"
    found = json.loads(results.read_text())
    # A training that has hardly begun: all scores under the common threshold, spurious ones lower still.
    spurious = [{**result, "score": 0.05, "bbox": [60, 0, 2, 2], "segmentation": corner()} for result in found]
    results.write_text(json.dumps([{**result, "score": 0.2 * result["score"]} for result in found] + spurious))
    at_thresholds = {
        threshold: collect(name, [perfect, shifted], tmp_path / "out", replace(OPTIONS, score_threshold=threshold))
        for threshold in (None, "best")
    }
    assert at_thresholds[None].scores["perfect"].metrics["matching/f150"] == 0
    best = at_thresholds["best"]
    assert best.scores["perfect"].metrics["matching/f150"] == pytest.approx(100)
    assert 0.05 < best.score_thresholds["perfect"] < 0.3 == best.score_thresholds["shifted"]
    quality = comparison_tables(best, uncertainties(list(best.scores.values()), 10))[0]
    assert "each run's own threshold of best F1 at IoU 0.5 on these images (perfect 0." in quality[1]
    data = viewer_data(render_comparison(best, tmp_path / "out"))
    assert data["thresholds"] == list(best.score_thresholds.values())
    assert ">each method's own</output>" in (tmp_path / "out" / "index.html").read_text()


def corner() -> dict:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:2, 60:62] = True
    return encode_mask(mask)


@pytest.mark.parametrize(("given", "read"), [("best", "best"), ("0.25", 0.25)])
def test_score_threshold_of_the_command(cells, tmp_path, monkeypatch, given, read):
    seen = []
    monkeypatch.setattr("objguided_d2.report.comparison.compare", lambda *args: seen.append(args[3]))
    run = [str(cells[2][0]), "--dataset", DATASET, "--output", str(tmp_path), "--score-threshold", given]
    assert main(run) == 0 and seen[0].score_threshold == read


def test_score_threshold_of_the_command_that_is_none(cells, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(cells[2][0]), "--dataset", DATASET, "--output", str(tmp_path), "--score-threshold", "high"])
    assert "'high' is neither a number nor 'best'" in capsys.readouterr().err


def test_model_and_ablation_are_shown(cells, tmp_path):
    cfg = small_cfg()
    cfg.INPUT.MIN_SIZE_TEST = SIZE
    (cells[2][1] / "config.yaml").write_text(cfg.dump())
    torch.save({"model": build_model(cfg).state_dict()}, cells[2][1] / "model_final.pth")
    ablation = tmp_path / "ablation.json"
    runs = [dict.fromkeys(METRICS, value) for value in (40.0, 42.0)]
    ablation.write_text(json.dumps({"none": runs, "Moderately Biased": runs[:1]}))

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


def test_results_that_may_be_of_half_the_images_are_told_on_the_page(cells, tmp_path):
    name, ground_truth, (perfect, *_) = cells
    results = json.loads((perfect / "inference" / name / "coco_instances_results.json").read_text())
    (tmp_path / "half.json").write_text(json.dumps([result for result in results if result["image_id"] <= 3]))
    page = compare(DATASET, [perfect, tmp_path / "half.json"], tmp_path / "out", OPTIONS).read_text()
    assert "half has no predictions in 3 of the 7 images, as image3.png: its file does not say" in page
    assert "perfect has no predictions" not in page

    metrics = perfect / "inference" / name / "metrics.json"
    metrics.write_text(json.dumps({"num_images": 3}))
    with pytest.raises(RunError, match="evaluated on 3 images of report_cells, which has 7 now"):
        collect(DATASET, [perfect], tmp_path / "out", OPTIONS)
    metrics.write_text("{")
    with pytest.raises(RunError, match="metrics.json is damaged"):
        collect(DATASET, [perfect], tmp_path / "out", OPTIONS)


def test_dataset_without_annotations_and_a_misspelled_one_are_refused(cells, tmp_path):
    content = json.loads((tmp_path / "cells.json").read_text())
    del content["annotations"]
    (tmp_path / "cells.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"report_cells has no annotations to compare with \(.*cells.json"):
        compare(DATASET, [cells[2][0]], tmp_path / "out", OPTIONS)
    with pytest.raises(RunError, match="dataset report_cell is neither registered nor prepared: did you mean report_c"):
        compare("report_cell", [cells[2][0]], tmp_path / "out", OPTIONS)


def test_run_with_a_damaged_weights_file_is_named(cells, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    cfg = small_cfg()
    cfg.MODEL.DEVICE = "cuda"
    (run / "config.yaml").write_text(cfg.dump())
    (run / "model_final.pth").write_bytes(b"")
    with pytest.raises(RunError, match="run .*run: .*model_final.pth cannot be read: the file is empty"):
        compare(DATASET, [run], tmp_path / "out", OPTIONS)


def test_command_refuses_an_unknown_dataset(tmp_path, capsys):
    assert main([str(tmp_path), "--dataset", "nothing_val", "--output", str(tmp_path / "o")]) == 1
    assert "error: dataset nothing_val is neither registered nor prepared" in capsys.readouterr().err


def test_script_is_a_front_of_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["compare.py", str(tmp_path), "--dataset", "nothing_val", "--output", "o"])
    with pytest.raises(SystemExit, match="1"):
        runpy.run_path(str(Path(__file__).parents[2] / "tools/compare.py"), run_name="__main__")


@pytest.fixture
def unregistered_name():
    yield "report_json"
    if "report_json" in DatasetCatalog:
        DatasetCatalog.remove("report_json")
    MetadataCatalog.pop("report_json", None)


def test_command_takes_a_coco_json_that_is_not_registered(cells, tmp_path, unregistered_name, capsys):
    _, _, (_, _, label_images) = cells
    command = [label_images, "--output", tmp_path / "o", "--images", tmp_path / "val", "--no-speed", "--annotations"]
    command = [*map(str, command), str(tmp_path / "cells.json"), "--dataset"]
    assert main([*command, unregistered_name]) == 0
    assert len(viewer_data(tmp_path / "o" / "index.html")["images"]) == 7
    with pytest.raises(SystemExit, match="2"):
        main([*command, "dsb2018_val"])
    assert "dsb2018_val is registered already" in capsys.readouterr().err


def test_command_names_a_file_that_is_no_coco_json(cells, tmp_path, unregistered_name, capsys):
    (tmp_path / "list.json").write_text("[]")
    command = [cells[2][2], "--output", tmp_path / "o", "--dataset", unregistered_name, "--annotations"]
    command = [*map(str, command), str(tmp_path / "list.json")]
    assert main([*command, "--images", str(tmp_path / "val")]) == 1
    assert "list.json is not COCO instance JSON" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "--annotations and --images go together" in capsys.readouterr().err
