"""One file after the other through reading, network and writing.

Reading runs in one thread ahead of the network, writing in another behind it. The unit is "file -> committed output".
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from detectron2.structures import Instances
from tqdm import tqdm

from ..engine.resources import OutOfMemory
from .filters import Filters
from .image_scale import Diameter, PixelSize, Scale, parse_sizes, training_diameter
from .image_source import ImageSource, open_image
from .large_labels import writer_of
from .prediction import Prediction, check_formats
from .predictor import Predictor
from .prefetch import prefetch
from .preparation import PreparedImage
from .records import FileResult, Records, fingerprint, identity
from .writers import WRITERS

logger = logging.getLogger(__name__)

_TIME_POINT = re.compile(r"t?(\d+)")


@dataclasses.dataclass(frozen=True)
class PredictSettings:
    """What the outputs of a file depend on, beside the model.

    Attributes:
        save: output formats, names of :data:`.writers.WRITERS`.
        filters: see :class:`Filters`.
        scale, pixel_size, diameter: see :meth:`.predictor.Predictor.__call__`.
        channels, z, level: see :func:`.image_source.open_image`.
        frames: numbers from 0 or names of the frames to predict of a file that holds several; a text is split at
            commas. None takes all of them.
        table_suffix: ".csv" or ".parquet".
    """

    save: tuple[str, ...] = ("labels", "table")
    filters: Filters = Filters()
    scale: Scale = None
    pixel_size: PixelSize = None
    diameter: Diameter = None
    channels: str | Sequence[int | str] | None = None
    z: str | int | None = None
    frames: str | int | Sequence[int | str] | None = None
    level: int | None = None
    table_suffix: str = ".csv"

    def __post_init__(self) -> None:
        check_formats(self.save)
        if self.frames in ("", (), []):
            raise ValueError("frames: no frame is named; leave them out for all of a file")
        parse_sizes(self.scale, self.diameter, self.pixel_size)


def open_frames(path: Path, settings: PredictSettings) -> tuple[ImageSource, list[int]]:
    """An open file and the numbers, from 0, of its frames to predict, in their order.

    Raises:
        SourceError, ImportError: see :func:`.image_source.open_image`; if there is no such frame.
    """
    source = open_image(path, channels=settings.channels, z=settings.z, level=settings.level)
    frames = settings.frames
    if frames is None:
        return source, list(range(len(source.frames) or 1))
    listed = frames.split(",") if isinstance(frames, str) else frames if isinstance(frames, Sequence) else [frames]
    try:
        return source, sorted({source.frame_number(which) for which in listed})
    except BaseException:
        source.close()
        raise


def output_path(name: str, relative: Path, frame_name: str, number: int, settings: PredictSettings) -> Path:
    """Where an output goes, under the output folder. The masks of a time series lie in one folder: that of a file with
    frames is its name; files that are time points themselves (t012.tif) share their folder.

    Args:
        name: of the output format.
        relative: the file's name under the inputs.
        frame_name, number: of the frame, "" and 0 for the only one of its file.
    """
    stem = relative.parent / relative.stem
    writer = WRITERS[name]
    if name == "ctc":
        time_point = _TIME_POINT.fullmatch(relative.stem)
        if not frame_name and time_point:
            return writer.path(stem.parent, int(time_point[1]))
        return writer.path(stem, number)
    suffix = settings.table_suffix if name == "table" else None
    return writer.path(f"{stem}_{frame_name}" if frame_name else stem, suffix=suffix)


def describe(predictor: Predictor, settings: PredictSettings) -> dict:
    """Everything that outputs depend on."""
    return {
        "model": {"sha256": predictor.model_hash, "classes": list(predictor.info.class_names)},
        "settings": {
            **dataclasses.asdict(settings),
            "score_threshold": predictor.score_threshold,
            "tile": predictor.tile,
            "halo": predictor.halo,
            "precision": predictor.precision,
            "orientations": predictor.orientations,
        },
    }


@dataclasses.dataclass(frozen=True)
class PlannedImage:
    """A large image that several processes predict row by row.

    Attributes:
        prepared: without its pixels, which each process reads for itself.
        num_rows: of tiles.
        began: ``time.time`` at its beginning, which machines have in common.
        identity: of the file, see :func:`.records.identity`.
    """

    prepared: PreparedImage
    num_rows: int
    began: float
    identity: dict


@dataclasses.dataclass
class _Frame:
    """A frame of a file on its way; ``prepared`` or the ``error`` that ended the file."""

    path: Path
    relative: Path
    number: int = 0
    name: str = ""
    is_first: bool = True
    is_last: bool = True
    source: ImageSource | None = None
    prepared: PreparedImage | None = None
    error: Exception | None = None
    began: float = 0.0
    identity: dict = dataclasses.field(default_factory=dict)


class FilePipeline:
    """Predicts files and writes their outputs and records.

    Args:
        predictor: of the model.
        output: folder of the outputs.
        settings: of the outputs.

    Raises:
        ValueError: if the settings ask of the model what it does not know.
    """

    def __init__(self, predictor: Predictor, output: Path, settings: PredictSettings) -> None:
        self.predictor, self.output, self.settings = predictor, output, settings
        if settings.diameter is not None:
            training_diameter(predictor.info)
        self.description = describe(predictor, settings)
        self.records = Records(output, fingerprint(self.description))

    def __call__(
        self,
        files: Sequence[tuple[Path, Path]],
        stop: Callable[[], bool] = lambda: False,
        progress: bool = False,
    ) -> dict[str, FileResult]:
        """Results by name, of files that are done already too.

        Args:
            files: (path, name under the inputs).
            stop: asked after each file whether to end there.
            progress: show a bar.
        """
        results: dict[str, FileResult] = {}
        todo = []
        for path, relative in files:
            with contextlib.suppress(OSError):
                if (found := self.records.find(path, relative)) is not None:
                    results[relative.as_posix()] = found
                    continue
            todo.append((path, relative))
        bar = tqdm(total=len(todo), unit="image", disable=not progress, smoothing=0.1)
        writing: Future | None = None
        current: FileResult | None = None
        with bar, ThreadPoolExecutor(1) as writer, contextlib.closing(prefetch(self._frames(todo), 2)) as frames:
            for frame in frames:
                current = current or FileResult("done")
                prediction = self._predict(frame)
                # One frame is written while the next is predicted: memory stays bounded.
                if writing is not None:
                    writing.result()
                writing = writer.submit(self._finish, frame, prediction, current, results, bar)
                if frame.is_last:
                    current = None
                    if stop():
                        break
            if writing is not None:
                writing.result()
        return {
            relative.as_posix(): results[relative.as_posix()] for _, relative in files if relative.as_posix() in results
        }

    def predict_or_plan(self, path: Path, relative: Path) -> FileResult | PlannedImage:
        """What became of a file; of one large image, what other processes need to predict its rows of tiles."""
        try:
            found = self.records.find(path, relative)
            plan = None if found else self._plan(path)
        except Exception as error:
            # The pipeline meets it again, and reports it as that of any file.
            logger.debug("%s cannot be planned", path, exc_info=error)
            found = plan = None
        if plan is not None:
            return plan
        return found or self([(path, relative)])[relative.as_posix()]

    def _plan(self, path: Path) -> PlannedImage | None:
        began, of_file = time.time(), identity(path)
        with self._open(path) as source:
            # A look at the size spares most files from being read twice.
            if source.frames or source.shape[0] * source.shape[1] <= self.predictor.most_pixels_at_once:
                return None
            prepared = self._prepare(source)
            num_rows = self.predictor.num_rows(prepared)
        if num_rows < 2:
            return None
        return PlannedImage(dataclasses.replace(prepared, source=None, image=None), num_rows, began, of_file)

    def detect_row(self, path: Path, plan: PlannedImage, row: int) -> list[Instances] | Exception:
        """What a row of tiles of a planned image holds, or the error that ends its file."""
        try:
            with self._open(path) as source:
                image = dataclasses.replace(plan.prepared, source=source, image=source)
                return self.predictor.detect_rows(image, slice(row, row + 1))
        except Exception as error:
            return error

    def finish_planned(
        self, path: Path, relative: Path, plan: PlannedImage, rows: Sequence[list[Instances] | Exception]
    ) -> FileResult:
        """Write the outputs and the record of a planned image from what all of its rows hold, in their order."""
        frame = _Frame(path, relative, began=time.perf_counter() - (time.time() - plan.began), identity=plan.identity)
        prediction = None
        try:
            found: list[Instances] = []
            for row in rows:
                if isinstance(row, Exception):
                    raise row
                found += row
            frame.source = self._open(path)
            image = dataclasses.replace(plan.prepared, source=frame.source, image=frame.source)
            prediction = self.predictor.merge_rows(image, found)
        except Exception as error:
            frame.error = error
        results: dict[str, FileResult] = {}
        self._finish(frame, prediction, FileResult("done"), results, tqdm(disable=True))
        return results[relative.as_posix()]

    def _open(self, path: Path) -> ImageSource:
        return open_frames(path, self.settings)[0]

    def _prepare(self, source: ImageSource) -> PreparedImage:
        settings = self.settings
        return self.predictor.prepare(
            source, pixel_size=settings.pixel_size, scale=settings.scale, diameter=settings.diameter
        )

    def _frames(self, files: list[tuple[Path, Path]]) -> Iterator[_Frame]:
        """Open, read and prepare, in the reading thread."""
        for path, relative in files:
            of_file = _Frame(path, relative, began=time.perf_counter())
            try:
                source, numbers = open_frames(path, self.settings)
                of_file.source = source
                of_file.identity = identity(path)
                for number in numbers:
                    frame = source.frame(number) if source.frames else source
                    prepared = self._prepare(frame)
                    yield dataclasses.replace(
                        of_file,
                        number=number,
                        name=frame.frame_name,
                        is_first=number == numbers[0],
                        is_last=number == numbers[-1],
                        prepared=prepared,
                    )
            except Exception as error:
                of_file.error = error
                yield of_file

    def _predict(self, frame: _Frame) -> Prediction | None:
        if frame.error is None:
            assert frame.prepared is not None
            try:
                return self.predictor.predict_prepared([frame.prepared])[0]
            except Exception as error:
                frame.error = error
        return None

    def _finish(
        self, frame: _Frame, prediction: Prediction | None, result: FileResult, results: dict, bar: tqdm
    ) -> None:
        """Write a frame, and after the last one of a file its record."""
        frame.prepared = None
        try:
            if frame.is_first:
                self.records.forget(frame.relative)
            if frame.error is not None:
                raise frame.error
            assert prediction is not None
            if result.status != "failed":
                self._write(frame, prediction.filtered(self.settings.filters), result)
                if frame.is_last:
                    self._remove_stale(frame, result)
        except Exception as error:
            logger.debug("%s failed", frame.path, exc_info=error)
            result.status, result.reason = "failed", _reason(frame.path, error)
        if not frame.is_last:
            return
        if frame.source is not None:
            frame.source.close()
        result.seconds = round(time.perf_counter() - frame.began, 3)
        if result.status == "done":
            try:
                self.records.write(frame.identity, frame.relative, result)
            except OSError as error:
                result.status, result.reason = "failed", f"its record cannot be written: {_reason(frame.path, error)}"
        if result.status == "failed":
            named = result.reason if str(frame.path) in result.reason else f"{frame.path}: {result.reason}"
            tqdm.write(named, file=sys.stderr)
        results[frame.relative.as_posix()] = result
        bar.update()

    def _write(self, frame: _Frame, prediction: Prediction, result: FileResult) -> None:
        for name in self.settings.save:
            path = self.output / output_path(name, frame.relative, frame.name, frame.number, self.settings)
            write = writer_of(name, prediction.objects.shape, WRITERS[name].write)
            # Programs that read COCO look for the image by its name; a frame has none of its own.
            named = {"image_name": frame.path.name} if name == "coco" and not frame.name else {}
            write(prediction.objects, path, image=prediction.image, **named)
            result.outputs.append(path.relative_to(self.output).as_posix())
        result.num_objects += len(prediction)
        result.num_cut += prediction.num_cut
        result.at_limit |= prediction.at_limit

    def _remove_stale(self, frame: _Frame, result: FileResult) -> None:
        removed = self.records.remove_stale(frame.identity, frame.relative, result.outputs)
        if removed:
            told = f"{frame.path} has changed; outputs of what it was are removed: {', '.join(removed)}"
            tqdm.write(told, file=sys.stderr)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OutOfMemory):
        return "the memory of the GPU is not enough; give a smaller --tile or --device cpu"
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removeprefix(f"{path}: ")
