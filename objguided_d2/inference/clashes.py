"""Files that would write one output: page 0 of a.tif and a_p000.tif, or the CTC masks of t001.png and 001.png.

They are told from the whole list of files, before it is divided among processes that do not see each other's outputs.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..data.source_error import SourceError
from .file_pipeline import PredictSettings, open_frames, output_path
from .readers import is_picture
from .records import has_record

# Gives the (number, name) of each frame of a file by its name under the inputs.
_FramesOf = Callable[[Path], list[tuple[int, str]]]


def find_clashes(files: Sequence[tuple[Path, Path]], output: Path, settings: PredictSettings) -> dict[Path, str]:
    """The files that cannot be predicted because others write an output of theirs.

    Of such files the one that the output folder has a record of keeps the output, else the first one. Files whose names
    rule a clash out are not opened.

    Args:
        files: (path, name under the inputs) of all files of a run.
        output: folder of the outputs.

    Returns:
        what to tell of each, by its name under the inputs.
    """
    paths = {relative: path for path, relative in files}
    frames_of = functools.cache(lambda relative: _frames(paths[relative], settings))
    suspects = {*_named_as_frames(paths, frames_of)}
    if "ctc" in settings.save:
        suspects |= {*_of_one_mask_folder(paths, settings)}
    in_order = sorted(filter(suspects.__contains__, paths), key=lambda relative: not has_record(output, relative))
    owners: dict[Path, Path] = {}
    clashes = {}
    for relative in in_order:
        outputs = {
            output_path(name, relative, frame, number, settings)
            for number, frame in frames_of(relative)
            for name in settings.save
        }
        if taken := min(outputs & owners.keys(), default=None):
            clashes[relative] = (
                f"{taken.as_posix()} would be an output of {owners[taken]} and of {relative}; rename one of them, or "
                "predict it alone into another folder"
            )
        else:
            owners |= dict.fromkeys(outputs, relative)
    return clashes


def _named_as_frames(files: Iterable[Path], frames_of: _FramesOf) -> Iterator[Path]:
    """Files with frames, and those whose names begin with theirs and an underscore."""
    by_stem = {relative.parent / relative.stem: relative for relative in files}
    for stem, longer in by_stem.items():
        for end in (i for i, letter in enumerate(stem.name) if i and letter == "_"):
            shorter = by_stem.get(stem.parent / stem.name[:end])
            if shorter is not None and any(frame for _, frame in frames_of(shorter)):
                yield from (shorter, longer)


def _of_one_mask_folder(files: Iterable[Path], settings: PredictSettings) -> Iterator[Path]:
    """Files of one CTC mask, taken for single images, and those in a folder that has a file's name."""
    by_stem = {relative.parent / relative.stem: relative for relative in files}
    by_mask = defaultdict(list)
    for relative in files:
        by_mask[output_path("ctc", relative, "", 0, settings)].append(relative)
        if relative.parent in by_stem:
            yield from (by_stem[relative.parent], relative)
    for rivals in by_mask.values():
        if len(rivals) > 1:
            yield from rivals


def _frames(path: Path, settings: PredictSettings) -> list[tuple[int, str]]:
    try:
        if is_picture(path):
            return [(0, "")]
        source, numbers = open_frames(path, settings)
        with source:
            return [(number, source.frames[number] if source.frames else "") for number in numbers]
    except (SourceError, ImportError):
        # It writes nothing; the run reports it.
        return []
