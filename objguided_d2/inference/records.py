"""What a long run has done: a record a file, written after its outputs, and the summary of the run.

A file is one unit of work: its record says that all of its outputs are there, and what they were made from and with. A
run that was killed goes on where its records end; shards and workers need no other agreement.
"""

import csv
import dataclasses
import hashlib
import io
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from .. import __version__
from ..utils.atomic_write import write_text

FOLDER = ".objguided"
# What a later call tells again of a file that is done.
_TOLD = ("num_cut", "at_limit")
_PACKAGES = ("torch", "detectron2", "numpy", "Pillow", "opencv-python-headless", "tifffile", "scikit-image")


@dataclasses.dataclass
class FileResult:
    """What became of a file.

    Attributes:
        status: "done", "skipped" (its record was there), or "failed".
        num_objects: over all of its frames.
        outputs: paths under the output folder.
        seconds: of reading, network and writing.
        reason: why it failed, in one line.
        num_cut: objects that may lack a part, see :class:`.prediction.Prediction`.
        at_limit: whether there may be more objects than were found in one of its frames, see there.
    """

    status: str
    num_objects: int = 0
    outputs: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    reason: str = ""
    num_cut: int = 0
    at_limit: bool = False


class Records:
    """Records of the files of one output folder.

    Args:
        output: the folder.
        fingerprint: of the model and of every setting that outputs depend on.
    """

    def __init__(self, output: Path, fingerprint: str) -> None:
        self.output, self.fingerprint = output, fingerprint

    def find(self, path: Path, relative: Path) -> FileResult | None:
        """The result of an earlier call, if the file and the settings are the same and the outputs are there."""
        record = self._read(relative)
        try:
            valid = record["fingerprint"] == self.fingerprint and record["source"] == identity(path)
            there = all((self.output / output).exists() for output in record["outputs"])
            if valid and there:
                told = {name: record[name] for name in _TOLD}
                return FileResult("skipped", record["num_objects"], record["outputs"], **told)
        except (OSError, KeyError, TypeError):
            # None, or of another program: the file is predicted again.
            pass
        return None

    def write(self, source: dict, relative: Path, result: FileResult) -> None:
        """Record that all outputs of a file are there.

        Args:
            source: :func:`identity` of the file when it was opened; it may have changed or gone since.
        """
        record = {
            "fingerprint": self.fingerprint,
            "source": source,
            "num_objects": result.num_objects,
            **{name: getattr(result, name) for name in _TOLD},
            "outputs": result.outputs,
            "written": time.time(),
        }
        self._write(relative, record)

    def forget(self, relative: Path) -> None:
        """Before outputs are replaced: they and the record no longer belong together, which it goes on to list."""
        if record := self._read(relative):
            self._write(relative, {**record, "fingerprint": None})

    def remove_stale(self, source: dict, relative: Path, outputs: Sequence[str]) -> list[str]:
        """Remove outputs of the file as it was, by its record, that it has no longer. What anyone wrote since stays.

        Args:
            source: :func:`identity` of the file now.
            outputs: of the file now, under the output folder.

        Returns:
            what is removed, under the output folder.
        """
        record = self._read(relative)
        then = record.get("source", {})
        if all(source[key] == then.get(key) for key in ("bytes", "mtime_ns")):
            return []
        removed = []
        for output in record.get("outputs", ()):
            path = self.output / output
            inside = self.output in path.parents and ".." not in Path(output).parts
            if output in outputs or not inside or not path.exists():
                continue
            if path.stat().st_mtime <= record.get("written", 0):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(output)
        return removed

    def _write(self, relative: Path, record: dict) -> None:
        write_text(_record_file(self.output, relative), json.dumps(record, indent=1) + "\n")

    def _read(self, relative: Path) -> dict:
        """A record; {} where there is none, or of a killed or other program."""
        try:
            record = json.loads(_record_file(self.output, relative).read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def has_record(output: Path, relative: Path) -> bool:
    """Whether a file has been predicted into an output folder, be it another one by now."""
    return _record_file(output, relative).exists()


def _record_file(output: Path, relative: Path) -> Path:
    return output / FOLDER / relative.parent / f"{relative.name}.json"


def fingerprint(values: dict) -> str:
    """sha256 of settings, the same for the same values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def write_errors(path: Path, failed: Sequence[tuple[str, str]]) -> None:
    """``errors.csv``: file and reason of each failure. Without one, a file of an earlier run is removed."""
    if not failed:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "reason"])
    writer.writerows(failed)
    # A name that is no UTF-8, as of an old disk, is one as well.
    write_text(path, text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8"))


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    found = {"objguided_d2": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> list[str]:
    """The command of this process."""
    return list(sys.argv)


def identity(path: Path) -> dict:
    """What tells whether a file is still the same: size and time of change, of a folder (Zarr) those of all in it.

    Raises:
        OSError: if it is gone.
    """
    stat = path.stat()
    stats = [entry.stat() for entry in _files_below(os.fspath(path))] if path.is_dir() else [stat]
    return {
        "path": str(path.resolve()),
        "bytes": sum(one.st_size for one in stats),
        "mtime_ns": max(one.st_mtime_ns for one in (stat, *stats)),
    }


def _files_below(folder: str) -> Iterator[os.DirEntry]:
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _files_below(entry.path)
        else:
            yield entry
