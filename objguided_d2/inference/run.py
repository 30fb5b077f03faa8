"""Folders of images to folders of results: a run that can be killed, split and called again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from ..data.source_error import SourceError
from ..utils.atomic_write import write_text
from .clashes import find_clashes
from .file_pipeline import FilePipeline, PredictSettings
from .inputs import list_inputs
from .predictor import Predictor
from .records import FileResult, command_line, identity, versions, write_errors

Files = list[tuple[Path, Path]]
# Predicts files until it is asked to stop: (files, stop, progress) -> results by name.
Execute = Callable[[Files, Callable[[], bool], bool], dict[str, FileResult]]


class OutputError(SourceError):
    """An output folder that cannot be one. The message names it."""


@dataclasses.dataclass
class RunSummary:
    """What became of a run: ``files`` by their name under the inputs; ``interrupted`` by Ctrl-C; whether it is
    ``reported`` in ``run.json`` and ``errors.csv``, or these could not be written.
    """

    files: dict[str, FileResult]
    seconds: float
    interrupted: bool = False
    reported: bool = True

    def count(self, status: str) -> int:
        return sum(result.status == status for result in self.files.values())

    @property
    def exit_code(self) -> int:
        """0 if all went well, 2 if a file failed or the report of the run, 130 after Ctrl-C."""
        return 130 if self.interrupted else 2 if self.count("failed") or not self.reported else 0

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
    and what became of each file; that it cannot be written is told on standard error. Ctrl-C ends the run after the
    file in work.

    Args:
        inputs: files, folders and globs, see :func:`.inputs.list_inputs`.
        shard: (I, N) from 1: predict the I-th of N parts of the files, the same for any order of calls.
        progress: show a bar.

    Raises:
        SourceError: if there is no input, or all of them lie in the output folder.
    """
    settings, output = settings or PredictSettings(), Path(output)
    pipeline = FilePipeline(predictor, output, settings)
    files = list_files(inputs, output)
    clashes = find_clashes(files, output, settings)
    return execute_and_report(
        of_shard(files, shard), pipeline, pipeline.description, output, clashes, shard=shard, progress=progress
    )


def list_files(inputs: Sequence[str | Path], output: Path) -> Files:
    """(path, name under the inputs) of the images of a call and of all of its shards.

    Raises:
        SourceError: if there are none.
        OutputError: if all of them lie in the output folder.
    """
    # Outputs of an earlier run in a folder below the inputs are no inputs.
    own = Path(os.path.realpath(output))
    # Path.resolve raises for a loop of links, which is one bad file among others.
    found = [
        (path, relative) for path, relative in list_inputs(inputs) if own not in Path(os.path.realpath(path)).parents
    ]
    if not found:
        raise OutputError(f"all images lie in the output folder {output}, as results do; give another --output")
    return found


def of_shard(files: Files, shard: tuple[int, int] | None) -> Files:
    """The part (I, N) of the files: by their names alone, so that shards agree whatever else each of them sees."""
    if shard is None:
        return files
    number, count = shard
    hashes = (hashlib.sha256(os.fsencode(relative.as_posix())).hexdigest() for _, relative in files)
    return [file for file, digest in zip(files, hashes) if int(digest, 16) % count == number - 1]


def execute_and_report(
    files: Files,
    execute: Execute,
    description: dict,
    output: Path,
    clashes: dict[Path, str],
    *,
    shard: tuple[int, int] | None = None,
    progress: bool = True,
    earlier: dict[str, FileResult] | None = None,
) -> RunSummary:
    """Predict files and write ``run.json`` and ``errors.csv``, also of those of ``earlier`` calls.

    Args:
        description: of model and settings, for ``run.json``.
        clashes: why some of the files, or others, are not predicted, see :func:`.clashes.find_clashes`.
    """
    output.mkdir(parents=True, exist_ok=True)
    started, begin = _now(), time.perf_counter()
    with _stop_on_interrupt() as stop:
        predicted = execute([one for one in files if one[1] not in clashes], lambda: stop.requested, progress)
    results = {}
    for path, relative in files:
        name = relative.as_posix()
        if relative in clashes:
            results[name] = FileResult("failed", reason=clashes[relative])
            tqdm.write(f"{path}: {clashes[relative]}", file=sys.stderr)
        elif name in predicted:
            results[name] = predicted[name]
    summary = RunSummary(results, time.perf_counter() - begin, stop.requested)
    reported = {**(earlier or {}), **results}
    part = f"-{shard[0]}of{shard[1]}" if shard else ""
    report = {
        **description,
        "command": command_line(),
        "versions": versions(),
        "started": started,
        "finished": _now(),
        "seconds": round(summary.seconds, 3),
        "interrupted": summary.interrupted,
        "num_files": len(files) + len(earlier or {}),
        "files": {name: dataclasses.asdict(result) for name, result in reported.items()},
    }
    failed = [(name, result.reason) for name, result in reported.items() if result.status == "failed"]
    try:
        write_errors(output / f"errors{part}.csv", failed)
        write_text(output / f"run{part}.json", json.dumps(report, indent=1, default=str) + "\n")
    except OSError as error:
        summary.reported = False
        told = f"error: {error}; what is done stays done, the same command writes the report of the run"
        tqdm.write(told, file=sys.stderr)
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
    pipeline = FilePipeline(predictor, output, settings)
    taken: dict[Path, int] = {}
    total = RunSummary({}, 0.0)
    number = 0
    while True:
        number += 1
        arrived = []
        try:
            files = list_files(inputs, output)
        except OutputError:
            raise
        except SourceError:
            files = []  # A folder that is still empty is none that is wrong.
        for path, relative in of_shard(files, shard):
            with contextlib.suppress(OSError):  # It may be gone meanwhile.
                changed = identity(path)["mtime_ns"]
                if taken.get(path) != changed and abs(time.time() - changed / 1e9) >= settle:
                    taken[path] = changed
                    arrived.append((path, relative))
        if arrived:
            summary = execute_and_report(
                arrived,
                pipeline,
                pipeline.description,
                output,
                find_clashes(files, output, settings),
                shard=shard,
                progress=progress,
                earlier=total.files,
            )
            total.files.update(summary.files)
            total.seconds += summary.seconds
            total.interrupted, total.reported = summary.interrupted, summary.reported
        if total.interrupted or number == max_rounds:
            return total
        try:
            time.sleep(interval)
        except KeyboardInterrupt:
            return total


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


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
