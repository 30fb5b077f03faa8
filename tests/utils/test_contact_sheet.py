import cv2
import numpy as np
import pytest

from objguided_d2.utils.contact_sheet import PALETTE, Tile, contact_sheet, draw_instances, neighbor_colors

GRAY = np.full((20, 30, 3), 100, dtype=np.uint8)


def square(y, x, side, size=(20, 30)):
    mask = np.zeros(size, dtype=bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_outline_lies_on_the_inner_edge_and_nothing_else_changes():
    mask = square(4, 6, 5)
    before = GRAY.copy()
    drawn = draw_instances(GRAY, mask[None], colors=np.array([[250, 0, 0]]), fill=0.0)
    edge = mask & ~square(5, 7, 3)
    assert (drawn[edge] == (250, 0, 0)).all()
    np.testing.assert_array_equal(drawn[~edge], GRAY[~edge])
    np.testing.assert_array_equal(GRAY, before)


def test_fill_tints_the_inside():
    drawn = draw_instances(GRAY, square(4, 6, 5)[None], colors=np.array([[200, 0, 100]]), fill=0.5)
    np.testing.assert_array_equal(drawn[6, 8], [150, 50, 100])


def test_hole_gets_an_outline():
    ring = square(2, 2, 11) & ~square(5, 5, 5)
    drawn = draw_instances(GRAY, ring[None], colors=np.array([[250, 0, 0]]), fill=0.0)
    assert (drawn[4, 7] == (250, 0, 0)).all()
    assert (drawn[7, 7] == 100).all()


def test_zoom_enlarges_the_picture_but_not_the_line():
    drawn = draw_instances(GRAY, square(4, 6, 5)[None], colors=np.array([[250, 0, 0]]), fill=0.0, zoom=3)
    assert drawn.shape == (60, 90, 3)
    red = (drawn == (250, 0, 0)).all(axis=2)
    assert red[12, 18:33].all() and red[12:27, 18].all()
    assert red.sum() == 4 * 15 - 4


def test_gray_image_no_masks_and_empty_mask():
    gray = GRAY[..., 0]
    np.testing.assert_array_equal(draw_instances(gray, np.zeros((0, 20, 30), dtype=bool)), GRAY)
    np.testing.assert_array_equal(draw_instances(gray, np.zeros((1, 20, 30), dtype=bool)), GRAY)


def test_wrong_sizes_and_types_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 30, 20\).*\(N, 20, 30\)"):
        draw_instances(GRAY, np.zeros((1, 30, 20), dtype=bool))
    with pytest.raises(ValueError, match="float64.*uint8"):
        draw_instances(GRAY / 255.0, np.zeros((1, 20, 30), dtype=bool))


def test_neighbors_differ():
    masks = np.stack([square(6 * i, 6 * j, 5, (40, 40)) for i in range(6) for j in range(6)])
    colors = neighbor_colors(masks).reshape(6, 6, 3)
    for dy, dx in [(0, 1), (1, 0), (1, 1)]:
        assert (colors[dy:, dx:] != colors[: 6 - dy, : 6 - dx]).any(axis=2).all()
    assert (colors[1:, :-1] != colors[:-1, 1:]).any(axis=2).all()


def test_a_heap_shares_colors_evenly():
    heap = np.repeat(square(0, 0, 9)[None], 2 * len(PALETTE), axis=0)
    _, uses = np.unique(neighbor_colors(heap), axis=0, return_counts=True)
    assert uses.tolist() == [2] * len(PALETTE)


def test_sheet_layout(tmp_path):
    red, green, blue = (np.full((10, 16, 3), color, dtype=np.uint8) for color in np.diag([255] * 3))
    sheet = contact_sheet([(red, ""), (green, ""), Tile(blue)], columns=2, path=tmp_path / "new" / "sheet.png")
    expected = np.full((2 * 14 + 4, 2 * 20 + 4, 3), 255, dtype=np.uint8)
    expected[4:14, 4:20], expected[4:14, 24:40], expected[18:28, 4:20] = red, green, blue
    np.testing.assert_array_equal(sheet, expected)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "sheet.png"))[..., ::-1], expected)


def test_captions_stand_above_their_tiles():
    black = np.zeros((10, 60, 3), dtype=np.uint8)
    sheet = contact_sheet([Tile(black, "input"), Tile(black)], columns=2)
    caption_height = sheet.shape[0] - 8 - 10
    assert (sheet[4 : 4 + caption_height, 4:64] < 128).any()
    assert (sheet[4 : 4 + caption_height, 64:] == 255).all()
    assert (sheet[4 + caption_height : -4, 4:64] == 0).all()


def test_pictures_are_scaled_into_their_cell_and_centered():
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    sheet = contact_sheet([Tile(wide)], columns=1, tile_size=(20, 20))
    dark = (sheet == 0).all(axis=2)
    assert dark.sum() == 5 * 20 and dark[11:16, 4:24].all()


def test_bad_sheets_are_refused_and_leave_an_old_file(tmp_path):
    path = tmp_path / "sheet.xyz"
    path.write_text("old")
    with pytest.raises(ValueError, match="sheet.xyz.*'.xyz'.*.png"):
        contact_sheet([Tile(GRAY)], 1, path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="0 tiles"):
        contact_sheet([], 1)
    with pytest.raises(ValueError, match="columns=0"):
        contact_sheet([Tile(GRAY)], 0)
