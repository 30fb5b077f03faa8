"""The plugin without a screen: a viewer's model, a widget, its thread, and a predictor that thresholds."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pandas
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("napari")
# PyQt6 is there but cannot be imported where the system lacks libraries of Qt.
pytest.importorskip("qtpy.QtWidgets", exc_type=ImportError)

import objguided_d2.napari  # noqa: E402
from objguided_d2.inference.objects import SegmentedObjects  # noqa: E402
from objguided_d2.inference.writers import measure, paint_labels  # noqa: E402


class ThresholdPrediction:
    def __init__(self, objects, image):
        self.objects, self.image = objects, image

    @property
    def labels(self):
        return paint_labels(self.objects)

    def table(self):
        return measure(self.objects, self.image)


class ThresholdPredictor:
    """One object: the bright pixels. Called as the real one is."""

    def __init__(self):
        self.score_threshold = 0.3
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, image, *, pixel_size=None, diameter=None, on_tile=lambda done, total: None):
        self.calls.append({"shape": image.shape, "pixel_size": pixel_size, "diameter": diameter})
        if image.max() == 0:
            raise ValueError("the image is\nblack")
        self.gate.wait(10)
        on_tile(1, 2)
        mask = (image if image.ndim == 2 else image.sum(axis=2)) > 100
        rows, columns = np.nonzero(mask)
        box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
        crop = mask[box[0, 1] : box[0, 3], box[0, 0] : box[0, 2]]
        keeps = slice(0, int(self.score_threshold <= 0.6))
        objects = SegmentedObjects(
            mask.shape, box[keeps], [crop][keeps], np.float32([0.6])[keeps], np.array([0])[keeps], pixel_size=pixel_size
        )
        return ThresholdPrediction(objects, image)


@pytest.fixture
def app():
    from napari.qt import get_qapp

    return get_qapp()


@pytest.fixture
def predictor():
    return ThresholdPredictor()


@pytest.fixture
def viewer():
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def widget(app, viewer, predictor):
    from objguided_d2.napari.widget import SegmentWidget

    loaded = []
    widget = SegmentWidget(
        viewer, load=lambda model: loaded.append(model) or predictor, shipped_models=lambda: ["nuclei", "cells"]
    )
    widget.loaded = loaded
    yield widget
    wait(app, lambda: not widget.is_running)
    widget.native.close()


def wait(app, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        app.processEvents()
        time.sleep(0.005)
        assert time.monotonic() < end, "nothing happened"


def segment(app, widget):
    widget.run.native.click()
    wait(app, lambda: not widget.is_running)


def image(rows=slice(3, 8), columns=slice(10, 30)):
    pixels = np.zeros((24, 40), np.uint8)
    pixels[rows, columns] = 200
    return pixels


def test_manifest_names_the_widget():
    import npe2

    manifest = npe2.PluginManifest.from_file(Path(objguided_d2.napari.__file__).parent / "napari.yaml")
    (contribution,) = manifest.contributions.widgets
    (command,) = [one for one in manifest.contributions.commands if one.id == contribution.command]
    module, name = str(command.python_name).split(":")
    assert module == "objguided_d2.napari.widget" and name == "SegmentWidget"


def test_active_image_gets_labels_and_a_table(app, viewer, widget, predictor):
    viewer.add_image(image(slice(0, 2)), name="other")
    layer = viewer.add_image(image(), name="cells", scale=(0.5, 0.25), units=("um", "um"), translate=(3, 4))
    viewer.layers.selection.active = layer
    segment(app, widget)
    assert widget.loaded == ["nuclei"] and predictor.calls == [
        {"shape": (24, 40), "pixel_size": (0.5, 0.25), "diameter": None}
    ]
    labels = viewer.layers["cells objects"]
    assert np.array_equal(labels.data, image() // 200)
    assert labels.scale.tolist() == [0.5, 0.25] and labels.translate.tolist() == [3, 4]
    assert labels.features["area_um2"].tolist() == [100 * 0.125] and labels.features["index"].tolist() == [1]
    assert widget.status.value == "1 objects in cells"
    assert pandas.DataFrame(widget.table.to_dataframe())["mean_intensity"].tolist() == [200]


def test_settings_reach_the_predictor_and_the_model_is_loaded_once(app, viewer, widget, predictor):
    viewer.add_image(image())
    widget.diameter.value = 31
    segment(app, widget)
    assert predictor.calls[-1]["diameter"] == 31 and predictor.score_threshold == 0.3
    assert not widget.score.enabled
    widget.own_score.value = False
    assert widget.score.enabled
    widget.score.value = 0.75
    segment(app, widget)
    assert predictor.score_threshold == 0.75 and widget.status.value.startswith("0 objects")
    widget.own_score.value = True
    segment(app, widget)
    assert predictor.score_threshold == 0.3 and widget.loaded == ["nuclei"]
    widget.model_file.value = "/models/mine.zip"
    segment(app, widget)
    assert widget.loaded == ["nuclei", "/models/mine.zip"]


def test_the_plane_that_is_seen_or_all_of_a_stack(app, viewer, widget):
    stack = np.stack([image(slice(i + 1, i + 4)) for i in range(3)])
    viewer.add_image(stack, name="stack", scale=(2, 1, 1))
    viewer.dims.set_point(0, 4.0)
    segment(app, widget)
    labels = viewer.layers[-1]
    assert np.array_equal(labels.data, stack[2:] // 200) and labels.translate.tolist() == [4, 0, 0]
    viewer.layers.selection.active = viewer.layers["stack"]
    widget.all_planes.value = True
    segment(app, widget)
    labels = viewer.layers[-1]
    assert np.array_equal(labels.data, stack // 200 * np.array([1, 2, 3])[:, None, None])
    assert labels.features["axis_0"].tolist() == [0, 1, 2] and labels.features["label"].tolist() == [1, 2, 3]


def test_color_and_pyramids(app, viewer, widget, predictor):
    color = np.repeat(image()[..., None], 4, axis=2)
    viewer.add_image([color, color[::2, ::2]], rgb=True, multiscale=True, name="color")
    segment(app, widget)
    assert predictor.calls[-1]["shape"] == (24, 40, 3) and viewer.layers[-1].data.max() == 1


def test_stop_ends_between_tiles_and_adds_nothing(app, viewer, widget, predictor):
    viewer.add_image(image())
    predictor.gate.clear()
    widget.run.native.click()
    wait(app, lambda: predictor.calls)
    assert widget.is_running and not widget.run.enabled and widget.stop.enabled
    widget.stop.native.click()
    predictor.gate.set()
    wait(app, lambda: not widget.is_running)
    assert widget.status.value == "Stopped" and len(viewer.layers) == 1
    assert widget.run.enabled and not widget.stop.enabled
    segment(app, widget)
    assert len(viewer.layers) == 2


def test_what_is_wrong_stands_in_the_status_line(app, viewer, widget):
    widget.run.native.click()
    assert widget.status.value == "Open an image first" and not widget.is_running
    viewer.add_image(np.zeros((9, 9), np.uint8))
    segment(app, widget)
    assert widget.status.value == "the image is black" and len(viewer.layers) == 1
    viewer.add_image(image())
    viewer.layers.selection.clear()
    widget.run.native.click()
    assert widget.status.value == "Select an image layer"


def test_without_shipped_models_a_file_is_needed(app, viewer, predictor):
    from objguided_d2.napari.widget import SegmentWidget

    widget = SegmentWidget(viewer, load=lambda model: predictor, shipped_models=lambda: [])
    viewer.add_image(image())
    widget.run.native.click()
    assert widget.status.value == "Choose a model"
    widget.native.close()
