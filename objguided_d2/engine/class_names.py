"""The class names that a training leaves beside its config."""

import json
import os
from pathlib import Path

# In OUTPUT_DIR: a JSON list of the names, in the order of the classes.
CLASS_NAMES_FILE = "class_names.json"


def read_class_names(run_folder: str | os.PathLike) -> tuple[str, ...]:
    """The names of a run, empty for one that left none.

    Raises:
        ValueError: if the file holds something else; the message names it.
    """
    path = Path(run_folder) / CLASS_NAMES_FILE
    if not path.is_file():
        return ()
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); remove it, or copy it from the training again") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} must hold a list of class names; remove it, or copy it from the training again")
    return tuple(names)
