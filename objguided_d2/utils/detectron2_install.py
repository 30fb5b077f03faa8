"""Detectron2 into the environment of this Python: no index has a release of it.

Needs the standard library and pip alone. ``objguided doctor --install-detectron2`` and ``make install`` call it.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

KINDS = ("wheel", "source")
COMMIT = "a59f05630a8f205756064244bf5beb8661f96180"
REPOSITORY = f"git+https://github.com/facebookresearch/detectron2.git@{COMMIT}"
# Python files of the official repository at that commit, as the index's sal-detectron2 carries them.
REQUIREMENT = "sal-detectron2==0.7.2"
WHEEL = "sal_detectron2-0.7.2-cp310-none-any.whl"
SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
# The wheel is tagged for Python 3.10 but holds plain Python files that later versions run as well.
AS_PYTHON_310 = ("--no-deps", "--only-binary=:all:", "--python-version", "3.10")
LINES_SHOWN = 20


class InstallError(RuntimeError):
    """Detectron2 could not be installed. The message has the end of what pip said."""


def install_detectron2(kind: str = "wheel") -> str:
    """Install it, unless it is there already.

    Args:
        kind: "wheel" for the Python files alone, which everything here works with; "source" builds the official
            repository with its compiled operators, also over one that is there (needs git and a C++ compiler).

    Returns:
        What was done, in a line.
    Raises:
        InstallError: if there is no pip, it fails, or the download is not the one expected.
    """
    if kind == "source":
        _pip("install", "--no-build-isolation", "--no-deps", REPOSITORY)
        return f"Detectron2 built from {REPOSITORY}"
    if importlib.util.find_spec("detectron2") is not None:
        return "Detectron2 is there already: kept"
    with tempfile.TemporaryDirectory() as folder:
        wheel, unpacked = Path(folder) / WHEEL, Path(folder) / "unpacked"
        _pip("download", *AS_PYTHON_310, "--dest", folder, REQUIREMENT)
        if not wheel.is_file() or hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
            raise InstallError(f"the download of {REQUIREMENT} is not the {WHEEL} that is expected; nothing installed")
        _pip("install", *AS_PYTHON_310, "--target", str(unpacked), str(wheel))
        _remove_what_stays_out(unpacked)
        shutil.copytree(unpacked, sysconfig.get_paths()["purelib"], dirs_exist_ok=True)
    return f"Detectron2 installed from {REQUIREMENT}"


def _remove_what_stays_out(unpacked: Path) -> None:
    """The wheel's top-level ``tools`` folder, and its compiled operators where this is not Python 3.10."""
    shutil.rmtree(unpacked / "tools", ignore_errors=True)
    if sys.version_info[:2] != (3, 10):
        for file in (unpacked / "detectron2").glob("_C*.so"):
            file.unlink()


def _pip(*arguments: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise InstallError(
            "this environment has no pip; run `uv pip install pip` or `python -m ensurepip` and try again"
        )
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-LINES_SHOWN:])
        raise InstallError(f"`pip {' '.join(arguments)}` failed:\n{end}")
