"""What every dataset converter needs on the way in: files from a zip or a folder, and notes on odd files."""

import zipfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..decode_limit import check_bytes
from ..source_error import SourceError

_OTHER_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def open_source(source: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """List the files of a folder or zip archive without unpacking it.

    Returns:
        sorted file names relative to ``source`` with forward slashes, and a function that reads one of them; it raises
        SourceError for a file that cannot be read or unpacks to more than :mod:`..decode_limit` allows.
    Raises:
        SourceError: ``source`` is missing or is neither a folder nor a readable zip archive.
    """
    if source.is_dir():
        names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        return sorted(names), partial(_read_file, source)
    if not source.exists():
        raise SourceError(f"{source} does not exist; give the downloaded zip archive or the folder it unpacks to")
    if source.suffix.lower() in _OTHER_ARCHIVES:
        raise SourceError(f"{source} is an archive of a kind that is not read; unpack it and give the folder")
    try:
        archive = zipfile.ZipFile(source)
        # Some programs on Windows write backslashes.
        members = {info.filename.replace("\\", "/"): info for info in archive.infolist() if not info.is_dir()}
    except Exception as error:  # of a damaged directory zipfile raises whatever it stumbles over
        raise SourceError(f"{source} is not a complete zip archive ({error}); download it again") from error
    return sorted(members), partial(_read_member, archive, members)


def _read_file(folder: Path, name: str) -> bytes:
    try:
        check_bytes((folder / name).stat().st_size, name)
        return (folder / name).read_bytes()
    except OSError as error:
        raise SourceError(f"{name} cannot be read ({error.strerror or error}); check the file") from error


def _read_member(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> bytes:
    info = members[name]
    check_bytes(info.file_size, name)
    if info.flag_bits & 1:
        raise SourceError(f"{name} is encrypted; unpack {archive.filename} with its password and give the folder")
    try:
        return archive.read(info)
    except NotImplementedError as error:
        raise SourceError(
            f"{name} is compressed in a way that Python does not unpack ({error}); unpack {archive.filename} with the "
            "program that made it and give the folder"
        ) from error
    except Exception as error:  # zlib.error, BadZipFile, EOFError and others of a damaged archive
        raise SourceError(f"{name} cannot be read from its archive ({error}); download it again") from error


class ConversionNotes:
    """File names grouped by what was unusual about them: printed in short at the end of a conversion, kept in full.

    Attributes:
        num_left_out: files and shapes that should have been converted and were not.
    """

    MAX_NAMES = 5

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = defaultdict(list)
        self.num_left_out = 0

    def add(self, kind: str, name: str) -> None:
        """Note a file that is converted all the same."""
        self.names[kind].append(name)

    def leave_out(self, name: str, kind: str = "left out") -> None:
        """Note a file or shape that is not converted, with the reason in ``name`` or ``kind``."""
        self.names[kind].append(name)
        self.num_left_out += 1

    def full_text(self) -> str:
        """Everything, a line each."""
        return "".join(f"{kind}: {name}\n" for kind, names in sorted(self.names.items()) for name in names)

    def __str__(self) -> str:
        lines = []
        for kind, names in sorted(self.names.items()):
            lines.append(f"{kind}: {len(names)}")
            lines += [f"  {name}" for name in names[: self.MAX_NAMES]]
            if len(names) > self.MAX_NAMES:
                lines.append(f"  ... and {len(names) - self.MAX_NAMES} more")
        return "\n".join(lines)
