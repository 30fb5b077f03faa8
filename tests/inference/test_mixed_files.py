"""Files as people have them: the broken ones are refused with their reason, every other one is predicted."""

import tifffile

from benchmarks.prediction.mixed_files import ODD_FILES, make_mixed_files, outputs_in
from objguided_d2.inference.file_pipeline import PredictSettings
from objguided_d2.inference.image_source import open_image
from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.run import predict_files


def test_broken_files_are_refused_and_odd_ones_predicted(busy_run, tmp_path):
    cfg, model, _ = busy_run
    broken = make_mixed_files(tmp_path / "images", len(ODD_FILES) + 1)
    output = tmp_path / "out"
    summary = predict_files(
        [tmp_path / "images"], Predictor(cfg, model), output, PredictSettings(save=("labels",)), progress=False
    )
    assert summary.exit_code == 2 and len(summary.files) == len(ODD_FILES) + 1
    reasons = {name: result.reason for name, result in summary.files.items() if result.status == "failed"}
    assert reasons.keys() == broken.keys() and len(broken) == 7
    assert all(part in reasons[name] and "\n" not in reasons[name] for name, part in broken.items())
    assert len(outputs_in(output)) == len(ODD_FILES) + 1 - len(broken) + 2  # both planes of the stack, errors.csv
    assert tifffile.imread(output / "rotated.labels.tif").shape == (96, 48)
    with open_image(tmp_path / "images" / "twelve_bits.tif") as source:
        assert 255 < source.read_all().max() < 4096
