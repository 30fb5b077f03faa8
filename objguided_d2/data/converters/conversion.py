"""What every dataset converter needs on the way in: files from a zip or a folder, and notes on odd files."""

import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from ..source_error import SourceError


def open_source(source: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """List the files of a folder or zip archive without unpacking it.

    Returns:
        sorted file names relative to ``source`` with forward slashes, and a function that reads one of them.
    Raises:
        SourceError: ``source`` is missing or is neither a folder nor a readable zip archive.
    """
    if source.is_dir():
        names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        return sorted(names), lambda name: (source / name).read_bytes()
    if not source.exists():
        raise SourceError(f"{source} does not exist; give the downloaded zip archive or the folder it unpacks to")
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise SourceError(f"{source} is not a complete zip archive ({error}); download it again") from error
    return sorted(name for name in archive.namelist() if not name.endswith("/")), archive.read


class ConversionNotes:
    """File names grouped by what was unusual about them, printed at the end of a conversion."""

    MAX_NAMES = 5

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, name: str) -> None:
        self.names[kind].append(name)

    def __str__(self) -> str:
        lines = []
        for kind, names in sorted(self.names.items()):
            lines.append(f"{kind}: {len(names)}")
            lines += [f"  {name}" for name in names[: self.MAX_NAMES]]
            if len(names) > self.MAX_NAMES:
                lines.append(f"  ... and {len(names) - self.MAX_NAMES} more")
        return "\n".join(lines)
