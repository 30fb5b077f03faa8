"""What a comparison knows about its runs: missing predictions are made first, then everything is measured."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from pycocotools.coco import COCO
from tqdm import tqdm

from ..data.builtin import register_prepared
from ..engine.dataset_checks import is_annotated
from ..engine.trainer import Trainer
from ..evaluation.compared_image import ComparedImage
from ..evaluation.ground_truth import count_objects, load_ground_truth
from ..inference.loader import CONFIG_FILE, WEIGHTS_FILES, LoadError, load_model
from .options import Options
from .runs import Run, RunError, evaluated_weights, load_runs, results_file
from .scores import Scores, score_run
from .speed import Speed, measure_speeds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """Runs on one dataset and what was measured of them.

    Attributes:
        dataset_name: a registered dataset.
        ground_truth, metadata: of it.
        options: what was measured with.
        runs: the first is what the others are compared with.
        scores: run name -> scores, in the order of the runs.
        speeds: run name -> speed of those that have a model.
        gaps: sentences about images that a run may not have been evaluated on.
    """

    dataset_name: str
    ground_truth: COCO
    metadata: Metadata
    options: Options
    runs: list[Run]
    scores: dict[str, Scores]
    speeds: dict[str, Speed]
    gaps: list[str]

    @property
    def score_thresholds(self) -> dict[str, float]:
        """Run name -> the score from which its predictions go into label maps."""
        return {name: score.score_threshold for name, score in self.scores.items()}

    @property
    def image_root(self) -> Path:
        """Folder of the images."""
        return Path(self.metadata.image_root)

    def compared_images(self, image_id: int, score_threshold: float | None = None) -> dict[str, ComparedImage]:
        """Run name -> its predictions on an image beside the truth.

        Args:
            score_threshold: predictions under it are left out; None is the one of label maps.
        """
        return {
            run.name: run.compared_image(
                image_id,
                self.ground_truth,
                self.metadata,
                limit=self.options.limit,
                score_threshold=self.score_thresholds[run.name] if score_threshold is None else score_threshold,
            )
            for run in self.runs
        }


def collect(dataset_name: str, paths: Sequence[Path], output: Path, options: Options) -> Comparison:
    """Evaluate what is missing, read the runs and measure them.

    Args:
        dataset_name: a registered or prepared dataset.
        paths: runs, see :func:`.runs.load_run`; the first is what the others are compared with. An OUTPUT_DIR with
            weights and without predictions on the dataset is evaluated first.
        output: folder for the annotations of a dataset that has no COCO file.

    Raises:
        RunError: for a run that cannot be compared, or an unknown dataset.
    """
    check_dataset(dataset_name)
    ground_truth = load_ground_truth(dataset_name, str(output))
    for path in paths:
        _evaluate_if_missing(path, dataset_name)
    runs = load_runs(paths, dataset_name, ground_truth)
    scores = {
        run.name: score_run(
            run,
            dataset_name,
            ground_truth,
            limit=options.limit,
            score_threshold=options.score_threshold,
            boundary_distance=options.boundary_distance,
        )
        for run in tqdm(runs, desc="score", unit="run", disable=None)
    }
    gaps = [gap for run in runs if (gap := _gap(run, ground_truth))]
    for gap in gaps:
        logger.warning("%s", gap)
    speeds = measure_speeds(runs, dataset_name) if options.with_speed else {}
    metadata = MetadataCatalog.get(dataset_name)
    return Comparison(dataset_name, ground_truth, metadata, options, runs, scores, speeds, gaps)


def _gap(run: Run, ground_truth: COCO) -> str | None:
    """A sentence about images with objects and without predictions, where nobody says whether they were evaluated."""
    without = [
        image_id for image_id, number in count_objects(ground_truth).items() if number and not run.results[image_id]
    ]
    if run.is_complete or not without:
        return None
    return (
        f"{run.name} has no predictions in {len(without)} of the {len(ground_truth.imgs)} images, as "
        f"{ground_truth.imgs[without[0]]['file_name']}: its file does not say whether it was evaluated on them."
    )


def check_dataset(name: str) -> None:
    """Register a prepared dataset.

    Raises:
        RunError: if there is no such dataset, it has no annotations, or an image is missing.
    """
    register_prepared(name)
    if name not in DatasetCatalog:
        close = difflib.get_close_matches(name, DatasetCatalog.list(), n=3)
        hint = f"did you mean {' or '.join(close)}? Else " if close else ""
        raise RunError(
            f"dataset {name} is neither registered nor prepared: {hint}see datasets/README.md, or register it with "
            "register_objguided_instances (tools/compare.py: --annotations and --images)"
        )
    missing = [path for record in DatasetCatalog.get(name) if not Path(path := record["file_name"]).exists()]
    if missing:
        raise RunError(
            f"dataset {name}: its image {missing[0]} does not exist"
            + (f", and {len(missing) - 1} more" if missing[1:] else "")
            + "; give the folder of its images (--images), or prepare it again"
        )
    if not is_annotated(name):
        raise RunError(
            f"dataset {name} has no annotations to compare with ({MetadataCatalog.get(name).json_file} has no "
            "'annotations'); give one that has"
        )


def _evaluate_if_missing(path: Path, dataset_name: str) -> None:
    if not (path / CONFIG_FILE).exists() or results_file(path, dataset_name).exists():
        return
    weights = evaluated_weights(path)
    if weights is None:
        raise RunError(
            f"run {path} has neither predictions on {dataset_name} nor weights ({' or '.join(WEIGHTS_FILES)}); train "
            "it first"
        )
    logger.info("Evaluating %s on %s", path, dataset_name)
    try:
        loaded = load_model(path, weights.name, options=["DATASETS.TEST", (dataset_name,), "OUTPUT_DIR", str(path)])
    except LoadError as error:
        raise RunError(f"run {path}: {error}") from error
    Trainer.test(loaded.cfg, loaded.model)
