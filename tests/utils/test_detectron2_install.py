"""Installing Detectron2, with a pip that only makes files."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from objguided_d2.utils import detectron2_install
from objguided_d2.utils.detectron2_install import WHEEL, InstallError, install_detectron2


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """The site-packages of an environment without Detectron2, whose index has the wheel ``b"wheel"``."""
    folder = tmp_path / "site"
    folder.mkdir()

    def pip(command: str, *arguments: str) -> None:
        target = Path(arguments[arguments.index("--dest" if command == "download" else "--target") + 1])
        if command == "download":
            (target / WHEEL).write_bytes(b"wheel")
        else:
            for name in ("detectron2/__init__.py", "detectron2/_C.cpython-310.so", "tools/train_net.py"):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).write_text("")

    monkeypatch.setattr(detectron2_install, "_pip", pip)
    monkeypatch.setattr(detectron2_install, "SHA256", hashlib.sha256(b"wheel").hexdigest())
    monkeypatch.setattr(detectron2_install.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(detectron2_install.sysconfig, "get_paths", lambda: {"purelib": str(folder)})
    return folder


def test_python_files_alone_come_into_the_environment(site):
    assert install_detectron2() == "Detectron2 installed from sal-detectron2==0.7.2"
    assert (site / "detectron2/__init__.py").is_file() and not (site / "tools").exists()
    assert (site / "detectron2/_C.cpython-310.so").exists() == (sys.version_info[:2] == (3, 10))


def test_another_download_than_expected_is_refused(site, monkeypatch):
    monkeypatch.setattr(detectron2_install, "SHA256", "0" * 64)
    with pytest.raises(InstallError, match="not the .* that is expected; nothing installed"):
        install_detectron2()
    assert not list(site.iterdir())


def test_one_that_is_there_is_kept(monkeypatch):
    monkeypatch.setattr(detectron2_install, "_pip", lambda *_: pytest.fail("pip was called"))
    assert "kept" in install_detectron2()


def test_failure_shows_the_end_of_what_pip_said(monkeypatch):
    said = "\n".join(f"line {number}" for number in range(100))
    failed = subprocess.CompletedProcess([], 1, stdout=said)
    monkeypatch.setattr(detectron2_install.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InstallError, match="`pip install .*` failed:\nline 80\n(.*\n)*line 99$"):
        install_detectron2("source")


def test_an_environment_without_pip_as_uv_makes_them_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setattr(detectron2_install.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InstallError, match="^this environment has no pip; run `uv pip install pip` or"):
        install_detectron2()
