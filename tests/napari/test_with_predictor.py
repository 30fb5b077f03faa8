import os

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("napari")
predictor_module = pytest.importorskip("objguided_d2.inference.predictor")
models = pytest.importorskip("tests.inference.models")


def test_the_widget_adds_what_the_predictor_finds():
    from napari.components import ViewerModel
    from napari.qt import get_qapp

    from objguided_d2.napari.widget import SegmentWidget

    app = get_qapp()
    cfg = models.busy_cfg()
    predictor = predictor_module.Predictor(cfg, models.busy_model(cfg), tile=96, halo=64)
    image = models.textured_image(160, 260)
    viewer = ViewerModel()
    viewer.add_image(image, rgb=True, name="blobs")
    widget = SegmentWidget(viewer, load=lambda model: predictor, shipped_models=lambda: ["busy"])
    widget.run.native.click()
    while widget.is_running:
        app.processEvents()
    expected = predictor(image)
    assert len(expected) > 20 and widget.status.value == f"{len(expected)} objects in blobs"
    labels = viewer.layers["blobs objects"]
    assert np.array_equal(labels.data, expected.labels)
    # Rounded to six digits, and the last bits of a score depend on the thread.
    assert labels.features["score"].tolist() == pytest.approx(expected.table()["score"].tolist(), abs=1e-5)
    widget.native.close()
