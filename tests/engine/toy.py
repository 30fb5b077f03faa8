"""A detector, a dataset and a config small enough to train in a second, with all that is random in real ones."""

import json
import os
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.layers import Conv2d, get_norm
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import BitMasks, Instances
from torch import nn

from objguided_d2 import get_cfg
from objguided_d2.data import register_objguided_instances
from objguided_d2.engine import run


@META_ARCH_REGISTRY.register()
class ToyDetector(nn.Module):
    """Learns the foreground through a BatchNorm and a dropout; detects the bright components."""

    norm = "BN"
    dropout = 0.25

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.features = Conv2d(3, 4, 3, padding=1, norm=get_norm(self.norm, 4), activation=F.relu)
        self.head = Conv2d(4, 1, 1)

    def forward(self, batched_inputs: list[dict]) -> dict | list[dict]:
        images = torch.stack([sample["image"] for sample in batched_inputs]).float() / 255
        logits = self.head(F.dropout2d(self.features(images), self.dropout, self.training))
        if self.training:
            targets = torch.stack([sample["instances"].gt_masks.tensor.any(0) for sample in batched_inputs])
            return {"loss_mask": F.binary_cross_entropy_with_logits(logits[:, 0], targets.float())}
        return [{"instances": self._detect(sample)} for sample in batched_inputs]

    def _detect(self, sample: dict) -> Instances:
        bright = (sample["image"].amax(0).numpy() > 128).astype(np.uint8)
        count, labels = cv2.connectedComponents(bright)
        masks = torch.stack([torch.from_numpy(labels == i) for i in range(count)])[1:]
        # Scores depend on the image alone; the smallest component is missed so that the AP is not 100.
        areas = masks.sum((1, 2)).float()
        keep = areas > areas.min()
        result = Instances(bright.shape)
        result.pred_masks = masks[keep]
        result.pred_boxes = BitMasks(masks[keep]).get_bounding_boxes()
        result.scores = areas[keep] / areas.sum()
        result.pred_classes = torch.zeros(int(keep.sum()), dtype=torch.long)
        return result


@META_ARCH_REGISTRY.register()
class ToyPlainDetector(ToyDetector):
    """Its loss over a batch is the mean of those over the halves of the batch."""

    norm = ""
    dropout = 0.0


def register_toy_dataset(root: Path) -> None:
    """Register toy_train and toy_val, made under ``root`` if they are not there: seven images of bright rectangles."""
    for name in ("toy_train", "toy_val"):
        folder = root / name
        if not folder.exists():
            _write_dataset(folder, np.random.default_rng(len(name)))
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
        register_objguided_instances(name, str(folder / "annotations.json"), str(folder))


def _write_dataset(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    images, annotations = [], []
    for image_id in range(1, 8):
        image = rng.integers(0, 60, (40, 40, 3), dtype=np.uint8)
        for x, y in rng.permutation([(3, 3), (22, 4), (5, 24), (23, 22)])[: rng.integers(2, 5)].tolist():
            width, height = rng.integers(5, 14, 2).tolist()
            image[y : y + height, x : x + width] = rng.integers(160, 255)
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "segmentation": [corners],
                }
            )
        file_name = f"{image_id}.png"
        cv2.imwrite(str(folder / file_name), image)
        images.append({"id": image_id, "file_name": file_name, "width": 40, "height": 40})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "rectangle"}]}
    (folder / "annotations.json").write_text(json.dumps(content))


def toy_cfg(output_dir: Path, *overrides: object) -> CfgNode:
    """Eight iterations of batch 4 on 32 x 32 crops, evaluated at the end; then KEY, VALUE pairs."""
    cfg = get_cfg()
    cfg.merge_from_list(
        # fmt: off
        [
            "MODEL.META_ARCHITECTURE",
            "ToyDetector",
            "MODEL.DEVICE",
            "cpu",
            "MODEL.WEIGHTS",
            "",
            "DATASETS.TRAIN",
            ("toy_train",),
            "DATASETS.TEST",
            ("toy_val",),
            "INPUT.SQUARE_CROP.ENABLED",
            True,
            "INPUT.SQUARE_CROP.OUTPUT_SIZE",
            32,
            "INPUT.MASK_FORMAT",
            "bitmask",
            "INPUT.MIN_SIZE_TEST",
            40,
            "DATALOADER.NUM_WORKERS",
            0,
            "DATALOADER.FILTER_EMPTY_ANNOTATIONS",
            False,
            "SOLVER.OPTIMIZER",
            "AdamW",
            "SOLVER.BASE_LR",
            0.01,
            "SOLVER.IMS_PER_BATCH",
            4,
            "SOLVER.MAX_ITER",
            8,
            "SOLVER.LR_SCHEDULER_NAME",
            "WarmupCosineLR",
            "SOLVER.WARMUP_ITERS",
            2,
            "SOLVER.CHECKPOINT_PERIOD",
            2,
            "TEST.EVAL_PERIOD",
            0,
            "TEST.DETECTIONS_PER_IMAGE",
            100,
            "OUTPUT_DIR",
            str(output_dir),
            "SEED",
            3,
        ]
        # fmt: on
    )
    cfg.merge_from_list(list(overrides))
    cfg.freeze()
    return cfg


def run_toy(cfg: CfgNode, args: Namespace) -> dict:
    """``run`` for a new process, which learns of the toy detector by importing this."""
    results = run(cfg, args)
    if results:
        Path(cfg.OUTPUT_DIR, f"results_{'eval' if args.eval_only else 'train'}.json").write_text(json.dumps(results))
    return results


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Model weights in a checkpoint file."""
    return torch.load(path, map_location="cpu")["model"]


def last_checkpoint(output_dir: Path) -> Path:
    """The file that a resumed run starts from."""
    return output_dir / os.path.basename((output_dir / "last_checkpoint").read_text())
