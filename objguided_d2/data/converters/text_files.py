"""JSON and text of other programs, in whatever encoding they wrote it."""

import codecs
import json
import re
from collections.abc import Callable
from typing import Any

from ..source_error import SourceError
from .conversion import ConversionNotes

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text(read: Callable[[str], bytes], name: str, notes: ConversionNotes) -> str:
    """The text of a file: UTF-8, UTF-16 with its mark, else Chinese GB 18030 or Western European.

    A run of bytes outside ASCII has an even length in GB 18030, but a letter with an accent is mostly one byte alone.

    Args:
        notes: takes what had to be guessed.
    """
    data = read(name)
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    text, encoding = None, "GB 18030"
    if all(len(run) % 2 == 0 for run in re.findall(rb"[\x80-\xff]+", data)):
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError:
            pass
    if text is None:
        text, encoding = data.decode("cp1252", "replace"), "Western European (cp1252)"
    notes.add(f"text that is not UTF-8, read as {encoding}: look at the class names", name)
    return text


def read_json(read: Callable[[str], bytes], name: str, notes: ConversionNotes) -> Any:
    """The content of a JSON file, see :func:`read_text`.

    Raises:
        SourceError: if it is not JSON.
    """
    try:
        return json.loads(read_text(read, name, notes))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{name} is not JSON ({error}); export it again") from error
