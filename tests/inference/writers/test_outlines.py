import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from objguided_d2.inference.writers.outlines import trace_pieces
from tests.inference.shapes import NAMES, SHAPE, fill, full_masks


def rings_of(pieces):
    return [ring for piece in pieces for ring in (piece.outer, *piece.holes)]


def signed_area(ring):
    following = np.roll(ring, -1, axis=0)
    return (ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum() / 2


def test_outline_of_a_rectangle_is_its_four_pixel_corners():
    mask = np.zeros((9, 12), bool)
    mask[3:8, 2:6] = True
    (piece,) = trace_pieces(mask)
    assert piece.outer.tolist() == [[2, 3], [6, 3], [6, 8], [2, 8]] and piece.holes == []
    (moved,) = trace_pieces(mask, offset=(100, 7))
    assert moved.outer[0].tolist() == [102, 10]


@pytest.mark.parametrize(
    "name, num_pieces, num_holes",
    [
        ("ring", 1, 1),
        ("two pieces", 2, 0),
        ("pixel", 1, 0),
        ("diagonal pieces", 2, 0),
        ("two holes that touch", 1, 2),
    ],
)
def test_pieces_and_holes(name, num_pieces, num_holes):
    pieces = trace_pieces(full_masks()[name])
    assert len(pieces) == num_pieces and sum(len(piece.holes) for piece in pieces) == num_holes


def test_an_outline_that_closes_on_itself_becomes_an_outline_and_a_hole():
    mask = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    (piece,) = trace_pieces(mask)
    assert signed_area(piece.outer) == 8 and [signed_area(hole) for hole in piece.holes] == [-1]


@pytest.mark.parametrize("name", NAMES)
def test_filling_the_outline_gives_the_mask_back(name):
    mask = full_masks()[name]
    assert np.array_equal(fill(rings_of(trace_pieces(mask)), SHAPE), mask)


@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_mask_comes_back_and_each_ring_passes_a_corner_once(mask):
    pieces = trace_pieces(mask)
    rings = rings_of(pieces)
    assert np.array_equal(fill(rings, mask.shape), mask)
    assert all(len({tuple(corner) for corner in ring.tolist()}) == len(ring) for ring in rings)
    assert all(signed_area(piece.outer) > 0 and all(signed_area(hole) < 0 for hole in piece.holes) for piece in pieces)
    assert sum(signed_area(ring) for ring in rings) == mask.sum()
    for ring in rings:
        # Rows and columns in turn: each corner is one.
        steps = np.roll(ring, -1, axis=0) - ring
        assert ((steps == 0).sum(axis=1) == 1).all() and ((steps == 0) != np.roll(steps == 0, 1, axis=0)).all()
