"""Config files by name, as ``detectron2.model_zoo.get_config_file`` has them: ``dsb2018/objguided_small_R_18``."""

import difflib
import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


class UnknownConfigError(ValueError):
    """No config of that name or path. The message has the closest names."""


def config_folder() -> Path:
    """The folder of our configs: inside an installed package, at the top of a checkout of the repository."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def get_config_file(name: str | os.PathLike) -> str:
    """The path of a config.

    Args:
        name: a path, which wins where such a file exists; or a name below :func:`config_folder`, with or without
            ``.yaml`` at its end and ``configs/`` in front.

    Raises:
        UnknownConfigError: for anything else.
    """
    text = os.fspath(name)
    if os.path.isfile(text):
        return text
    short = text.removeprefix("configs/").removesuffix(".yaml")
    folder = config_folder()
    file = folder / f"{short}.yaml"
    if short and not os.path.isabs(short) and ".." not in Path(short).parts and file.is_file():
        return str(file)
    close = difflib.get_close_matches(short, _names(), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"the names of ours are the files below {folder}"
    raise UnknownConfigError(f"config {text} does not exist; {hint}")


def _names() -> list[str]:
    """Of every model and suite; bases are no configs of their own."""
    folder = config_folder()
    files = (path for path in folder.rglob("*.yaml") if not path.name.startswith("Base-"))
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in files)
