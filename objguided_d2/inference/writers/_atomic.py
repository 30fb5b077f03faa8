"""Files and folders that are either complete or not there: written under a temporary name, then renamed."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which takes its name when the block ends without an error.

    Args:
        path: of a file; its folder is created.
    """
    target = Path(path)
    temporary = _temporary(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, which takes its name when the block ends without an error.

    Args:
        path: of a folder; one that is there is replaced.
    """
    target = Path(path)
    temporary = _temporary(target)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if target.exists():
            # Only an empty folder can be replaced in one step.
            old = _temporary(target)
            os.replace(target, old)
            os.replace(temporary, target)
            shutil.rmtree(old)
        else:
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}{target.suffix}")
