"""Folders of images to folders of results: a run that can be killed, split and called again.

The unit is "file -> committed output". Reading runs in one thread ahead of the network, writing in another behind it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from ..data.source_error import SourceError
from .filters import Filters
from .image_source import ImageSource, open_image
from .inputs import list_inputs
from .large_labels import writer_of
from .prediction import Prediction, as_pair, check_formats
from .predictor import Predictor, PreparedImage
from .prefetch import prefetch
from .records import (
    FileResult,
    Records,
    command_line,
    fingerprint,
    remove_leftovers,
    versions,
    write_errors,
    write_text,
)
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
                try:
                    as_pair(value)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error


@dataclasses.dataclass
class RunSummary:
    """What became of a run: ``files`` by their name under the inputs; ``interrupted`` by Ctrl-C."""

    files: dict[str, FileResult]
    seconds: float
    interrupted: bool = False

    def count(self, status: str) -> int:
        return sum(result.status == status for result in self.files.values())

    @property
    def exit_code(self) -> int:
        """0 if all went well, 2 if a file failed, 130 after Ctrl-C."""
        return 130 if self.interrupted else 2 if self.count("failed") else 0

    def __str__(self) -> str:
        objects = sum(result.num_objects for result in self.files.values() if result.status == "done")
        rate = self.count("done") / self.seconds if self.seconds else 0.0
        text = (
            f"{self.count('done')} files predicted ({objects} objects, {rate:.2f} files/s), "
            f"{self.count('skipped')} done before, {self.count('failed')} failed"
        )
        return text + ("; stopped by Ctrl-C, the same command goes on" if self.interrupted else "")


def predict_files(
    inputs: Sequence[str | Path],
    predictor: Predictor,
    output: str | Path,
    settings: PredictSettings | None = None,
    *,
    shard: tuple[int, int] | None = None,
    progress: bool = True,
) -> RunSummary:
    """Predict files and write their outputs, under the same names and folders, below ``output``.

    Files that an earlier call has done, with the same model and settings, are skipped. A file that cannot be predicted
    is listed with its reason in ``errors.csv``, and the rest goes on. ``run.json`` holds the model, settings, versions
    and what became of each file. Ctrl-C ends the run after the file in work.

    Args:
        inputs: files, folders and globs, see :func:`.inputs.list_inputs`.
        shard: (I, N) from 1: predict the I-th of N parts of the files, the same for any order of calls.
        progress: show a bar.

    Raises:
        SourceError: if there is no input.
    """
    settings, output = settings or PredictSettings(), Path(output)
    files = _list_files(inputs, output, shard)
    return _predict_listed(files, predictor, output, settings, shard, progress, {})


def _list_files(inputs: Sequence[str | Path], output: Path, shard: tuple[int, int] | None) -> list[tuple[Path, Path]]:
    # Outputs of an earlier run in a folder below the inputs are no inputs.
    own = output.resolve()
    return [
        (path, relative)
        for path, relative in list_inputs(inputs)
        if _in_shard(relative, shard) and own not in path.resolve().parents
    ]


def _predict_listed(
    files: list[tuple[Path, Path]],
    predictor: Predictor,
    output: Path,
    settings: PredictSettings,
    shard: tuple[int, int] | None,
    progress: bool,
    earlier: dict[str, FileResult],
) -> RunSummary:
    """Predict files and report on them, and on those of ``earlier`` rounds."""
    output.mkdir(parents=True, exist_ok=True)
    described = _describe(predictor, settings)
    run = _Run(predictor, output, settings, Records(output, fingerprint(described)))
    started, begin = _now(), time.perf_counter()
    with _stop_on_interrupt() as stop:
        results = run(files, stop, progress)
    summary = RunSummary(results, time.perf_counter() - begin, stop.requested)
    reported = {**earlier, **results}
    part = f"-{shard[0]}of{shard[1]}" if shard else ""
    failed = [(name, result.reason) for name, result in reported.items() if result.status == "failed"]
    write_errors(output / f"errors{part}.csv", failed)
    report = {
        **described,
        "command": command_line(),
        "versions": versions(),
        "device": str(predictor.device),
        "started": started,
        "finished": _now(),
        "seconds": round(summary.seconds, 3),
        "interrupted": summary.interrupted,
        "num_files": len(files) + len(earlier),
        "files": {name: dataclasses.asdict(result) for name, result in reported.items()},
    }
    write_text(output / f"run{part}.json", json.dumps(report, indent=1, default=str) + "\n")
    return summary


def watch_files(
    inputs: Sequence[str | Path],
    predictor: Predictor,
    output: str | Path,
    settings: PredictSettings | None = None,
    *,
    interval: float = 2.0,
    settle: float = 2.0,
    max_rounds: int | None = None,
    shard: tuple[int, int] | None = None,
    progress: bool = True,
) -> RunSummary:
    """:func:`predict_files` for files as they arrive, until Ctrl-C.

    Args:
        interval: seconds between two looks at the inputs.
        settle: a file is complete when it has not changed for so many seconds; a failed one gets another try when it
            changes.
        max_rounds: looks after which to stop; None goes on.

    Returns:
        what became of each file in the last look that took it up.
    """
    settings, output = settings or PredictSettings(), Path(output)
    taken: dict[Path, int] = {}
    total = RunSummary({}, 0.0)
    number = 0
    while True:
        number += 1
        arrived = []
        # A folder that is still empty is none that is wrong.
        with contextlib.suppress(SourceError):
            for path, relative in _list_files(inputs, output, shard):
                changed = path.stat().st_mtime_ns if path.exists() else None
                if changed is not None and taken.get(path) != changed and time.time() - changed / 1e9 >= settle:
                    taken[path] = changed
                    arrived.append((path, relative))
        if arrived:
            summary = _predict_listed(arrived, predictor, output, settings, shard, progress, total.files)
            total.files.update(summary.files)
            total.seconds += summary.seconds
            total.interrupted = summary.interrupted
        if total.interrupted or number == max_rounds:
            return total
        try:
            time.sleep(interval)
        except KeyboardInterrupt:
            return total


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


class _Run:
    """One pass over files, see :func:`predict_files`."""

    def __init__(self, predictor: Predictor, output: Path, settings: PredictSettings, records: Records) -> None:
        self.predictor, self.output, self.settings, self.records = predictor, output, settings, records

    def __call__(self, files: list[tuple[Path, Path]], stop: _Stop, progress: bool) -> dict[str, FileResult]:
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
                    if stop.requested:
                        break
            if writing is not None:
                writing.result()
        return {
            relative.as_posix(): results[relative.as_posix()] for _, relative in files if relative.as_posix() in results
        }

    def _frames(self, files: list[tuple[Path, Path]]) -> Iterator[_Frame]:
        """Open, read and prepare, in the reading thread."""
        settings = self.settings
        for path, relative in files:
            began = time.perf_counter()
            number, source = 0, None
            names: tuple[str, ...] = ("",)
            try:
                source = open_image(path, channels=settings.channels, z=settings.z, level=settings.level)
                names = source.frames or ("",)
                for number, name in enumerate(names):
                    frame = source.frame(number) if source.frames else source
                    prepared = self.predictor.prepare(
                        frame, pixel_size=settings.pixel_size, scale=settings.scale, diameter=settings.diameter
                    )
                    is_last = number == len(names) - 1
                    yield _Frame(path, relative, number, name, is_last, source, prepared, began=began)
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
            self.records.write(frame.path, frame.relative, result)
        else:
            tqdm.write(f"{frame.path}: {result.reason}", file=sys.stderr)
        results[frame.relative.as_posix()] = result
        bar.update()

    def _write(self, frame: _Frame, prediction: Prediction, result: FileResult) -> None:
        for name in self.settings.save:
            path = self._path(name, frame)
            remove_leftovers(path)
            write = writer_of(name, prediction.objects.shape, WRITERS[name].write)
            write(prediction.objects, path, image=prediction.image)
            result.outputs.append(path.relative_to(self.output).as_posix())
        result.num_objects += len(prediction)
        result.num_cut += prediction.num_cut

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


class _Stop:
    requested = False


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[_Stop]:
    """The first Ctrl-C is a request, the second acts at once. In another thread than the main one signals stay."""
    stop = _Stop()

    def receive(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, former)
        tqdm.write("Stopping after the file in work; Ctrl-C once more to stop at once.", file=sys.stderr)

    try:
        former = signal.signal(signal.SIGINT, receive)
    except ValueError:
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, former)


def _describe(predictor: Predictor, settings: PredictSettings) -> dict:
    """Everything that outputs depend on."""
    return {
        "model": {"sha256": predictor.model_hash, "classes": list(predictor.info.class_names)},
        "settings": {
            **dataclasses.asdict(settings),
            "score_threshold": predictor.score_threshold,
            "tile": predictor.tile,
            "halo": predictor.halo,
        },
    }


def _in_shard(relative: Path, shard: tuple[int, int] | None) -> bool:
    """By the name alone, so that shards agree whatever else each of them sees."""
    if shard is None:
        return True
    number, count = shard
    return int(hashlib.sha256(relative.as_posix().encode()).hexdigest(), 16) % count == number - 1


def _reason(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removeprefix(f"{path}: ")


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
