"""The same images across methods, chosen by rule, objects colored by what went wrong with them (Figure 4).

R runs, N images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..data.pixels import read_picture
from ..evaluation.compared_image import ComparedImage
from ..utils.contact_sheet import Tile, draw_instances
from ..utils.rle import decode_in_box
from .error_kinds import KINDS, classify


class Color(NamedTuple):
    """A color, its values 0 to 255."""

    name: str
    rgb: tuple[int, int, int]


# Okabe and Ito's colors: told apart by color-blind people on dark and light images.
ERROR_KIND_COLORS = {
    "correct": Color("green", (0, 158, 115)),
    "boundary": Color("light blue", (86, 180, 233)),
    "merged": Color("orange", (230, 159, 0)),
    "split": Color("pink", (204, 121, 167)),
    "missed": Color("yellow", (240, 228, 66)),
    "spurious": Color("red", (213, 94, 0)),
}
TRUTH_COLOR = (255, 255, 255)
ZOOM_SIDE = 96  # pixels of the image in a zoomed panel
PANEL_SIDE = 384  # pixels of a panel on the page


def choose_images(accuracy: np.ndarray, num_objects: np.ndarray) -> dict[str, int]:
    """Images worth looking at, each once.

    Args:
        accuracy: (R, N) per-image scores.
        num_objects: (N,) true objects.

    Returns:
        Why it was chosen -> index, in the order in which they are shown; fewer for few images. Best, median and worst
        are by the mean over runs, of images with objects. A rule whose image another has taken has the next one by it
        ("next worst").
    """
    with_objects = np.flatnonzero(num_objects > 0)
    by_mean = with_objects[np.argsort(-accuracy[:, with_objects].mean(axis=0), kind="stable")]
    spread = accuracy.max(axis=0) - accuracy.min(axis=0)
    ranked = {
        "best": by_mean,
        "median": by_mean[np.argsort(np.abs(np.arange(len(by_mean)) - (len(by_mean) - 1) / 2), kind="stable")],
        "worst": by_mean[::-1],
        "largest disagreement": with_objects[np.argsort(-spread[with_objects], kind="stable")],
        "most crowded": with_objects[np.argsort(-num_objects[with_objects], kind="stable")],
    }
    chosen: dict[str, int] = {}
    for reason, order in ranked.items():
        free = [int(index) for index in order if int(index) not in chosen.values()]
        if free:
            chosen[reason if free[0] == order[0] else f"next {reason}"] = free[0]
    return chosen


def panel_row(compared: Mapping[str, ComparedImage], image_root: Path, reason: str, zoomed: bool = False) -> list[Tile]:
    """Truth and each run on one image.

    Args:
        compared: name of each run -> its predictions on the image beside the truth.
        image_root: folder of the dataset's images.
        reason: why the image is shown.
        zoomed: show the window where the runs disagree most instead of the whole image.

    Returns:
        1 + R tiles.
    """
    first = next(iter(compared.values()))
    file_name = first.record["file_name"]
    image = read_picture(image_root / file_name)
    size = image.shape[:2]
    window = slice(0, size[0]), slice(0, size[1])
    if zoomed:
        window = _disagreement_window([of_run.label_map for of_run in compared.values()], size)
    height, width = (axis.stop - axis.start for axis in window)
    zoom = max(1, PANEL_SIDE // max(height, width))
    truth = _stack([_cut(rle, window) for rle in first.true_masks], (height, width))
    name = Path(file_name).stem[:12]
    colors = np.full((len(truth), 3), TRUTH_COLOR, np.uint8)
    tiles = [Tile(draw_instances(image[window], truth, colors=colors, fill=0.0, zoom=zoom), f"{reason}: {name}, truth")]
    for run_name, of_run in compared.items():
        kinds = classify(of_run)
        labels = 1 + np.flatnonzero(kinds.predicted >= 0)
        missed = truth[kinds.true == KINDS.index("missed")]
        shown = _stack([of_run.label_map[window] == label for label in labels], (height, width))
        masks = np.concatenate([shown, missed])
        names = [KINDS[kinds.predicted[label - 1]] for label in labels] + ["missed"] * len(missed)
        colors = np.array([ERROR_KIND_COLORS[kind].rgb for kind in names], np.uint8).reshape(-1, 3)
        tiles.append(Tile(draw_instances(image[window], masks, colors=colors, fill=0.15, zoom=zoom), run_name))
    return tiles


def _disagreement_window(label_maps: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[slice, slice]:
    """The square in which most pixels are foreground in some runs and background in others, or edges in some alone."""
    edges = [_edges(label_map) for label_map in label_maps]
    differ = np.std(edges, axis=0) if len(edges) > 1 else edges[0].astype(float)
    side = [min(ZOOM_SIDE, axis) for axis in size]
    sums = cv2.boxFilter(differ, -1, (side[1], side[0]), normalize=False, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = sums[: size[0] - side[0] + 1, : size[1] - side[1] + 1]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return slice(int(top), int(top) + side[0]), slice(int(left), int(left) + side[1])


def _edges(label_map: np.ndarray) -> np.ndarray:
    """(H, W) float: 1 where a pixel and one beside it have different labels."""
    labels = label_map.astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    return (cv2.dilate(labels, kernel) != cv2.erode(labels, kernel)).astype(np.float64)


def _cut(rle: dict, window: tuple[slice, slice]) -> np.ndarray:
    whole = np.zeros(rle["size"], bool)
    box, mask = decode_in_box(rle)
    whole[box] = mask
    return whole[window]


def _stack(masks: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    return np.stack(masks) if len(masks) else np.zeros((0, *size), bool)


def legend_colors() -> Mapping[str, str]:
    """Kind -> CSS color."""
    return {kind: "#{:02x}{:02x}{:02x}".format(*color.rgb) for kind, color in ERROR_KIND_COLORS.items()}


def legend_in_words() -> str:
    """The kinds with the names of their colors, as a part of a sentence."""
    return ", ".join(f"{kind} ({color.name})" for kind, color in ERROR_KIND_COLORS.items())
