"""Where datasets are."""

import os
from pathlib import Path


def datasets_root() -> Path:
    """Folder of all datasets: the environment variable DETECTRON2_DATASETS, or ``datasets`` in the current folder."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
