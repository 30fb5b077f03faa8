"""What the auxiliary refinement asks of a network: where its points lie, and its gradient beside the mask losses'.

    python -m benchmarks.refinement --run output/lsc/objguided_small_R_18 --weights model_final.pth

The run is the folder of a training with refinement, as it is: its crops, ROIs and weights. For each checkpoint, over
batches of training images:

- of the points, and of all pixels of the ROIs: the part within 1 and 3 pixels of the true outline, and the part that
  the predicted mask has on the wrong side of 0.5;
- the norm of the gradient of the refinement's loss as part of that of the mask losses, and the cosine between the two,
  for the parameters that they share.

Pairs KEY VALUE at the end change the config, as MODEL.ROI_MASK_HEAD.LOSS_TYPE bce for the paper's mask loss.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from torch import Tensor, nn

from objguided_d2.config import get_cfg
from objguided_d2.engine.setup import merge_options
from objguided_d2.engine.trainer import Trainer
from objguided_d2.engine.weights import load_weights
from objguided_d2.inference.loader import CONFIG_FILE
from objguided_d2.modeling.mask_targets import MaskTargets
from objguided_d2.modeling.point_refine import PointRefinement
from objguided_d2.profiling.inputs import dataset_records, map_training_images
from objguided_d2.profiling.options import BenchmarkError
from objguided_d2.structures.roi_atlas import RoiAtlas

DISTANCES = (1.0, 3.0)
REFINE, MASK = "loss_refine", "loss_mask"
_DIRECTIONS = 16


class PointCounts:
    """Counts of points as a refinement takes them and of all pixels, once :meth:`watch` has it.

    Points are drawn for the counts alone: the loss draws others by the same rule.
    """

    def __init__(self) -> None:
        self.sums: dict[str, np.ndarray] = {kind: np.zeros(len(DISTANCES) + 2) for kind in ("points", "pixels")}

    def watch(self, refinement: PointRefinement) -> None:
        loss = refinement.loss

        def counted(atlas: RoiAtlas, probabilities: Tensor, ladder: list[Tensor], masks: MaskTargets):
            roi, point_coords, _ = refinement.sample(atlas, probabilities)
            on_canvas = atlas.canvases[0].from_list(probabilities[:, None])
            at_points = atlas.sample(0, on_canvas, roi, point_coords)[:, 0]
            self.count("points", roi, atlas.image_positions(roi, point_coords), at_points, masks)
            self.count("pixels", atlas.grids[0].pixels.roi, atlas.positions(0), probabilities, masks)
            return loss(atlas, probabilities, ladder, masks)

        refinement.loss = counted

    def rows(self) -> dict[str, np.ndarray]:
        """Of each kind: percent within each of DISTANCES of the outline, and percent wrong."""
        return {kind: 100 * sums[1:] / sums[0] for kind, sums in self.sums.items() if sums[0]}

    def count(
        self, kind: str, roi: Tensor, position: tuple[Tensor, Tensor], predicted: Tensor, masks: MaskTargets
    ) -> None:
        """Add points at index coordinates ``position``, (K,) x and y, where ``predicted`` (K,) is the mask's value."""
        x, y = position
        inside = masks.sample(roi, x, y) > 0.5
        near = [
            torch.stack(
                [
                    (masks.sample(roi, x + distance * np.cos(angle), y + distance * np.sin(angle)) > 0.5) != inside
                    for angle in np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
                ]
            ).any(0)
            for distance in DISTANCES
        ]
        wrong = (predicted > 0.5) != inside
        self.sums[kind] += [len(inside), *(int(part.sum()) for part in (*near, wrong))]


def compare_gradients(model: nn.Module, losses: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Ratio of norms and cosine, refinement to mask losses, by part of the model that both train."""
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "refinement" not in name and "seg_head" not in name:
            parts["mask head" if "mask_head" in name else "backbone"].append(parameter)
    parameters = [parameter for part in parts.values() for parameter in part]
    sizes = [sum(parameter.numel() for parameter in part) for part in parts.values()]
    mask = sum(loss for name, loss in losses.items() if name.startswith(MASK))
    by_loss = []
    for loss in (losses[REFINE], mask):
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        by_loss.append(torch.cat([gradient.flatten() for gradient in gradients]).split(sizes))
    return {
        part: (float(refine.norm() / other.norm()), float(torch.cosine_similarity(refine, other, dim=0)))
        for part, refine, other in zip(parts, *by_loss, strict=True)
    }


def measure(cfg: CfgNode, weights: Path, batches: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Points as :meth:`PointCounts.rows` has them, and for each part the median ratio and cosine over the batches.

    Args:
        cfg: of a model with refinement.
        weights: a checkpoint of it.
        batches: of the config's size, of evenly spaced images of the first training dataset.
    """
    model = Trainer.build_model(cfg)
    load_weights(model, weights)
    model.train()
    counts = PointCounts()
    counts.watch(model.roi_heads.mask_head.refinement)
    size = cfg.SOLVER.IMS_PER_BATCH
    images = map_training_images(cfg, dataset_records(cfg.DATASETS.TRAIN[0], batches * size), seed=0)
    found = []
    for start in range(0, len(images), size):
        with EventStorage(0):
            losses = model(images[start : start + size])
        found.append(compare_gradients(model, losses))
    return counts.rows(), {part: np.median([one[part] for one in found], 0) for part in found[0]}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.refinement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder of a training with refinement")
    parser.add_argument(
        "--weights", action="append", metavar="FILE", help="of the folder; once for each (default: model_final.pth)"
    )
    parser.add_argument("--batches", type=int, default=8, help="default: %(default)s")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="over the run's config")
    args = parser.parse_args(argv)
    try:
        cfg = get_cfg(args.run / CONFIG_FILE)
        merge_options(cfg, args.opts)
        if not cfg.MODEL.ROI_MASK_HEAD.REFINE.ENABLED:
            raise BenchmarkError(f"{args.run} was trained without refinement (MODEL.ROI_MASK_HEAD.REFINE.ENABLED)")
        torch.manual_seed(0)
        points, gradients = [], []
        for name in args.weights or ["model_final.pth"]:
            by_kind, by_part = measure(cfg, args.run / name, args.batches)
            points += [[name, kind, *values] for kind, values in by_kind.items()]
            gradients += [[name, part, *values] for part, values in by_part.items()]
    except (BenchmarkError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    within = [f"within {distance:g} px of the outline, %" for distance in DISTANCES]
    print(tabulate(points, ["weights", "of", *within, "wrong, %"], tablefmt="github", floatfmt=".1f"))
    print()
    headers = ["weights", "part", "gradient of the refinement / of the mask losses", "cosine"]
    print(tabulate(gradients, headers, tablefmt="github", floatfmt=".2f"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
