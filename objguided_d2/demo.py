"""The package in three minutes: nuclei in sample images, then the model fine-tuned on six images of other cells."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from .inference.predictor import Predictor
    from .samples import Sample

MODEL = "nuclei"
# Of fine-tuning: about a minute on two cores.
STEPS = 40
# F1 at IoU 0.5, percent, that the model which comes with the package has on the samples, and on the cells after
# fine-tuning, with a margin for another processor's rounding, which a training makes larger.
EXPECTED_F1, EXPECTED_F1_OF_CELLS = 84.0, 20.0
# (height, width) of a picture on the sheets.
_TILE = (384, 480)


@dataclass(frozen=True)
class DemoResult:
    """F1 at IoU 0.5 in percent: on the nuclei, and on three images of other cells before and after fine-tuning."""

    samples: float
    before: float
    after: float


def run_demo(output: Path, model: str = MODEL, steps: int = STEPS) -> DemoResult:
    """Everything goes into ``output``: sheets ``nuclei.png`` and ``cells.png``, predictions, the fine-tuned model.

    Args:
        model: what ``objguided predict --model`` takes.
        steps: of fine-tuning.
    """
    from . import samples
    from .finetuning.finetune import finetune
    from .inference.predictor import Predictor
    from .utils.contact_sheet import contact_sheet

    output.mkdir(parents=True, exist_ok=True)
    predictor = Predictor.from_pretrained(model)
    print(f"1. The model `{model}` on sample images\n")
    print(f"{'image':<34}{'outlined by people':>20}{'predicted':>12}{'F1 at IoU 0.5':>16}{'seconds':>10}")
    found, tiles = [], []
    for sample in samples.nuclei():
        started = time.perf_counter()
        prediction = predictor(sample.image)
        seconds = time.perf_counter() - started
        prediction.save(output / "predictions" / sample.name, ("labels", "table", "overlay"))
        labels = prediction.labels
        found.append((sample, labels))
        score = f1([found[-1]])
        print(f"{sample.name:<34}{_count(sample.labels):>20}{_count(labels):>12}{score:>16.1f}{seconds:>10.2f}")
        tiles += _tiles(sample, (sample.labels, labels), ("outlined by people", "predicted"))
    on_samples = f1(found)
    contact_sheet(tiles, 3, output / "nuclei.png", tile_size=_TILE)
    print(f"\nF1 over all: {on_samples:.1f}. The first rows of the last image's table:\n")
    print(prediction.table().head(3).to_string(index=False, max_cols=8))

    print(f"\n2. The same model after {steps} steps on six images of cells that it does not know\n")
    folder = samples.folder("cells/train")
    bundle = output / "cells.zip"
    finetune(model, folder / "images", folder / "labels", bundle, steps=steps, resumable=False)
    held_out = samples.cells("val")
    tuned = Predictor.from_pretrained(bundle)
    predictions = {name: _labels(p, held_out) for name, p in (("before", predictor), ("after", tuned))}
    before, after = (f1(list(zip(held_out, labels))) for labels in predictions.values())
    tiles = []
    for sample, *labels in zip(held_out, *predictions.values()):
        tiles += _tiles(sample, (sample.labels, *labels), ("outlined by people", "before", "after"))
    contact_sheet(tiles, 4, output / "cells.png", tile_size=_TILE)
    print(f"\nF1 at IoU 0.5 on three images of other fields: {before:.1f} before, {after:.1f} after")
    print(
        f"\nLook at {output / 'nuclei.png'} and {output / 'cells.png'}; label images, tables and overlays are in "
        f"{output / 'predictions'}, the fine-tuned model is {bundle}.\n\nNext: objguided predict YOUR_IMAGES "
        f"--model {model} --output results"
    )
    return DemoResult(on_samples, before, after)


def f1(images: "Sequence[tuple[Sample, np.ndarray]]") -> float:
    """F1 at IoU 0.5, in percent, over all objects of several images.

    Args:
        images: samples with predicted label images (H, W).
    """
    import numpy as np

    from .evaluation.label_map import count_overlaps
    from .evaluation.matching import MatchCounts, count_matches
    from .utils.rle import encode_mask

    total = MatchCounts.zero(1)
    for sample, labels in images:
        truth = [encode_mask(sample.labels == number) for number in np.unique(sample.labels)[1:]]
        iou = count_overlaps(labels.astype(np.int64), int(labels.max()), truth).iou
        total = total + count_matches(iou, thresholds=np.array([0.5]))
    return 100 * float(total.f1[0])


def verdict(result: DemoResult) -> str:
    """What the numbers of a demo with the model of the package say."""
    expected = f"F1 on the samples {{}} above {EXPECTED_F1:g}, after fine-tuning above {EXPECTED_F1_OF_CELLS:g}"
    if is_as_expected(result):
        return f"{expected.format('is')}, as it should be."
    return f"{expected.format('should be')}: something is wrong here, see `objguided doctor`."


def is_as_expected(result: DemoResult) -> bool:
    """Whether the model of the package does what it did where it was made; NaN is not."""
    return result.samples >= EXPECTED_F1 and result.after >= EXPECTED_F1_OF_CELLS


def _count(labels: "np.ndarray") -> int:
    """Objects that a picture of the label image shows: those that others cover entirely have no pixel."""
    import numpy as np

    return int(np.count_nonzero(np.unique(labels)))


def _labels(predictor: "Predictor", samples: "Sequence[Sample]") -> "list[np.ndarray]":
    return [predictor(sample.image).labels for sample in samples]


def _tiles(sample: "Sample", label_images: "Sequence[np.ndarray]", captions: Sequence[str]) -> list:
    import numpy as np

    from .utils.contact_sheet import Tile, draw_instances

    zoom = max(1, _TILE[0] // max(sample.image.shape[:2]))
    tiles = [Tile(draw_instances(sample.image, np.zeros((0, *sample.labels.shape), bool), zoom=zoom), sample.name)]
    for labels, caption in zip(label_images, captions):
        masks = labels == np.unique(labels)[1:, None, None]
        tiles.append(Tile(draw_instances(sample.image, masks, zoom=zoom), f"{caption}: {len(masks)}"))
    return tiles


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the demo; returns 1 if it cannot, or ends with worse predictions than it should."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for all files (default: %(default)s)")
    parser.add_argument("--model", default=MODEL, help="as of `objguided predict` (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of fine-tuning (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        result = run_demo(args.output, args.model, args.steps)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.model != MODEL:
        return 0
    print(f"\n{verdict(result)}")
    return int(not is_as_expected(result))
