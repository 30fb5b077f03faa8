"""Results as a table and as a file: each number with its definition."""

import json

import pytest

from objguided_d2.evaluation import definition_of, format_results, write_metrics
from objguided_d2.evaluation.metrics_file import write_json

RESULTS = {
    "segm": {"AP": 51.234, "AP50": 80.0, "APl": float("nan"), "AP-nerve cell": 12.0},
    "voc_dec": {"AP": 40.0, "AP55": 70.5},
}


def test_table_holds_every_number_with_its_definition():
    lines = format_results(RESULTS).splitlines()[2:]
    assert [line.split()[0] for line in lines if not line.startswith("segm/AP-")] == [
        "segm/AP",
        "segm/AP50",
        "segm/APl",
        "voc_dec/AP",
        "voc_dec/AP55",
    ]
    assert "51.23" in lines[0] and "mask IoU" in lines[0] and "0.50:0.05:0.95" in lines[0]
    assert "over 96^2 pixels" in lines[2] and " - " in lines[2]
    assert "class 'nerve cell'" in lines[3]
    assert "70.50" in lines[5] and "IoU threshold 0.55" in lines[5] and "box IoU" in lines[5]


def test_definitions_differ():
    names = [f"{task}/{metric}" for task in ("bbox", "segm") for metric in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
    names += [f"{task}/AP{t}" for task in ("voc_seg", "voc_dec") for t in ["", *range(50, 100, 5)]]
    assert len({definition_of(name) for name in names}) == len(names)


def test_metric_of_an_unknown_task_has_no_definition_and_is_shown():
    assert definition_of("other/score") == ""
    assert "other/score" in format_results({"other": {"score": 1.0}})


def test_unknown_metric_of_a_known_task_is_an_error():
    with pytest.raises(ValueError, match="'XY'"):
        definition_of("segm/XY")


def test_file_holds_results_definitions_and_setting(tmp_path):
    path = tmp_path / "inference" / "cells_val" / "metrics.json"
    write_metrics(str(path), RESULTS, dataset="cells_val", num_images=133, detections_per_image=500)
    content = json.loads(path.read_text())
    assert content["dataset"] == "cells_val"
    assert content["num_images"] == 133
    assert content["detections_per_image"] == 500
    assert content["results"] == {
        "segm/AP": 51.234,
        "segm/AP50": 80.0,
        "segm/APl": None,
        "segm/AP-nerve cell": 12.0,
        "voc_dec/AP": 40.0,
        "voc_dec/AP55": 70.5,
    }
    assert content["definitions"] == {name: definition_of(name) for name in content["results"]}


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(str(path), {"AP": 1})
    for content, error in (({"AP": float("nan")}, ValueError), ({"AP": object()}, TypeError)):
        with pytest.raises(error):
            write_json(str(path), content)
    assert json.loads(path.read_text()) == {"AP": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]
