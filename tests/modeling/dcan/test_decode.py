from collections import deque

import numpy as np
import pytest
import torch

from objguided_d2.modeling.dcan.decode import separate_objects
from objguided_d2.modeling.dcan.targets import dilate, outlines

SIZE = 80


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[:SIZE, :SIZE]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def label(*masks: np.ndarray) -> np.ndarray:
    label_map = np.zeros((SIZE, SIZE), np.int64)
    for i, mask in enumerate(masks, start=1):
        label_map[mask] = i
    return label_map


def decode_truth(label_map: np.ndarray, radius: int = 3, smoothing: int = 3, min_area: int = 13) -> np.ndarray:
    """What comes of probabilities that are right everywhere."""
    contours = dilate(outlines(torch.from_numpy(label_map)[None]), radius)[0].numpy()
    return separate_objects(
        (label_map > 0) * 0.9,
        contours * 0.8,
        contour_radius=radius,
        smoothing_radius=smoothing,
        min_area=min_area,
    )


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


TOUCHING = label(disc(25, 20, 13), disc(25, 46, 13))
SHAPES = {
    "discs apart": label(disc(20, 20, 12), disc(55, 50, 20)),
    "discs that touch": TOUCHING,
    "at the edge of the image": label(disc(0, 40, 20), disc(79, 79, 18)),
    "a rectangle": label(np.pad(np.ones((18, 40), bool), ((11, 51), (7, 33)))),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_come_back_from_their_own_contours(shape):
    truth = SHAPES[shape]
    found = decode_truth(truth)
    assert found.max() == truth.max()
    for i in range(1, truth.max() + 1):
        owner = np.bincount(found[truth == i]).argmax()
        assert owner > 0 and iou(found == owner, truth == i) > 0.95
    assert not (found > 0)[truth == 0].any()


def test_without_contours_objects_that_touch_are_one():
    found = separate_objects(
        (TOUCHING > 0) * 1.0, np.zeros((SIZE, SIZE)), contour_radius=3, smoothing_radius=3, min_area=13
    )
    assert found.max() == 1 and iou(found > 0, TOUCHING > 0) > 0.95


def test_bridges_go_holes_are_filled_and_specks_are_no_objects():
    p_object = label(disc(20, 20, 12), disc(20, 50, 12)) > 0
    p_object[19:22, 20:50] = True
    p_object[20, 18] = p_object[60, 60] = p_object[60, 61] = False
    p_object[70:72, 70:72] = True
    bridged = np.zeros_like(p_object)
    bridged[19:22, 33:38] = True
    found = separate_objects(
        p_object.astype(float), np.zeros(p_object.shape), contour_radius=0, smoothing_radius=2, min_area=13
    )
    assert found.max() == 2 and found[20, 18] == found[20, 19] > 0 and not found[70:72, 70:72].any()
    # Both have grown along the bridge, each from its own end.
    assert {*found[20, 8:33]} == {found[20, 20]} and {*found[20, 38:63]} == {found[20, 50]}


def test_pieces_of_the_interior_are_those_of_a_flood_fill():
    rng = np.random.default_rng(0)
    p_object, p_contour = rng.random((2, 30, 33)) ** 0.7
    found = separate_objects(p_object, p_contour, contour_radius=0, smoothing_radius=0, min_area=4)
    interior = (p_object >= 0.5) & (p_contour < 0.5)
    pieces = [piece for piece in flood_fill(fill_holes(interior)) if len(piece) >= 4]
    assert found.max() == len(pieces) > 3
    for piece in pieces:
        assert len({found[pixel] for pixel in piece}) == 1 and found[piece[0]] > 0
    assert len({found[piece[0]] for piece in pieces}) == len(pieces)


def flood_fill(region: np.ndarray) -> list[list[tuple[int, int]]]:
    """Pixels of every piece, whose pixels lie beside, above or below one another."""
    left = {tuple(pixel) for pixel in np.argwhere(region).tolist()}
    pieces = []
    while left:
        queue, piece = deque([left.pop()]), []
        while queue:
            y, x = queue.popleft()
            piece.append((y, x))
            for neighbor in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if neighbor in left:
                    left.remove(neighbor)
                    queue.append(neighbor)
        pieces.append(piece)
    return pieces


def fill_holes(region: np.ndarray) -> np.ndarray:
    filled = region.copy()
    height, width = region.shape
    for piece in flood_fill(~region):
        if not any(y in (0, height - 1) or x in (0, width - 1) for y, x in piece):
            filled[tuple(np.transpose(piece))] = True
    return filled


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_nothing_gives_no_object(value):
    empty = np.full((6, 9), value)
    found = separate_objects(empty, empty, contour_radius=3, smoothing_radius=3, min_area=1)
    assert found.shape == (6, 9) and not found.any()
