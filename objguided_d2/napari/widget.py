"""The dock widget: choose a model, segment the active image layer in a thread, get a labels layer and a table."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    FloatSlider,
    FloatSpinBox,
    Label,
    ProgressBar,
    PushButton,
    Table,
)
from napari.layers import Image
from napari.qt.threading import create_worker

from .planes import pixel_size, placed_labels, plane, plane_positions
from .segmentation import Segmented, Stopped, segment_planes

logger = logging.getLogger(__name__)

_PERCENT = 100


def _load_predictor(model: str) -> Any:
    from ..inference.predictor import Predictor

    return Predictor.from_pretrained(model)


def _shipped_models() -> list[str]:
    from ..inference.pretrained import shipped_models

    return shipped_models()


class SegmentWidget(Container):
    """Segments the active image layer.

    Args:
        napari_viewer: the viewer.
        load: gives a predictor by the name or path of a model.
        shipped_models: names of the models to offer.
    """

    def __init__(
        self,
        napari_viewer: Any,
        load: Callable[[str], Any] = _load_predictor,
        shipped_models: Callable[[], Sequence[str]] = _shipped_models,
    ) -> None:
        self._viewer, self._load = napari_viewer, load
        self._loaded: tuple[str, Any, float] | None = None
        self._worker: Any = None
        self._stop = threading.Event()
        names = list(shipped_models())
        self.model = ComboBox(label="Model", choices=names, visible=bool(names))
        self.model_file = FileEdit(
            label="or file" if names else "Model", filter="Models (*.zip *.yaml);;All files (*)", tooltip=_MODEL_HELP
        )
        self.own_score = CheckBox(text="Score threshold of the model", value=True)
        self.score = FloatSlider(label="Lowest score", min=0, max=1, step=0.01, value=0.5, enabled=False)
        self.own_score.changed.connect(lambda own: setattr(self.score, "enabled", not own))
        self.diameter = FloatSpinBox(label="Diameter (px)", min=0, max=10_000, step=1, value=0, tooltip=_DIAMETER_HELP)
        self.all_planes = CheckBox(text="All planes of a stack", value=False)
        self.run = PushButton(text="Segment")
        self.stop = PushButton(text="Stop", enabled=False)
        self.progress = ProgressBar(min=0, max=_PERCENT, value=0, visible=False)
        self.status = Label(value="")
        self.table = Table(visible=False)
        super().__init__(
            widgets=[
                self.model,
                self.model_file,
                self.own_score,
                self.score,
                self.diameter,
                self.all_planes,
                self.run,
                self.stop,
                self.progress,
                self.status,
                self.table,
            ]
        )
        self.run.changed.connect(self.start)
        self.stop.changed.connect(self.request_stop)

    def start(self) -> None:
        """Segment in a thread, unless that is going on; what stands in the way is said in the status line."""
        if self._worker is not None:
            return
        try:
            layer, model = self._active_image(), self._chosen_model()
        except ValueError as error:
            self.status.value = str(error)
            return
        self._stop = threading.Event()
        positions = plane_positions(layer, self._viewer.dims.point, self.all_planes.value)
        options = {
            "pixel_size": pixel_size(layer),
            "diameter": self.diameter.value or None,
        }
        self._set_running(True)
        self.status.value = f"Segmenting {layer.name}"
        arguments = layer, model, self._lowest_score(), positions, options, self._stop
        worker = create_worker(self._work, *arguments, _start_thread=False, _ignore_errors=True)
        worker.yielded.connect(lambda result: self._take(layer, positions, result))
        worker.errored.connect(self._show_error)
        worker.finished.connect(lambda: self._set_running(False))
        self._worker = worker
        worker.start()

    def request_stop(self) -> None:
        """End after the plane, or the tile of a large one, that is being segmented; nothing is added then."""
        if self._worker is not None:
            self._stop.set()
            self.status.value = "Stopping"

    @property
    def is_running(self) -> bool:
        """Whether a segmentation is going on."""
        return self._worker is not None

    def _work(
        self,
        layer: Image,
        model: str,
        lowest_score: float | None,
        positions: list[tuple[int, ...]],
        options: dict[str, Any],
        stop: threading.Event,
    ) -> Iterator[float | Segmented]:
        """In the thread: load the model, if it is another one, and segment."""
        if self._loaded is None or self._loaded[0] != model:
            predictor = self._load(model)
            self._loaded = model, predictor, predictor.score_threshold
        _, predictor, own_score = self._loaded
        predictor.score_threshold = own_score if lowest_score is None else lowest_score
        planes = (plane(layer, position) for position in positions)
        yield from segment_planes(predictor, planes, positions, stop, options)

    def _take(self, layer: Image, positions: list[tuple[int, ...]], result: float | Segmented) -> None:
        if not isinstance(result, Segmented):
            self.progress.value = round(result * _PERCENT)
            return
        labels, placement = placed_labels(layer, result.labels, positions)
        added = self._viewer.add_labels(labels, name=f"{layer.name} objects", **placement)
        added.features = result.table.assign(index=result.table["label"])
        self.table.value = result.table
        self.table.visible = True
        self.status.value = f"{len(result.table)} objects in {layer.name}"

    def _show_error(self, error: Exception) -> None:
        if isinstance(error, Stopped):
            self.status.value = "Stopped"
            return
        self.status.value = " ".join(str(error).split()) or type(error).__name__
        logger.error("Segmentation failed", exc_info=error)

    def _set_running(self, running: bool) -> None:
        self.run.enabled, self.stop.enabled = not running, running
        self.progress.visible, self.progress.value = running, 0
        if not running:
            self._worker = None

    def _active_image(self) -> Image:
        active = self._viewer.layers.selection.active
        if isinstance(active, Image):
            return active
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        if len(images) == 1:
            return images[0]
        raise ValueError("Select an image layer" if images else "Open an image first")

    def _chosen_model(self) -> str:
        path = self.model_file.value
        if path not in (None, Path()):
            return str(path)
        if self.model.value:
            return self.model.value
        raise ValueError("Choose a model")

    def _lowest_score(self) -> float | None:
        return None if self.own_score.value else self.score.value


_MODEL_HELP = "A model exported by `objguided export`, or the config.yaml in the folder of a training"
_DIAMETER_HELP = "Of the objects in this image; 0 leaves the size to the model and the pixel size of the layer"
