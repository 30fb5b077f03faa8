"""Warnings on label images that are none, and none on those that are."""

import cv2
import numpy as np
import pytest
from PIL import Image

from objguided_d2.data.converters.labelmaps import convert_labelmaps
from objguided_d2.data.label_plausibility import implausible_labels
from tests.data.sources import masks_of, random_image, read_split, write


def cells(count=9, radius=6, size=96):
    """Discs apart, labels 1 to ``count``."""
    labels = np.zeros((size, size), np.uint16)
    for label in range(count):
        center = 16 + 30 * (label % 3), 16 + 30 * (label // 3)
        cv2.circle(labels, center, radius, label + 1, -1)
    return labels


def touching(size=96):
    """A tiling of the whole image by cells that touch."""
    y, x = np.mgrid[:size, :size]
    return 1 + y // 12 * 8 + x // 12


@pytest.mark.parametrize("labels", [cells(), touching(), cells() * 20, cells(1), np.zeros((9, 9), int), cells(2)])
def test_labels_that_are_labels_raise_no_warning(labels):
    assert implausible_labels(labels) == []


def test_thin_objects_between_others_raise_no_warning():
    labels = cells()
    labels[40:42] = 30
    labels[42:44] = 20
    labels[:, 50:52] = 25
    assert implausible_labels(labels) == []


def test_one_object_in_two_pieces_raises_no_warning():
    labels = cells(2)
    assert implausible_labels((labels > 0).astype(int)) == []


def test_binary_mask_of_many_objects():
    (text,) = implausible_labels((cells() > 0) * 255)
    assert "9 separate pieces of the one value 255" in text and "--components" in text


def test_white_background():
    (text,) = implausible_labels(np.where(cells() == 0, 255, cells()))
    assert text.startswith("a background that is not 0: the value 255 covers 8") and "100 % of its border" in text


@pytest.mark.parametrize("change", ["bilinear", "blur"])
def test_interpolated_edges(change):
    labels = (cells() * 20).astype(np.uint8)
    if change == "blur":
        labels = cv2.GaussianBlur(labels, (3, 3), 0)
    else:
        labels = cv2.resize(labels, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_LINEAR)
    texts = implausible_labels(labels)
    assert any(text.startswith("interpolated or smoothed edges: ") for text in texts)


def test_lossy_format():
    (text,) = implausible_labels(cells(), is_lossy=True)
    assert text.startswith("a lossy format has changed labels: 9 values")


@pytest.fixture
def binary_pairs(tmp_path):
    for number in range(2):
        write(tmp_path / "images" / f"a{number}.png", random_image(96, 96))
        write(tmp_path / "labels" / f"a{number}.png", ((cells() > 0) * 255).astype(np.uint8))
    return tmp_path


def convert(tmp_path, **kwargs):
    notes = convert_labelmaps(
        tmp_path / "images", tmp_path / "labels", tmp_path / "out" / "cells", val_fraction=0, **kwargs
    )
    return read_split(tmp_path / "out" / "cells", "train"), notes.full_text()


def test_preparation_warns_of_a_binary_mask_and_splits_it_when_asked(binary_pairs):
    content, text = convert(binary_pairs)
    assert len(content["annotations"]) == 2
    assert "labels that may be none, kept: a binary mask rather than labels: a0.png: 9 separate pieces" in text
    content, _ = convert(binary_pairs, split_components=True)
    assert sorted(mask.sum() for mask in masks_of(content, "a1")) == [np.count_nonzero(cells() == 1)] * 9


def test_preparation_warns_of_jpeg_labels(tmp_path):
    for number in range(2):
        write(tmp_path / "images" / f"a{number}.png", random_image(96, 96))
        path = tmp_path / "labels" / f"a{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((cells() * 20).astype(np.uint8)).save(path)
    assert "kept: a lossy format has changed labels: a0.jpg" in convert(tmp_path)[1]
