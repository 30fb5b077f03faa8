"""Masks to run lengths and back, against pycocotools and against the masks themselves."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from objguided_d2.utils.rle import (
    EncodedMasks,
    decode_in_box,
    decode_mask,
    encode_mask,
    encode_masks,
)

HEIGHT, WIDTH = 37, 52
masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def rectangle(side):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:side, :side] = True
    return mask


@given(masks)
def test_decoding_inverts_encoding_also_through_json(mask):
    rle = json.loads(json.dumps(encode_mask(mask)))
    decoded = decode_mask(rle)
    assert decoded.dtype == bool and np.array_equal(decoded, mask)
    assert rle["size"] == list(mask.shape)


@given(masks)
def test_mask_in_its_box(mask):
    box, inside = decode_in_box(encode_mask(mask))
    whole = np.zeros_like(mask)
    whole[box] = inside
    assert np.array_equal(whole, mask)
    assert (
        inside.size == 0 if not mask.any() else inside.any(axis=0)[[0, -1]].all() and inside.any(axis=1)[[0, -1]].all()
    )


def test_masks_of_an_image_are_encoded_one_by_one():
    stack = np.stack([rectangle(3), rectangle(5)])
    assert [decode_mask(rle).sum() for rle in encode_masks(torch.from_numpy(stack))] == [9, 25]
    assert encode_masks(torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool)) == []


def test_counts_are_text_and_those_of_pycocotools():
    expected = mask_util.encode(np.asfortranarray(rectangle(7), dtype=np.uint8))
    assert encode_mask(rectangle(7)) == {"size": [HEIGHT, WIDTH], "counts": expected["counts"].decode()}


def test_encoded_masks_index_like_a_tensor():
    tensor = torch.from_numpy(np.stack([rectangle(k) for k in (3, 5, 7)]))
    rles = encode_masks(tensor)
    masks = EncodedMasks(rles)
    assert masks[1:].to_rle() == rles[1:]
    assert masks[torch.tensor([2, 0])].to_rle() == [rles[2], rles[0]]
    assert masks[torch.tensor([True, False, True])].to_rle() == [rles[0], rles[2]]
    assert len(masks[0]) == 1


def test_masks_of_other_kinds_are_rejected():
    with pytest.raises(TypeError, match=r"bool tensor \(N, H, W\).*float32"):
        encode_masks(torch.rand(2, 5, 5))
    with pytest.raises(TypeError, match="got list"):
        encode_masks([])
