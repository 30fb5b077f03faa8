"""The predictions of one method on one dataset, wherever they come from."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from detectron2.config import CfgNode
from detectron2.data import Metadata
from pycocotools.coco import COCO

from ..config import get_cfg
from ..data.converters.conversion import ConversionNotes
from ..data.converters.label_files import LOSSY_SUFFIXES
from ..data.converters.label_objects import label_objects
from ..data.converters.pairing import find_label_file
from ..data.label_plausibility import implausible_labels
from ..data.pixels import IMAGE_SUFFIXES, read_label_pixels
from ..data.segmentation import segmentation_to_rle
from ..data.source_error import SourceError
from ..engine.metrics_file import read_metrics
from ..evaluation.compared_image import ComparedImage, compare_image
from ..evaluation.ground_truth import images_digest
from ..inference.loader import CONFIG_FILE, WEIGHTS_FILES, weights_in
from ..utils.device import device_here
from ..utils.rle import encode_mask

logger = logging.getLogger(__name__)

RESULTS_FILE = "coco_instances_results.json"


class RunError(ValueError):
    """A run that cannot be compared. The message names it, what it lacks, and what to do."""


@dataclass
class Run:
    """One method.

    Attributes:
        name: shown in tables and pictures, different for each run.
        path: where it was read from.
        results: image id -> COCO results (segmentation, bbox, score, category_id), best score first.
        config: of a run of this project, else None.
        minutes, images_seen: of its training, where known.
        is_complete: whether it is known to have been evaluated on every image.
        is_unranked: whether its objects are those of label images, which have no scores.
        curve: (iteration, minutes, metric -> value) of each evaluation while it trained.
    """

    name: str
    path: Path
    results: dict[int, list[dict]]
    config: CfgNode | None = None
    minutes: float | None = None
    images_seen: int | None = None
    is_complete: bool = True
    is_unranked: bool = False
    curve: list[tuple[int, float, dict[str, float]]] = field(default_factory=list)

    @property
    def score_threshold(self) -> float:
        """The score from which predictions go into its label maps (TEST.LABEL_MAP_SCORE_THRESH)."""
        return (self.config or get_cfg()).TEST.LABEL_MAP_SCORE_THRESH

    def num_counted(self, limit: int) -> int:
        """How many objects of an image count: ``limit``, where nothing ranks them all."""
        return max([limit, *map(len, self.results.values())]) if self.is_unranked else limit

    def compared_image(
        self, image_id: int, ground_truth: COCO, metadata: Metadata, *, limit: int, score_threshold: float
    ) -> ComparedImage:
        """The ``limit`` best predictions on an image, those of scores from ``score_threshold`` on, beside its truth."""
        counted = self.results[image_id][: self.num_counted(limit)]
        kept = [result for result in counted if result["score"] >= score_threshold]
        return compare_image(
            ground_truth,
            metadata,
            image_id,
            [result["segmentation"] for result in kept],
            np.array([result["score"] for result in kept]),
            classes_of(kept, metadata),
        )


def evaluated_weights(run_folder: Path) -> Path | None:
    """The weights that the stored predictions of a run are of: its final ones, else its best; None without any."""
    return weights_in(run_folder, tuple(reversed(WEIGHTS_FILES)))


def classes_of(results: Sequence[dict], metadata: Metadata) -> np.ndarray:
    """The contiguous class indices (P,) of COCO results, int64."""
    class_of = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    ids = [result["category_id"] for result in results]
    return np.array([class_of.get(category_id, category_id) for category_id in ids], np.int64)


def load_runs(paths: Sequence[Path], dataset_name: str, ground_truth: COCO) -> list[Run]:
    """Read every run and give them unique names: the last parts of their paths that tell them apart.

    Raises:
        RunError: see :func:`load_run`; also for one path twice.
    """
    repeated = [path for path, number in Counter(path.resolve() for path in paths).items() if number > 1]
    if repeated:
        raise RunError(f"{repeated[0]} is given twice; name each run once")
    return [load_run(path, name, dataset_name, ground_truth) for path, name in zip(paths, _short_names(paths))]


def load_run(path: Path, name: str, dataset_name: str, ground_truth: COCO) -> Run:
    """Read one run.

    Args:
        path: OUTPUT_DIR of a training or evaluation, a COCO results JSON, or a folder of label images named as the
            images of the dataset (``<stem>.png`` or ``.tif``, also ``<stem>_cp_masks`` and the like), in the same
            folders where several images have one name.
        name: for messages and for the result.
        dataset_name, ground_truth: the dataset of the comparison.

    Raises:
        RunError: if there is nothing of these kinds, or predictions are missing or do not fit the images.
    """
    if path.is_file():
        return Run(name, path, _read_results(path, ground_truth), is_complete=False)
    if not path.is_dir():
        raise RunError(
            f"run {path} does not exist; give an OUTPUT_DIR, a COCO results JSON or a folder of label images"
        )
    if (path / CONFIG_FILE).exists() or results_file(path, dataset_name).exists():
        return _load_output_dir(path, name, dataset_name, ground_truth)
    return Run(name, path, _read_label_images(path, ground_truth), is_unranked=True)


def config_of(path: Path) -> CfgNode:
    """The config that an OUTPUT_DIR was made with, on the device that is here."""
    cfg = get_cfg(path / CONFIG_FILE)
    cfg.MODEL.DEVICE = device_here(cfg.MODEL.DEVICE)
    return cfg


def results_file(path: Path, dataset_name: str) -> Path:
    """Where an OUTPUT_DIR has its predictions."""
    return path / "inference" / dataset_name / RESULTS_FILE


def _load_output_dir(path: Path, name: str, dataset_name: str, ground_truth: COCO) -> Run:
    results = results_file(path, dataset_name)
    if not results.exists():
        raise RunError(
            f"run {path} has no predictions on {dataset_name} ({results}); evaluate it: python tools/train_net.py "
            f"--config-file {path}/config.yaml --eval-only MODEL.WEIGHTS {evaluated_weights(path) or '<weights>'} "
            f"DATASETS.TEST \"('{dataset_name}',)\""
        )
    metrics = results.with_name("metrics.json")
    if metrics.exists():
        evaluated, digest = _evaluated_images(metrics)
        if evaluated != len(ground_truth.imgs):
            raise RunError(
                f"run {path} was evaluated on {evaluated} images of {dataset_name}, which has {len(ground_truth.imgs)} "
                "now; evaluate it again"
            )
        if digest is not None and digest != images_digest(dataset_name):
            raise RunError(f"run {path} was evaluated on other images than {dataset_name} has now; evaluate it again")
    # The evaluation of a bundle has none.
    config = config_of(path) if (path / CONFIG_FILE).exists() else None
    run = Run(name, path, _read_results(results, ground_truth), config, is_complete=metrics.exists())
    training = path / "metrics.json"
    if training.exists():
        _add_training(run, training)
    return run


def _evaluated_images(metrics: Path) -> tuple[int, str | None]:
    """Number and digest of the images of an evaluation; files of older versions have no digest."""
    try:
        content = json.loads(metrics.read_text(encoding="utf-8"))
        return int(content["num_images"]), content.get("images_digest")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{metrics} is damaged ({error!r}); remove its folder to evaluate the run again") from error


def _add_training(run: Run, path: Path) -> None:
    minutes = 0.0
    try:
        records = read_metrics(path)
    except ValueError as error:
        raise RunError(f"run {run.path}: {error}") from error
    for record in records:
        minutes = record.get("elapsed_minutes", minutes)
        if "images_seen" in record:
            run.images_seen = int(record["images_seen"])
        evaluated = {key: value for key, value in record.items() if "/AP" in key}
        if evaluated:
            run.curve.append((int(record["iteration"]), minutes, evaluated))
    run.minutes = minutes or None


def _read_results(path: Path, ground_truth: COCO) -> dict[int, list[dict]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results: dict[int, list[dict]] = {image_id: [] for image_id in ground_truth.imgs}
        for number, result in enumerate(content):
            image_id = result["image_id"]
            if image_id not in results:
                raise RunError(f"{path}, result {number}: image_id {image_id} is not in the dataset; evaluate on it")
            image = ground_truth.imgs[image_id]
            try:
                rle = segmentation_to_rle(result["segmentation"], image["height"], image["width"])
            except ValueError as error:
                raise RunError(f"{path}, result {number}: the mask of {image['file_name']}: {error}") from error
            if result["category_id"] not in ground_truth.cats:
                raise RunError(f"{path}, result {number}: category_id {result['category_id']} is not in the dataset")
            # Results of masks need no boxes.
            result = {"bbox": mask_util.toBbox(rle).tolist(), **result}
            results[image_id].append({**result, "segmentation": rle, "score": float(result["score"])})
    except RunError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not a COCO results file with masks ({error!r}); write it again") from error
    return {image_id: sorted(found, key=lambda r: -r["score"]) for image_id, found in results.items()}


def _read_label_images(path: Path, ground_truth: COCO) -> dict[int, list[dict]]:
    """Every object of a label image as a prediction of the first class with score 1."""
    files = [file.relative_to(path) for file in sorted(path.rglob("*")) if file.suffix.lower() in IMAGE_SUFFIXES]
    names = {file.with_suffix("").as_posix(): file.as_posix() for file in files}
    images_called = Counter(Path(image["file_name"]).stem for image in ground_truth.imgs.values())
    category_id = min(ground_truth.cats)
    results, missing = {}, []
    for image_id, image in ground_truth.imgs.items():
        image_path = Path(image["file_name"]).with_suffix("")
        name = find_label_file(image_path.as_posix(), names)
        if name is None and images_called[image_path.name] == 1:
            name = find_label_file(image_path.name, names)
        if name is None:
            missing.append(image_path)
            continue
        file = path / name
        try:
            labels = read_label_pixels(lambda name: Path(name).read_bytes(), str(file))
        except SourceError as error:
            raise RunError(f"run {path}: {error}") from error
        if labels.shape != (image["height"], image["width"]):
            raise RunError(f"run {path}: {file.name} is {labels.shape}, its image {(image['height'], image['width'])}")
        for text in implausible_labels(labels, is_lossy=file.suffix.lower() in LOSSY_SUFFIXES):
            logger.warning("run %s, %s: %s", path, name, text)
        results[image_id] = [
            _result(image_id, category_id, mask) for _, mask in label_objects(labels, file.name, ConversionNotes())
        ]
    if missing:
        raise RunError(
            f"run {path} has neither a config.yaml nor label images of all images of the dataset: "
            f"{len(missing)} of {len(ground_truth.imgs)} are missing, as {missing[0]}.png"
        )
    return results


def _result(image_id: int, category_id: int, mask: np.ndarray) -> dict:
    rle = encode_mask(mask)
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": mask_util.toBbox(rle).tolist(),
        "score": 1.0,
        "segmentation": rle,
    }


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths, in whole components, that are all different."""
    parts = [path.resolve().with_suffix("" if path.suffix == ".json" else path.suffix).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path_parts[-length:]) for path_parts in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
