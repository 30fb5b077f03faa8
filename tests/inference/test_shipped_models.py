"""The models that come with the package do what their cards say."""

import pytest

from objguided_d2 import Predictor, samples
from objguided_d2.demo import f1
from objguided_d2.inference import bioimageio_package
from objguided_d2.inference.bundle import read_parts
from objguided_d2.inference.pretrained import SHIPPED, export_bioimageio, shipped_models


def test_there_is_one_of_nuclei_that_fits_into_the_package():
    assert shipped_models() == ["nuclei"]
    path = SHIPPED / "nuclei.zip"
    assert path.stat().st_size < 26e6
    card = read_parts(path)["model_card.md"].decode()
    for word in ("CC0", "Leak check", "objguided evaluate --model nuclei", "Limits"):
        assert word in card


@pytest.mark.parametrize(("name", "least"), [("fluorescence_small_64eeef16", 85), ("stained_pink_white_b214800d", 78)])
def test_nuclei_finds_the_nuclei_of_a_sample(name, least):
    (sample,) = (sample for sample in samples.nuclei() if sample.name == name)
    prediction = Predictor.from_pretrained("nuclei", device="cpu")(sample.image)
    assert f1([(sample, prediction.labels)]) > least
    assert prediction.table()["class"].unique().tolist() == ["nucleus"]


def test_a_package_of_a_shipped_model_has_its_license(busy_run, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(bioimageio_package, "write_bioimageio", lambda *_, license_id, **__: given.append(license_id))
    for source, license_id in (("nuclei", None), ("nuclei", "MIT"), (busy_run[2], None)):
        export_bioimageio(source, tmp_path / "zoo.zip", license_id=license_id)
    assert given == ["CC0-1.0", "MIT", "Apache-2.0"]


def test_a_model_has_one_hash_in_every_process_so_that_a_repeated_call_skips_what_is_done():
    assert len({Predictor.from_pretrained("nuclei", device="cpu", prepare=False).model_hash for _ in range(2)}) == 1
