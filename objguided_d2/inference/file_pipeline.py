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

from ..data.source_error import SourceError
from .filters import Filters
from .image_source import ImageSource, open_image
from .large_labels import writer_of
from .prediction import Prediction, as_pair, check_formats
from .predictor import Predictor
from .prefetch import prefetch
from .preparation import PreparedImage
from .records import FileResult, Leftovers, Records, fingerprint, identity
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
        table_suffix: ".csv" or ".parquet".
    """

    save: tuple[str, ...] = ("labels", "table")
    filters: Filters = Filters()
    scale: float | tuple[float, float] | str | None = None
    pixel_size: float | tuple[float, float] | None = None
    diameter: float | str | None = None
    channels: str | Sequence[int | str] | None = None
    z: str | int | None = None
    level: int | None = None
    table_suffix: str = ".csv"

    def __post_init__(self) -> None:
        check_formats(self.save)
        for name in ("scale", "pixel_size", "diameter"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                as_pair(value, name)


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
        if settings.diameter is not None and settings.scale is None:
            predictor.check_knows_diameter()
        self.description = describe(predictor, settings)
        self.records = Records(output, fingerprint(self.description))
        self._leftovers = Leftovers()
        # Outputs of this run -> names of their files under the inputs.
        self._owners: dict[str, Path] = {}

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
                    self._owners.update(dict.fromkeys(found.outputs, relative))
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
        settings = self.settings
        return open_image(path, channels=settings.channels, z=settings.z, level=settings.level)

    def _prepare(self, source: ImageSource) -> PreparedImage:
        settings = self.settings
        return self.predictor.prepare(
            source, pixel_size=settings.pixel_size, scale=settings.scale, diameter=settings.diameter
        )

    def _frames(self, files: list[tuple[Path, Path]]) -> Iterator[_Frame]:
        """Open, read and prepare, in the reading thread."""
        for path, relative in files:
            began = time.perf_counter()
            number, source, of_file = 0, None, {}
            names: tuple[str, ...] = ("",)
            try:
                source = self._open(path)
                of_file = identity(path)
                names = source.frames or ("",)
                for number, name in enumerate(names):
                    frame = source.frame(number) if source.frames else source
                    is_last = number == len(names) - 1
                    prepared = self._prepare(frame)
                    yield _Frame(path, relative, number, name, is_last, source, prepared, began=began, identity=of_file)
            except Exception as error:
                yield _Frame(path, relative, number, source=source, error=error, began=began)

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
            if frame.number == 0:
                self.records.forget(frame.relative)
            if frame.error is not None:
                raise frame.error
            assert prediction is not None
            if result.status != "failed":
                self._write(frame, prediction.filtered(self.settings.filters), result)
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
        paths = {name: self._path(name, frame) for name in self.settings.save}
        for path in paths.values():
            self._claim(path, frame.relative)
        for name, path in paths.items():
            self._leftovers.remove(path)
            write = writer_of(name, prediction.objects.shape, WRITERS[name].write)
            # Programs that read COCO look for the image by its name; a frame has none of its own.
            named = {"image_name": frame.path.name} if name == "coco" and not frame.name else {}
            write(prediction.objects, path, image=prediction.image, **named)
            result.outputs.append(path.relative_to(self.output).as_posix())
        result.num_objects += len(prediction)
        result.num_cut += prediction.num_cut
        result.at_limit |= prediction.at_limit

    def _claim(self, path: Path, relative: Path) -> None:
        """Page 0 of a.tif and a_p000.tif have one name, and so have the masks of t001.png and 001.png."""
        output = path.relative_to(self.output).as_posix()
        owner = self._owners.setdefault(output, relative)
        if owner != relative:
            raise SourceError(
                f"{output} would be an output of {owner} and of {relative}; rename one of them, or predict it alone "
                "into another folder"
            )

    def _path(self, name: str, frame: _Frame) -> Path:
        """Where an output goes. The masks of a time series lie in one folder: that of a file with frames is its name;
        files that are time points themselves (t012.tif) share their folder."""
        stem = self.output / frame.relative.parent / frame.relative.stem
        writer = WRITERS[name]
        if name == "ctc":
            time_point = _TIME_POINT.fullmatch(frame.relative.stem)
            if not frame.name and time_point:
                return writer.path(stem.parent, int(time_point[1]))
            return writer.path(stem, frame.number)
        suffix = self.settings.table_suffix if name == "table" else None
        return writer.path(f"{stem}_{frame.name}" if frame.name else stem, suffix=suffix)


def _reason(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removeprefix(f"{path}: ")
