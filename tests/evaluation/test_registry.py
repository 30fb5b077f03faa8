"""Adding a metric is adding one file."""

import importlib
import json
import sys

import pytest

from objguided_d2 import evaluation
from objguided_d2.config import get_cfg
from objguided_d2.evaluation import EVALUATORS, build_evaluator, definition_of, format_results, write_metrics
from objguided_d2.evaluation.base import LabelMapEvaluator, register_evaluator
from tests.evaluation.rectangles import rectangle_instances, rectangle_record

MEASURE = """
from .base import LabelMapEvaluator, register_evaluator

@register_evaluator("count")
class CountEvaluator(LabelMapEvaluator):
    tasks = {"count": "Numbers of objects"}
    metrics = {"predicted": "predictions per image", "true": "objects per image"}

    def measure(self, image):
        return len(image.predicted_classes), len(image.true_classes)

    def summarize(self, records):
        predicted, true = zip(*records)
        return {"predicted": sum(predicted) / len(records), "true": sum(true) / len(records)}
"""
OBJECT, OTHER = (0, 0, 8, 8), (20, 5, 60, 45)


@pytest.fixture
def measure_in_one_file(tmp_path, monkeypatch):
    """The package with one more file in it."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "toy_count.py").write_text(MEASURE)
    monkeypatch.setattr(evaluation, "__path__", [*evaluation.__path__, str(tmp_path / "package")])
    importlib.invalidate_caches()
    evaluation.import_measures()
    yield
    del EVALUATORS["count"], sys.modules["objguided_d2.evaluation.toy_count"], evaluation.toy_count


def test_file_in_the_package_gives_a_metric_with_its_numbers_and_definitions(measure_in_one_file, register, tmp_path):
    name = register([rectangle_record(1, [(OBJECT, 0)]), rectangle_record(2, [(OTHER, 0), (OBJECT, 0)])])
    cfg = get_cfg()
    cfg.TEST.EVALUATORS = ["matching", "count"]
    evaluator = build_evaluator(cfg, name, str(tmp_path))
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": rectangle_instances([(OBJECT, 0, 0.9), (OTHER, 0, 0.1)])}])
    results = evaluator.evaluate()
    assert results.keys() == {"matching", "count"}
    assert results["count"] == {"predicted": 0.5, "true": 1.5}  # one of two is under TEST.LABEL_MAP_SCORE_THRESH
    assert definition_of("count", "true") == "Numbers of objects; objects per image"
    row = format_results(results).splitlines()[-1]
    assert row.split(maxsplit=2) == ["count/true", "1.50", "objects per image"]
    write_metrics(
        str(tmp_path / "metrics.json"),
        results,
        dataset=name,
        images_digest="1f",
        num_images=2,
        detections_per_image=100,
    )
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["definitions"]["count/predicted"] == "Numbers of objects; predictions per image"


def test_names_of_evaluators_and_tasks_are_unique():
    class Toy(LabelMapEvaluator):
        tasks = {"toy": "a toy"}

    class OtherTask(LabelMapEvaluator):
        tasks = {"segm": "masks"}

    with pytest.raises(ValueError, match="'coco' is registered as COCOInstanceEvaluator"):
        register_evaluator("coco")(Toy)
    with pytest.raises(ValueError, match="'segm' belongs to COCOInstanceEvaluator"):
        register_evaluator("other")(OtherTask)
    assert "other" not in EVALUATORS


def test_every_number_of_every_evaluator_is_defined_by_its_own_class(register, tmp_path):
    name = register([rectangle_record(1, [(OBJECT, 0), (OTHER, 1)])], ("cell", "nucleus"))
    for key, kind in EVALUATORS.items():
        cfg = get_cfg()
        cfg.TEST.EVALUATORS = [key]
        evaluator = build_evaluator(cfg, name, str(tmp_path))
        evaluator.reset()
        evaluator.process([{"image_id": 1}], [{"instances": rectangle_instances([(OBJECT, 0, 0.9)])}])
        results = evaluator.evaluate()
        assert results.keys() == kind.tasks.keys()
        assert all(kind.definition(metric) for metrics in results.values() for metric in metrics)
        assert kind.definition("XY") is None
