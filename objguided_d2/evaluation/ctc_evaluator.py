"""SEG, DET and OP_CSB of a data set, with the label maps in the layout of the Cell Tracking Challenge."""

import os

import numpy as np
import tifffile
from pycocotools.coco import COCO

from .compared_image import ComparedImage
from .ctc import FrameMatches, det, match_frame, seg
from .label_map_evaluator import LabelMapEvaluator

MAX_LABEL = np.iinfo(np.uint16).max


class CellTrackingEvaluator(LabelMapEvaluator):
    """Writes ``<folder>/<sequence>_RES/maskTTT.tif`` for each frame and compares it with the truth.

    An image names its ``sequence`` and ``frame`` in the COCO file; without them, images are numbered in their order,
    as sequence 01. Frames with ``partially_annotated`` count for SEG alone: what is not annotated there is no error.
    """

    task = "ctc"

    def __init__(self, dataset_name: str, ground_truth: COCO, *, folder: str, **kwargs) -> None:
        """
        Args:
            folder: for the label maps.
            Others: see :class:`LabelMapEvaluator`.
        """
        super().__init__(dataset_name, ground_truth, **kwargs)
        self._folder = folder
        self._number_of = {image_id: number for number, image_id in enumerate(ground_truth.imgs)}

    def measure(self, image: ComparedImage) -> tuple[bool, FrameMatches]:
        """Whether the frame is annotated in full, and its pairs."""
        self._write(image)
        return not image.record.get("partially_annotated", False), match_frame(image.overlaps, image.uncounted)

    def summarize(self, records: list[tuple[bool, FrameMatches]]) -> dict[str, float]:
        seg_value = seg([frame for _, frame in records])
        det_value = det([frame for complete, frame in records if complete])
        return {"SEG": 100 * seg_value, "DET": 100 * det_value, "OP_CSB": 50 * (seg_value + det_value)}

    def _write(self, image: ComparedImage) -> None:
        if len(image.predicted_classes) > MAX_LABEL:
            raise ValueError(
                f"Image '{image.record['file_name']}' has {len(image.predicted_classes)} instances, a 16-bit label map "
                f"holds {MAX_LABEL}; raise TEST.LABEL_MAP_SCORE_THRESH"
            )
        sequence = image.record.get("sequence", "01")
        frame = image.record.get("frame", self._number_of[image.record["id"]])
        path = os.path.join(self._folder, f"{sequence}_RES", f"mask{frame:03d}.tif")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{os.getpid()}.tmp"
        tifffile.imwrite(temporary, image.label_map.astype(np.uint16), compression="zlib")
        os.replace(temporary, path)
