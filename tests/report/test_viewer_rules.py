"""What the page counts by itself, against the package, on drawn errors of all kinds."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

import objguided_d2.report
from objguided_d2.evaluation.matching import MatchCounts, MatchingEvaluator
from objguided_d2.evaluation.voc2010 import IOU_THRESHOLDS
from objguided_d2.report.error_kinds import KINDS, classify
from objguided_d2.report.viewer_data import viewer_predictions
from tests.report.label_maps import compared_label_maps

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed")

SCRIPT = Path(objguided_d2.report.__file__).with_name("viewer.js")
NUM_IMAGES, NUM_CLASSES = 200, 2


def dense(labels):
    """The same regions with labels from 1 on."""
    return np.unique(np.append(0, labels), return_inverse=True)[1][1:].reshape(labels.shape)


def random_image(rng):
    """Blocks as objects; the same shifted, joined, halved or left out as predictions, and some more of them."""
    true = rng.permutation(12).reshape(3, 4) * (rng.random((3, 4)) < 0.7)
    predicted = true * (rng.random((3, 4)) < 0.9)
    joined = rng.integers(0, 3, 2)
    predicted[joined[0], joined[1] : joined[1] + 2] = true[joined[0], joined[1]]
    predicted, true = (np.kron(labels, np.ones((10, 10), int)) for labels in (predicted, true))
    rows = np.arange(30) % 10 >= rng.integers(3, 8)
    predicted = np.where(rows[:, None] & (predicted % 3 == 1), predicted + 20, predicted)
    predicted = dense(np.roll(predicted, rng.integers(0, 4, 2), axis=(0, 1)))
    true = dense(true)
    crowd = np.zeros(true.shape, bool)
    crowd[:, : 10 * rng.integers(0, 3)] = True
    return compared_label_maps(
        predicted,
        true,
        scores=np.round(rng.random(predicted.max()), 2),
        predicted_classes=rng.integers(0, NUM_CLASSES, predicted.max()) * (rng.random() < 0.5),
        true_classes=rng.integers(0, NUM_CLASSES, true.max()) * (rng.random() < 0.5),
        crowd=crowd & (true == 0),
    )


def above(image, threshold):
    """The image with the predictions from a score on."""
    kept = np.flatnonzero(image.scores >= threshold)
    labels = np.zeros(len(image.scores) + 1, int)
    labels[kept + 1] = np.arange(1, len(kept) + 1)
    return replace(
        image,
        label_map=labels[image.label_map],
        scores=image.scores[kept],
        predicted_classes=image.predicted_classes[kept],
    )


def accuracy(image):
    """At IoU 0.5, of all classes."""
    of_classes = MatchingEvaluator("drawn", COCO(), score_threshold=0.0).measure(image)
    return float(sum(of_classes.values(), MatchCounts.zero(len(IOU_THRESHOLDS))).accuracy[0])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6])
def test_kinds_and_accuracy_of_the_page_are_those_of_the_package(tmp_path, threshold):
    rng = np.random.default_rng(0)
    images = [random_image(rng) for _ in range(NUM_IMAGES)]
    data = [
        {"areas": image.overlaps.true_area.tolist(), "predictions": [viewer_predictions(image)]} for image in images
    ]
    script = SCRIPT.read_text()
    functions = script[script.index("function asObjects") : script.index("const pictures")]
    program = f"""
        const PAIR_IOU = 0.5, CORRECT_IOU = 0.75, state = {{ thresholds: [{threshold}] }};
        {functions}
        console.log(JSON.stringify({json.dumps(data)}.map((image) => {{
          image.predictions = image.predictions.map(asObjects);
          const {{ predicted, truth }} = classify(image, 0);
          return [predicted, truth, accuracy(image, 0)];
        }})));
    """
    (tmp_path / "rules.js").write_text(program)
    found = json.loads(
        subprocess.run(["node", tmp_path / "rules.js"], capture_output=True, check=True, text=True).stdout
    )
    seen = set()
    for image, (predicted, truth, value) in zip(images, found, strict=True):
        kept = above(image, threshold)
        kinds = classify(kept)
        assert predicted == [KINDS[k] if k >= 0 else None for k in kinds.predicted]
        assert truth == [KINDS[k] for k in kinds.true]
        assert value == pytest.approx(accuracy(kept))
        seen |= {*predicted, *truth}
    assert seen == {*KINDS, None}
