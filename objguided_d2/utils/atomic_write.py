"""Files and folders, complete or as they were: written under a temporary name in the same folder, then renamed.

What a killed process has left under such a name goes when the same file or folder is written later.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .full_disk import is_full_disk

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
# As :func:`_new_temporary` makes it.
_TEMPORARY = re.compile(
    r"\.(?P<stem>.+)\.(?P<process>\d{1,9})-(?P<host>[0-9a-f]{8})[0-9a-f]{8}(?P<suffix>\.[^.]*|)",
)
# Seconds. Who still writes on another machine that shares the folder has touched the file since.
_ABANDONED_AFTER = 600
# Folder -> name -> its leftovers, and whether their process is known to be gone. A folder of a hundred thousand outputs
# is listed once, not at each of them.
_leftovers: dict[Path, dict[str, list[tuple[Path, bool]]]] = {}


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path to write to, which takes the name ``path`` when the block ends without an error.

    The temporary file lies in the same folder, hidden, under a name that no other process has, with the file ending of
    ``path`` for libraries that choose the format by it. After an error it is removed and ``path`` stays as it was.

    Args:
        path: the file; its folder is created.

    Raises:
        OSError: if the file cannot be written (full disk, no permission); it names ``path``.
    """
    target = Path(path)
    temporary = _new_temporary(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        # Before the new name: after a power cut the name must not hold a file without its content.
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        # torch.save hides the write that failed behind a RuntimeError about its own bookkeeping.
        refused = error if isinstance(error, OSError) else error.__context__
        # A failing write() names no file, and nobody knows the temporary one.
        if not isinstance(refused, OSError) or not refused.errno or refused.filename not in (None, str(temporary)):
            raise
        raise OSError(refused.errno, refused.strerror, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, which takes its name when the block ends without an error.

    Args:
        path: of a folder; one that is there is replaced.

    Raises:
        OSError: if the folder cannot be written; it names ``path`` or a file in it.
    """
    target = Path(path)
    temporary = _new_temporary(target)
    try:
        with _errors_of(temporary, target):
            temporary.mkdir(parents=True)
            yield temporary
        if target.exists():
            # Only an empty folder can be replaced in one step.
            old = _new_temporary(target)
            os.replace(target, old)
            os.replace(temporary, target)
            shutil.rmtree(old)
        else:
            os.replace(temporary, target)
    finally:
        _remove(temporary)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text, see :func:`atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: Any, indent: int | None = None) -> None:
    """Write strict JSON, see :func:`atomic_write`.

    Raises:
        ValueError, TypeError: if JSON cannot hold the content; ``path`` is left as it was.
    """
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


@contextlib.contextmanager
def staged_folder(target: Path, stale: Callable[[], Sequence[Path]] = tuple) -> Iterator[Path]:
    """A temporary folder beside ``target`` whose files move into ``target`` when the block ends without an error.

    Files of the same name are replaced, others in ``target`` stay. JSON files move last, so that an annotation file
    never names an image that is not there yet.

    Args:
        stale: gives, after the block, files of ``target`` (relative to it) that are removed before any is moved.

    Raises:
        OSError: if the folder cannot be written; it names ``target`` or a file in it.
    """
    staging = _new_temporary(target)
    try:
        with _errors_of(staging, target):
            staging.mkdir(parents=True)
            yield staging
        files = [path for path in staging.rglob("*") if path.is_file()]
        for path in stale():
            (target / path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (target / path).parent.rmdir()
        for path in sorted(files, key=lambda path: (path.suffix == ".json", path)):
            destination = target / path.relative_to(staging)
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, destination)
    finally:
        _remove(staging)


@contextlib.contextmanager
def _errors_of(temporary: Path, target: Path) -> Iterator[None]:
    """Errors about files of a temporary folder name them as they will be; those of a write that name none, ``target``.

    Whoever reads the message has never seen the temporary name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and is_full_disk(error):
            raise OSError(error.errno, error.strerror, str(target)) from error
        if isinstance(error.filename, str) and temporary in (Path(error.filename), *Path(error.filename).parents):
            named = target / Path(error.filename).relative_to(temporary)
            raise OSError(error.errno, error.strerror, str(named)) from error
        raise


def _remove(folder: Path) -> None:
    """Remove a folder to which threads of a library may still write after an error in one of them, as Zarr's do."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _new_temporary(target: Path) -> Path:
    """A name in the folder of ``target`` that no process has, after what killed ones have left for it is removed."""
    _remove_leftovers(target)
    return target.with_name(f".{target.stem}.{os.getpid()}-{_HOST}{secrets.token_hex(4)}{target.suffix}")


def _remove_leftovers(target: Path) -> None:
    """Remove temporary files and folders of a file or folder that killed processes have left beside it."""
    folder = target.parent
    if folder not in _leftovers:
        found: dict[str, list[tuple[Path, bool]]] = {}
        _leftovers[folder] = found
        with contextlib.suppress(OSError):
            for entry in folder.iterdir():
                if match := _TEMPORARY.fullmatch(entry.name):
                    is_gone = match["host"] == _HOST and not _may_run(int(match["process"]))
                    found.setdefault(match["stem"] + match["suffix"], []).append((entry, is_gone))
    for leftover, is_gone in _leftovers[folder].pop(target.name, ()):
        with contextlib.suppress(OSError):
            is_folder = leftover.is_dir() and not leftover.is_symlink()
            parts = [leftover, *leftover.rglob("*")] if is_folder else [leftover]
            if not is_gone and time.time() - max(part.lstat().st_mtime for part in parts) < _ABANDONED_AFTER:
                continue
            if is_folder:
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _may_run(process: int) -> bool:
    """Whether there may be a process of this number on this machine."""
    if os.name == "nt":  # There the question would be a Ctrl-C.
        return True
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # It may be of another user.
    return True
