"""JSON and text of other programs, in whatever encoding they wrote it."""

import codecs
import json
import re
from collections.abc import Callable
from typing import Any

from ..source_error import SourceError

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text(read: Callable[[str], bytes], name: str) -> str:
    """The text of a file: UTF-8, UTF-16 with its mark, else Chinese GB 18030 or Western European.

    A run of bytes outside ASCII has an even length in GB 18030, but a letter with an accent is mostly one byte alone.
    """
    data = read(name)
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    if all(len(run) % 2 == 0 for run in re.findall(rb"[\x80-\xff]+", data)):
        try:
            return data.decode("gb18030")
        except UnicodeDecodeError:
            pass
    return data.decode("cp1252", "replace")


def read_json(read: Callable[[str], bytes], name: str) -> Any:
    """The content of a JSON file.

    Raises:
        SourceError: if it is not JSON.
    """
    try:
        return json.loads(read_text(read, name))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{name} is not JSON ({error}); export it again") from error
