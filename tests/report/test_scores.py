import itertools

import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from objguided_d2.config import get_cfg
from objguided_d2.evaluation import build_evaluator
from objguided_d2.evaluation.coco import match_coco
from objguided_d2.evaluation.matched_detections import f1_by_score
from objguided_d2.report.runs import load_run
from objguided_d2.report.scores import _instances, score_run
from objguided_d2.report.tables import METRICS, metric_rows, uncertainties, uncertainty_rows
from objguided_d2.utils.rle import EncodedMasks

OPTIONS = {"limit": 100, "score_threshold": 0.3, "boundary_distance": 2}


@pytest.fixture
def scores(cells):
    name, ground_truth, paths = cells
    runs = [load_run(path, path.name, name, ground_truth) for path in paths]
    return {run.name: score_run(run, name, ground_truth, **OPTIONS) for run in runs}, runs


def test_perfect_run(scores):
    perfect = scores[0]["perfect"]
    assert perfect.average_precision == pytest.approx(1)
    assert perfect.metrics["segm/AP"] == perfect.metrics["voc_seg/AP"] == pytest.approx(100)
    assert perfect.metrics["matching/accuracy"] == perfect.metrics["boundary/IoU"] == pytest.approx(100)
    assert set(perfect.image_accuracy.values()) == {1.0}
    assert (perfect.objects[:, 1:] == 1).all()


def test_same_numbers_as_the_evaluation_of_training(cells, scores, tmp_path):
    name, ground_truth, _ = cells
    cfg = get_cfg()
    cfg.TEST.EVALUATORS = ["coco", "voc2010", "matching", "boundary", "fragments"]
    for run in scores[1]:
        evaluator = build_evaluator(cfg, name, str(tmp_path / "inference"))
        evaluator.reset()
        for image_id, image in ground_truth.imgs.items():
            instances = _instances(run.results[image_id], (image["height"], image["width"]), MetadataCatalog.get(name))
            assert isinstance(instances.pred_masks, EncodedMasks)
            evaluator.process([{"image_id": image_id}], [{"instances": instances}])
        results = evaluator.evaluate()
        expected = {f"{task}/{k}": v for task, values in results.items() if task != "bbox" for k, v in values.items()}
        metrics = scores[0][run.name].metrics
        assert metrics.keys() == expected.keys()
        assert [metrics[key] for key in expected] == pytest.approx(list(expected.values()), nan_ok=True)
        assert 100 * scores[0][run.name].average_precision == pytest.approx(metrics["segm/AP"])


def test_f1_from_a_score_on_is_that_of_the_kept_detections_alone(cells, scores):
    _, ground_truth, _ = cells
    by_name, runs = scores
    for run in runs:
        everything = list(itertools.chain.from_iterable(run.results.values()))
        for threshold_index in (0, 5):
            for score in (0.0, 0.7, everything[0]["score"], 1.1):
                kept = [result for result in everything if result["score"] >= score]
                matches = [m for m in match_coco(ground_truth, kept, "segm", limit=100).evalImgs if m is not None]
                num_found = sum(np.count_nonzero(m["dtMatches"][threshold_index]) for m in matches)
                expected = 2 * num_found / (len(kept) + len(ground_truth.anns))
                measured = f1_by_score(by_name[run.name].matched, np.array([score]), threshold_index)
                assert measured == pytest.approx([expected])
    assert f1_by_score(by_name["perfect"].matched, np.array([0.0, 1.1])).tolist() == [1, 0]


def test_tables(scores):
    by_name = scores[0]
    found = uncertainties(list(by_name.values()), 200)
    assert found[0].difference is None and found[0].p_value is None
    assert found[1].difference[1] < 0 and found[1].p_value <= 0.05  # shifted is worse in every resample
    assert found[1].low <= 100 * by_name["shifted"].average_precision <= found[1].high
    rows = uncertainty_rows(list(by_name), found, list(by_name.values()))
    assert rows[0] == ["perfect", "100.0 (100.0 to 100.0)", "", ""] and rows[1][2].startswith("-")
    rows = metric_rows(by_name)
    assert all(len(row) == 1 + len(METRICS) for row in rows) and rows[0][1] == "100.0" and rows[0][6] == "-"


def test_merged_cells_of_a_label_image_are_not_found(scores):
    accuracy = scores[0]["cellpose"].image_accuracy
    assert accuracy[7] == 1  # nothing there, nothing found
    assert np.mean(list(accuracy.values())) < 0.6
