"""The ``metrics.json`` of a run, a JSON object on each line. One that is killed may leave half a line at its end."""

import json
import os
from pathlib import Path


def read_metrics(path: Path) -> list[dict]:
    """The objects of the whole lines, in the order of the file. Half a line at its end is left out.

    Raises:
        ValueError: if another line is no JSON; names the file, the line and what to do.
        OSError: if there is no such file.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is no JSON ({error}); remove that line") from error
    return records


def cut_half_line(path: str | os.PathLike) -> None:
    """Cut off what stands behind the last end of a line, to which a resumed run would append; without a file nothing.

    Raises:
        OSError: if the file cannot be written.
    """
    path = Path(path)
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
