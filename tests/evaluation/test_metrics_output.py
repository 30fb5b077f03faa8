"""Results as a table and as a file: each number with its definition."""

import json

import pytest

from objguided_d2.evaluation import definition_of, format_results, write_metrics

RESULTS = {
    "segm": {"AP": 51.234, "AP50": 80.0, "APl": float("nan"), "AP-nerve cell": 12.0},
    "voc_dec": {"AP": 40.0, "AP55": 70.5},
}


def test_table_holds_every_number_with_its_definition():
    segm, voc_dec = (part.splitlines() for part in format_results(RESULTS).split("\n\n"))
    assert segm[0].startswith("segm: COCO AP of masks, percent") and len(segm) == 5
    assert segm[1].split(maxsplit=2) == ["segm/AP", "51.23", "mean over IoU thresholds 0.50:0.05:0.95 and classes"]
    assert segm[2].split(maxsplit=2) == ["segm/AP50", "80.00", "IoU threshold 0.50, mean over classes"]
    assert segm[3].split(maxsplit=2)[:2] == ["segm/APl", "-"] and "over 96^2 pixels" in segm[3]
    assert "12.00" in segm[4] and segm[4].endswith("class 'nerve cell' alone")
    assert voc_dec[0].startswith("voc_dec: VOC2010 AP of boxes, percent") and len(voc_dec) == 3
    assert voc_dec[2].split(maxsplit=2) == ["voc_dec/AP55", "70.50", "IoU threshold 0.55, mean over classes"]


def test_definitions_differ():
    metrics = [(task, metric) for task in ("bbox", "segm") for metric in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
    metrics += [(task, f"AP{t}") for task in ("voc_seg", "voc_dec") for t in ["", *range(50, 100, 5)]]
    assert len({definition_of(*metric) for metric in metrics}) == len(metrics)


def test_metric_of_an_unknown_task_has_no_definition_and_is_shown():
    assert definition_of("other", "score") == ""
    assert "other/score  1.00" in format_results({"other": {"score": 1.0}})


def test_unknown_metric_of_a_known_task_is_an_error():
    with pytest.raises(ValueError, match="'XY'"):
        definition_of("segm", "XY")


def test_file_holds_results_definitions_and_setting(tmp_path):
    path = tmp_path / "inference" / "cells_val" / "metrics.json"
    write_metrics(str(path), RESULTS, dataset="cells_val", images_digest="1f", num_images=133, detections_per_image=500)
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
    assert content["definitions"] == {name: definition_of(*name.split("/")) for name in content["results"]}
