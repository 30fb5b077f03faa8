"""The images that a call means: files, folders and globs as one list."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..data.source_error import SourceError
from .readers import is_image, is_zarr
from .records import FOLDER

# The table of such an image would be the list of a run's failures.
_RESERVED = re.compile(r"errors(-\d+of\d+)?", re.IGNORECASE)


def list_inputs(inputs: Iterable[str | Path]) -> list[tuple[Path, Path]]:
    """List the images of files, folders and globs.

    A folder gives the images in it and in its subfolders, those behind symbolic links too, each folder once; hidden
    files and subfolders with the results of a run are left out. A file that is named, or that a glob names, is listed
    whatever its ending. A folder with the ending of an image that holds none is listed as one, so that reading it says
    what is wrong.

    Args:
        inputs: paths or patterns (``*``, ``?``, ``[...]``, ``**``); what exists under its name is no pattern.

    Returns:
        (path, relative) of each image, in order of the inputs and sorted within each, no path twice. ``relative`` is
        the path under the folder that was given, or the file's name; it is different for each image even without its
        ending, so outputs can be named by it.
    Raises:
        SourceError: if an input does not exist, a pattern matches nothing, or nothing is found at all.
    """
    found: dict[Path, Path] = {}
    given = [str(one) for one in inputs]
    for text in given:
        for path, relative in _images_of(text):
            found.setdefault(path, relative)
    if not found:
        raise SourceError(f"no image found in {', '.join(given) or 'an empty list of inputs'}")
    return _with_unique_names(found)


def _images_of(text: str) -> Iterator[tuple[Path, Path]]:
    path = Path(text)
    if os.path.lexists(path):
        if path.is_dir() and not is_zarr(path):
            yield from _images_in(path)
        else:
            yield path, Path(path.name or path.resolve().name)
        return
    if not glob.has_magic(text):
        raise SourceError(f"{path} does not exist")
    matches = sorted(glob.glob(text, recursive=True))
    if not matches:
        raise SourceError(f"no file matches {text}")
    root = _fixed_prefix(path)
    inside: set[Path] = set()
    for match in map(Path, matches):
        if any(parent in inside for parent in match.parents):
            continue
        if match.is_dir() and not is_zarr(match):
            # `**` lists a folder beside what is in it.
            if "**" not in path.parts:
                yield from ((image, match.relative_to(root) / relative) for image, relative in _images_in(match))
            continue
        if is_zarr(match):
            inside.add(match)
        if "**" not in path.parts or is_image(match):
            yield match, match.relative_to(root)


def _fixed_prefix(pattern: Path) -> Path:
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _images_in(folder: Path) -> list[tuple[Path, Path]]:
    images: list[Path] = []
    seen: set[str] = set()

    def visit(path: Path) -> None:
        real = os.path.realpath(path)
        if real in seen:
            return
        seen.add(real)
        try:
            entries = sorted(path.iterdir())
        except OSError as error:
            raise SourceError(f"{path} cannot be listed: {error.strerror}") from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir() and not is_zarr(entry):
                if (entry / FOLDER).is_dir():
                    continue
                before = len(images)
                visit(entry)
                if len(images) == before and is_image(entry):
                    images.append(entry)
            elif is_image(entry):
                images.append(entry)

    visit(folder)
    return [(image, image.relative_to(folder)) for image in images]


def _with_unique_names(found: dict[Path, Path]) -> list[tuple[Path, Path]]:
    by_stem: dict[str, list[Path]] = {}
    for path, relative in found.items():
        by_stem.setdefault(str(relative.with_suffix("")).lower(), []).append(path)
    clashes = [stem for stem, paths in by_stem.items() if len(paths) > 1 or _RESERVED.fullmatch(stem)]
    taken = by_stem.keys() - set(clashes) | {stem for stem in clashes if _RESERVED.fullmatch(stem)}
    unique = dict(found)
    for paths in map(by_stem.__getitem__, clashes):
        for path in paths:
            unique[path] = _distinct(path, found[path], paths, taken)
            taken.add(str(unique[path].with_suffix("")).lower())
    return list(unique.items())


def _distinct(path: Path, relative: Path, rivals: list[Path], taken: set[str]) -> Path:
    """A name for an image whose own, without ending, is that of others too: with its folder, ending or a number."""
    parents = [os.path.abspath(one.parent) for one in rivals]
    under = Path(os.path.abspath(path)).relative_to(os.path.commonpath(parents))
    base = under if len(set(parents)) == len(rivals) else relative
    candidates = [base] if base is under else []
    ending = path.suffix.lstrip(".")
    named = base.with_name(f"{base.stem}_{ending}{base.suffix}")
    candidates += [named] + [named.with_name(f"{named.stem}_{i}{named.suffix}") for i in range(2, len(rivals) + 2)]
    return next(one for one in candidates if str(one.with_suffix("")).lower() not in taken)
