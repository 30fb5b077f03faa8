import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from objguided_d2.data.converters.conversion import ConversionNotes
from objguided_d2.data.converters.label_objects import clean_mask, label_objects
from tests.data.sources import labels


def test_objects_in_order_of_their_labels_whatever_these_are():
    array = labels((0, 0, 4, 4), (10, 2, 20, 9), dtype=np.int64)
    array[array == 1] = 70000
    notes = ConversionNotes()
    found = list(label_objects(array, "a.tif", notes))
    assert [label for label, _ in found] == [2, 70000]
    assert all(np.array_equal(mask, array == label) for label, mask in found)
    assert not notes.names


def test_label_image_without_background():
    assert [label for label, _ in label_objects(np.full((3, 3), 5), "a", ConversionNotes())] == [5]
    assert list(label_objects(np.zeros((3, 3), int), "a", ConversionNotes())) == []


def test_pieces_stay_together_and_specks_go():
    array = labels((0, 0, 4, 4))
    array[10:14, 20:24] = 1  # second piece
    array[20, 30:32] = 1  # speck of two pixels
    array[5, 5] = 2  # object of one pixel
    array[10, 30] = array[11, 31] = array[12, 32] = 3  # three pixels that touch at corners
    notes = ConversionNotes()
    found = dict(label_objects(array, "a.png", notes))
    assert found[1].sum() == 32 and found[3].sum() == 3 and set(found) == {1, 3}
    text = str(notes)
    assert "in several pieces, kept as one: 1" in text and "a.png, label 1" in text
    assert "specks" in text and "object of 1 or 2 pixels, dropped: 1" in text and "a.png, label 2" in text


@given(arrays(np.uint8, (9, 11), elements=st.integers(0, 4)))
def test_every_pixel_of_a_kept_object_has_its_label(array):
    for label, mask in label_objects(array, "a", ConversionNotes()):
        assert mask.any() and (array[mask] == label).all()


def test_empty_after_cleaning():
    assert clean_mask(np.eye(2, dtype=bool), "a", ConversionNotes()) is None
