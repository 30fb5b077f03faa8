"""What needs a package that is not installed says which, and how to get it, in one line."""

import sys

import pytest

from objguided_d2.inference.image_source import open_image
from objguided_d2.inference.writers import WRITERS
from tests.inference.shapes import all_objects


@pytest.fixture
def without(monkeypatch):
    def block(*modules: str) -> None:
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return block


def test_ome_zarr_needs_zarr(without, tmp_path):
    without("zarr")
    with pytest.raises(ImportError, match=r"^OME-Zarr output needs zarr: pip install 'objguided_d2\[zarr\]'$"):
        WRITERS["zarr"].write(all_objects(), tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr/.zgroup").write_text("{}")
    with pytest.raises(ImportError, match=r"b.zarr needs zarr: pip install 'objguided_d2\[zarr\]'$"):
        open_image(tmp_path / "b.zarr")


def test_parquet_needs_pyarrow(without, tmp_path):
    without("pyarrow")
    with pytest.raises(ImportError, match=r"a.parquet needs pyarrow: pip install 'objguided_d2\[parquet\]'$"):
        WRITERS["table"].write(all_objects(), tmp_path / "a.parquet")
    WRITERS["table"].write(all_objects(), tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_whole_slides_need_tiffslide_or_openslide(without, tmp_path):
    without("tiffslide", "openslide")
    (tmp_path / "a.svs").write_bytes(b"II*\0")
    with pytest.raises(ImportError, match=r"a.svs is a whole slide image: pip install 'objguided_d2\[slides\]'$"):
        open_image(tmp_path / "a.svs")
