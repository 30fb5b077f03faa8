"""The public names, and what importing the package does not do."""

import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.projects.point_rend import add_pointrend_config

import objguided_d2
from objguided_d2.config_files import UnknownConfigError, get_config_file

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if not path.name.startswith(("Base-", "suite_")))
BARE_IMPORT = """
import sys, objguided_d2
print(sorted({"torch", "detectron2", "numpy", "ctypes"} & set(sys.modules)))
import objguided_d2.data, objguided_d2.engine, objguided_d2.cli
print(sorted({"torch", "detectron2"} & set(sys.modules)))
"""

SIGNALS = """
import signal
handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
import objguided_d2, objguided_d2.cli
everything = [getattr(objguided_d2, name) for name in objguided_d2.__all__]
print([signal.getsignal(number) for number in sorted(signal.valid_signals())] == handlers)
"""


def test_import_loads_and_changes_nothing():
    done = subprocess.run([sys.executable, "-S", "-c", BARE_IMPORT], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "[]"], done.stderr


def test_signals_of_a_program_that_uses_the_package_stay_its_own():
    done = subprocess.run([sys.executable, "-c", SIGNALS], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("package", ["objguided_d2", "objguided_d2.data", "objguided_d2.engine"])
def test_every_public_name_can_be_imported_and_listed(package):
    module = sys.modules[package]
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        module.no_such_name  # noqa: B018


def test_every_public_name_is_documented():
    text = (ROOT / "docs/api.md").read_text()
    assert all(f"## `{name}(" in text for name in objguided_d2.__all__ if name != "__version__")
    assert {*objguided_d2.__all__} <= {*dir(objguided_d2)}


def test_registration_makes_models_and_datasets_known():
    objguided_d2.register()
    assert "ObjectGuidedRCNN" in META_ARCH_REGISTRY and "dsb2018_val" in DatasetCatalog


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_config_loads_with_our_keys_alone_or_with_pointrends_besides(path):
    cfg = get_detectron2_cfg()
    if "pointrend" in path.name:
        add_pointrend_config(cfg)
    objguided_d2.add_objguided_config(cfg)
    cfg.merge_from_file(str(path))
    if "pointrend" in path.name:
        assert cfg.MODEL.POINT_HEAD.NUM_CLASSES == cfg.MODEL.ROI_HEADS.NUM_CLASSES


@pytest.mark.parametrize(
    "name",
    [
        "dsb2018/objguided_small_R_18",
        "dsb2018/objguided_small_R_18.yaml",
        "configs/dsb2018/objguided_small_R_18.yaml",
    ],
)
def test_config_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = ROOT / "configs/dsb2018/objguided_small_R_18.yaml"
    assert Path(get_config_file(name)) == expected
    assert objguided_d2.get_cfg(name).OUTPUT_DIR == "./output/dsb2018/objguided_small_R_18"


def test_path_that_exists_wins_over_a_name(tmp_path, monkeypatch):
    mine = tmp_path / "configs/dsb2018/objguided_small_R_18.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("VERSION: 2\n")
    monkeypatch.chdir(tmp_path)
    name = "configs/dsb2018/objguided_small_R_18.yaml"
    assert get_config_file(name) == name and Path(name).samefile(mine)


@pytest.mark.parametrize("name", ["dsb2018/objguided_smal_R_18", "objguided", "", "..", "../setup", "/no/such/file"])
def test_unknown_config_is_told_in_one_line(name):
    with pytest.raises(UnknownConfigError, match="does not exist; ") as info:
        get_config_file(name)
    assert "\n" not in str(info.value)
