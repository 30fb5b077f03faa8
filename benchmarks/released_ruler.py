"""The same masks by VOC2010 and as the authors' released program reads them.

    python -m benchmarks.released_ruler --dataset dsb2018_val

True masks are brought to the size of the program's input, 512 x 512, and their outlines are perturbed; nothing else is
wrong with them. The evaluator "released" resizes them to the image as that program does; "voc2010" gets the masks that
a right resize gives: a pixel belongs to the object if at least half of it does. What the two differ by is what the
paper's numbers of its own method owe to the way in which they were computed.
"""

import argparse
import tempfile
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances
from scipy import ndimage
from tabulate import tabulate

from objguided_d2.config import get_cfg
from objguided_d2.data.builtin import register_prepared
from objguided_d2.evaluation import build_evaluator
from objguided_d2.evaluation.ground_truth import load_ground_truth
from objguided_d2.evaluation.released import resize_weights
from objguided_d2.utils.rle import EncodedMasks, decode_in_box, encode_mask

INPUT_SIDE = 512
ROWS = {"masks": ("voc_seg", "released_seg"), "boxes": ("voc_dec", "released_dec")}


def main(argv: Sequence[str] | None = None) -> None:
    """Print both kinds of AP; ``argv`` as for :meth:`ArgumentParser.parse_args`."""
    parser = argparse.ArgumentParser(description="Perturbed true masks by VOC2010 and by the released program's rules.")
    parser.add_argument("--dataset", default="dsb2018_val", help="registered or prepared (default: %(default)s)")
    parser.add_argument(
        "--strength",
        type=float,
        default=0.15,
        help="of the perturbation, in radii (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args(argv)
    register_prepared(args.dataset)
    results = read_by_both(args.dataset, args.strength, args.seed)
    rows = [(what, *(results[task]["AP"] for task in tasks)) for what, tasks in ROWS.items()]
    print(tabulate(rows, headers=("AP of perturbed true", "VOC2010", "as released"), floatfmt=".1f"))


def read_by_both(dataset_name: str, strength: float, seed: int = 0) -> dict[str, dict[str, float]]:
    """Results of "voc2010" and "released" on perturbed true masks.

    Args:
        dataset_name: registered, with masks.
        strength: standard deviation of the moves of outlines, in radii; that of an object is drawn around it, and its
            score falls with it.
    """
    rng = np.random.default_rng(seed)
    cfg = get_cfg()
    cfg.TEST.EVALUATORS = ["voc2010", "released"]
    cfg.TEST.DETECTIONS_PER_IMAGE = 1000  # More than any image has objects.
    with tempfile.TemporaryDirectory() as folder:
        ground_truth = load_ground_truth(dataset_name, folder)
        evaluator = build_evaluator(cfg, dataset_name, folder)
    evaluator.reset()
    for image in ground_truth.imgs.values():
        objects = [ground_truth.annToRLE(a) for a in ground_truth.imgToAnns[image["id"]] if not a.get("iscrowd", 0)]
        size = (image["height"], image["width"])
        instances = perturb(objects, size, strength, rng)
        evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    return evaluator.evaluate()


def perturb(objects: Sequence[dict], size: tuple[int, int], strength: float, rng: np.random.Generator) -> Instances:
    """Perturbed masks of one image, as a model with the released program's input gives them.

    Args:
        objects: RLEs of ``size``, (height, width).
        strength: see :func:`read_by_both`.
    """
    # Pixels of the input by nearest-neighbor, and back bilinearly.
    taken = [np.arange(INPUT_SIDE) * side // INPUT_SIDE for side in size]
    rows, columns = (resize_weights(INPUT_SIDE, side) for side in size)
    input_masks, whole_masks, scores = [], [], []
    for rle in objects:
        (y, x), mask = decode_in_box(rle)
        whole_object = np.zeros(size, bool)
        whole_object[y, x] = mask
        own_strength = strength * rng.lognormal(sigma=0.7)
        at_input = move_outline(whole_object[np.ix_(*taken)], own_strength, rng)
        whole = rows @ at_input @ columns.T >= 0.5
        if whole.any():
            input_masks.append(encode_mask(at_input))
            whole_masks.append(whole)
            scores.append(np.exp(-own_strength))
    masks = torch.from_numpy(np.array(whole_masks, bool).reshape(-1, *size))
    return Instances(
        size,
        pred_boxes=BitMasks(masks).get_bounding_boxes(),
        pred_masks=masks,
        input_masks=EncodedMasks(input_masks),
        scores=torch.tensor(scores, dtype=torch.float64),
        pred_classes=torch.zeros(len(scores), dtype=torch.int64),
    )


def move_outline(mask: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A mask (H, W) grown or shrunk, shifted, and with a wavy outline, each by about ``strength`` radii."""
    if not mask.any():
        return mask
    radius = np.sqrt(np.count_nonzero(mask) / np.pi)
    margin = int(np.ceil(radius)) + 2
    (y, x), (height, width) = np.nonzero(mask), mask.shape
    window = np.s_[
        max(y.min() - margin, 0) : min(y.max() + margin + 1, height),
        max(x.min() - margin, 0) : min(x.max() + margin + 1, width),
    ]
    inside = mask[window]
    # Positive inside; the outline is where it is 0.
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    depth = ndimage.shift(depth, rng.normal(scale=strength * radius / 2, size=2), order=1, mode="nearest")
    waves = ndimage.gaussian_filter(rng.normal(size=inside.shape), max(radius / 3, 1))
    depth += strength * radius * (waves / waves.std() + rng.normal() / 2)
    moved = np.zeros_like(mask)
    moved[window] = depth > 0
    return moved


if __name__ == "__main__":
    main()
