"""How long each evaluator takes for a thousand images of fifty objects, in one thread."""

import argparse

import cv2
import torch
from tabulate import tabulate

from objguided_d2.evaluation.build import EVALUATORS
from objguided_d2.evaluation.coco import LIBRARIES
from objguided_d2.profiling.evaluators import time_evaluators


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--objects", type=int, default=50, help="an image (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of an image (default: %(default)s)")
    parser.add_argument("--evaluators", nargs="+", choices=EVALUATORS, default=list(EVALUATORS), help="default: all")
    parser.add_argument("--coco-eval", choices=LIBRARIES, default="faster_coco_eval", help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    seconds = time_evaluators(args.images, args.objects, args.size, args.evaluators, coco_eval=args.coco_eval)
    print(f"{args.images} images of {args.size} x {args.size} with {args.objects} objects, one thread")
    print(tabulate([(name, f"{time:.1f}") for name, time in seconds.items()], headers=("evaluator", "seconds")))


if __name__ == "__main__":
    main()
