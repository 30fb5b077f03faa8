"""The check of config values that every part of a model makes where it is built."""

from collections.abc import Iterable
from typing import Any


def check_values(section: str, values: Iterable[tuple[str, Any, bool]]) -> None:
    """Refuse values that a part cannot be built with.

    Args:
        section: of the config, as ``MODEL.CENTER_HEAD``.
        values: key, value, and whether it is valid.

    Raises:
        ValueError: names the first key whose value is not.
    """
    for key, value, valid in values:
        if not valid:
            raise ValueError(f"{section}.{key} = {value!r} is not valid; config.py says what is")
