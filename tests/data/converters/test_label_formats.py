"""Label files of other programs, each against the masks that they were made from."""

import base64
import io
import json
import pickle
import zipfile

import cv2
import numpy as np
import pytest
import roifile
from PIL import Image

from objguided_d2.data.converters.labelmaps import convert_labelmaps
from objguided_d2.data.source_error import SourceError
from objguided_d2.inference.writers import WRITERS
from tests.data.sources import labels, masks_of, random_image, read_split, write
from tests.inference.shapes import segmented

BOXES = ((2, 2, 10, 9), (12, 4, 30, 20))
CELLS = labels(*BOXES)


def corners(box):
    x1, y1, x2, y2 = box
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def convert(tmp_path, **kwargs):
    """Four images and their labels, without a held-out split; the content and the notes."""
    for number in range(4):
        write(tmp_path / "images" / f"img{number}.png", random_image())
    kwargs = {"val_fraction": 0, **kwargs}
    notes = convert_labelmaps(tmp_path / "images", tmp_path / "labels", tmp_path / "out" / "cells", **kwargs)
    return read_split(tmp_path / "out" / "cells", "train"), notes


def for_all(tmp_path, name, content):
    for number in range(4):
        write(tmp_path / "labels" / name.format(number), content)


def assert_cells(content, stem="img1"):
    assert len(content["images"]) == 4
    masks = masks_of(content, stem)
    assert len(masks) == 2 and all(np.array_equal(mask, CELLS == i) for i, mask in enumerate(masks, start=1))


def labelme(*shapes, **fields):
    return {"version": "5.5.0", "imageHeight": 24, "imageWidth": 40, "shapes": list(shapes), **fields}


def shape(points, **fields):
    return {"label": "cell", "points": points, **fields}


def picture(box):
    x1, y1, x2, y2 = box
    file = io.BytesIO()
    Image.fromarray(np.ones((y2 - y1, x2 - x1), bool)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


SHAPES = {
    "version 3": [shape(corners(box), line_color=None, fill_color=None) for box in BOXES],
    "polygons": [shape(corners(box), shape_type="polygon") for box in BOXES],
    "rectangles of two corners": [shape([box[:2], box[2:]], shape_type="rectangle") for box in BOXES],
    "rectangles of four corners": [shape(corners(box), shape_type="rectangle") for box in BOXES],
    "rotated boxes": [shape(corners(box), shape_type="rotation") for box in BOXES],
    "masks": [
        shape([[x1, y1], [x2 - 1, y2 - 1]], shape_type="mask", mask=picture((x1, y1, x2, y2)))
        for x1, y1, x2, y2 in BOXES
    ],
    "label null": [shape(corners(box), label=None) for box in BOXES],
    "label a number": [shape(corners(box), label=3) for box in BOXES],
}


@pytest.mark.parametrize("kind", SHAPES)
def test_labelme_shapes_of_versions_3_to_5(tmp_path, kind):
    for_all(tmp_path, "img{}.json", labelme(*SHAPES[kind]))
    content, notes = convert(tmp_path)
    assert_cells(content)
    name = {"label null": "object", "label a number": "3"}.get(kind, "cell")
    assert content["categories"] == [{"id": 1, "name": name}] and not notes.num_left_out
    assert ("img0.json, shape 0" in notes.names["shape without a label, of class 'object'"]) == (kind == "label null")


@pytest.mark.parametrize(
    "points", [[[10, 6], [30, 18]], [[10, 6], [30, 6], [30, 18], [10, 18]]], ids=["two corners", "four corners"]
)
def test_labelme_ellipse(tmp_path, points):
    for_all(tmp_path, "img{}.json", labelme(shape(points, shape_type="ellipse")))
    (mask,) = masks_of(convert(tmp_path)[0], "img0")
    expected = np.zeros((24, 40), np.uint8)
    cv2.ellipse(expected, ((19.5, 11.5), (20, 12), 0), 1, -1)
    assert (mask & (expected > 0)).sum() / (mask | (expected > 0)).sum() > 0.9


def test_labelme_mask_that_leaves_the_image_is_cut(tmp_path):
    for_all(tmp_path, "img{}.json", labelme(shape([[-3, -2], [4, 5]], shape_type="mask", mask=picture((0, 0, 8, 8)))))
    (mask,) = masks_of(convert(tmp_path)[0], "img0")
    assert np.array_equal(mask, labels((0, 0, 5, 6)) > 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "cp1252"])
def test_json_in_other_encodings(tmp_path, encoding):
    name = "z\u00e9llule" if encoding == "cp1252" else "\u7ec6\u80de"
    text = json.dumps(labelme(*[shape(corners(box), label=name) for box in BOXES]), ensure_ascii=False)
    for_all(tmp_path, "img{}.json", text.encode(encoding))
    content, notes = convert(tmp_path)
    assert_cells(content)
    assert content["categories"][0]["name"] == name
    # What nothing in the file tells is told.
    assert ("img0.json" in notes.full_text()) == (encoding in ("gb18030", "cp1252"))


def test_objects_of_each_class_are_printed(tmp_path, capsys):
    for_all(tmp_path, "img{}.json", labelme(shape(corners(BOXES[0])), shape(corners(BOXES[1]), label="Cell")))
    convert(tmp_path)
    assert "classes: Cell 4, cell 4\n" in capsys.readouterr().out


def feature(geometry, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def ring(box):
    return [*corners(box), corners(box)[0]]


@pytest.mark.parametrize("ending", ["img{}.geojson", "img{}.json", "img{}.png.geojson"])
@pytest.mark.parametrize("as_collection", [True, False])
def test_geojson_of_qupath(tmp_path, ending, as_collection):
    features = [
        feature({"type": "Polygon", "coordinates": [ring(BOXES[0])]}, classification={"name": "Tumor"}),
        feature({"type": "MultiPolygon", "coordinates": [[ring(BOXES[1])]]}, classification={"names": ["Immune", "T"]}),
        feature({"type": "Point", "coordinates": [3, 4]}),
    ]
    for_all(tmp_path, ending, {"type": "FeatureCollection", "features": features} if as_collection else features)
    content, notes = convert(tmp_path)
    assert_cells(content)
    assert [c["name"] for c in content["categories"]] == ["Immune: T", "Tumor"]
    assert [a["category_id"] for a in content["annotations"][:2]] == [2, 1]
    assert "its geometry is Point, which has no area" in notes.full_text()


def test_hole_of_a_geojson_polygon_stays_open(tmp_path):
    outline = {"type": "Polygon", "coordinates": [ring(BOXES[1]), ring((16, 8, 20, 12))]}
    for_all(tmp_path, "img{}.geojson", {"type": "FeatureCollection", "features": [feature(outline)]})
    (mask,) = masks_of(convert(tmp_path)[0], "img0")
    assert np.array_equal(mask, (CELLS == 2) & (labels((16, 8, 20, 12)) == 0))


class Harmful:
    def __reduce__(self):
        return (exec, ("raise AssertionError('code of a pickle was run')",))


@pytest.mark.parametrize("protocol", [2, 4])
def test_cellpose_files_are_read_without_running_what_they_name(tmp_path, protocol):
    content = {
        "masks": CELLS.astype(np.uint16),
        "filename": Harmful(),
        "flows": [np.zeros((2, 3), np.float32), Harmful()],
        "ismanual": np.array([True, False]),
        "chan_choose": [0, 0],
        "colors": np.array([None, Harmful()], dtype=object),
        "est_diam": np.float32(3),
    }
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    array = np.array(content, dtype=object)
    for number in range(4):
        path = tmp_path / "labels" / f"img{number}_seg.npy"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(header.getvalue() + pickle.dumps(array, protocol=protocol))
    assert_cells(convert(tmp_path)[0])


def test_cellpose_folder_as_its_program_leaves_it(tmp_path):
    for number in range(4):
        for name, array in (("", random_image()), ("_cp_masks", CELLS), ("_flows", random_image())):
            write(tmp_path / "data" / f"img{number}{name}.tif", array)
        write(tmp_path / "data" / f"img{number}_cp_outlines.txt", "1,2,3,4,5,6")
        np.save(tmp_path / "data" / f"img{number}_seg.npy", {"masks": CELLS}, allow_pickle=True)
    notes = convert_labelmaps(tmp_path / "data", tmp_path / "data", tmp_path / "out" / "cells", val_fraction=0)
    assert_cells(read_split(tmp_path / "out" / "cells", "train"))
    assert not notes.num_left_out


def test_plain_array_file(tmp_path):
    for number in range(4):
        (tmp_path / "labels").mkdir(exist_ok=True)
        np.save(tmp_path / "labels" / f"img{number}.npy", CELLS)
    assert_cells(convert(tmp_path)[0])
    table = write(tmp_path / "classes.csv", "label,class\n1,nucleus\n2,cell\n")
    assert [c["name"] for c in convert(tmp_path, classes=table)[0]["categories"]] == ["cell", "nucleus"]
    for number in range(4):
        np.save(tmp_path / "labels" / f"img{number}.npy", CELLS > 0)
    assert_cells(convert(tmp_path, split_components=True)[0])


def test_all_forms_that_predict_writes_are_the_same_labels(tmp_path):
    objects = segmented([CELLS == 1, CELLS == 2], class_names=("cell",))
    for number in range(4):
        for name in ("labels", "geojson", "rois", "coco", "table", "zarr"):
            WRITERS[name].write(objects, WRITERS[name].path(tmp_path / "labels" / f"img{number}"))
        write(tmp_path / "labels" / f"img{number}.overlay.png", random_image())
    write(tmp_path / "labels" / "run.json", {})
    for ending, count in ((".labels.tif", 3), (".geojson", 2), (".rois.zip", 1), (".coco.json", 0)):
        content, notes = convert(tmp_path)
        assert_cells(content)
        assert not notes.num_left_out
        assert notes.full_text().count(f"labels in several forms, one is read: img0{ending}, not img0.") == count
        for number in range(4):
            (tmp_path / "labels" / f"img{number}{ending}").unlink()


def test_damaged_array_file_is_left_out(tmp_path):
    for_all(tmp_path, "img{}.png", CELLS)
    (tmp_path / "labels" / "img0.png").unlink()
    write(tmp_path / "labels" / "img0_seg.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O'")
    content, notes = convert(tmp_path)
    assert len(content["images"]) == 3 and "img0_seg.npy cannot be read" in notes.full_text()


def rois():
    polygon, rectangle = (roifile.ImagejRoi.frompoints(np.array(corners(box))) for box in BOXES)
    rectangle.roitype = roifile.ROI_TYPE.RECT
    rectangle.left, rectangle.top, rectangle.right, rectangle.bottom = BOXES[1]
    rectangle.integer_coordinates = None
    rectangle.n_coordinates = 0
    point = roifile.ImagejRoi.frompoints(np.array([[3, 3]]))
    point.roitype = roifile.ROI_TYPE.POINT
    return {"a.roi": polygon.tobytes(), "b.roi": rectangle.tobytes(), "c.roi": point.tobytes(), "d.roi": b"Iout"}


@pytest.mark.parametrize("name", ["img{}.zip", "img{}_rois.zip"])
def test_archive_of_imagej_regions(tmp_path, name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member, data in rois().items():
            archive.writestr(member, data)
        archive.writestr("../outside.txt", "ignored")
    for_all(tmp_path, name, file.getvalue())
    content, notes = convert(tmp_path)
    assert_cells(content)
    text = notes.full_text()
    assert (
        "c.roi: is a point, which has no area" in text and "d.roi: " in text and not (tmp_path / "outside.txt").exists()
    )


def test_single_imagej_region(tmp_path):
    for_all(tmp_path, "img{}.roi", rois()["a.roi"])
    (mask,) = masks_of(convert(tmp_path)[0], "img0")
    assert np.array_equal(mask, CELLS == 1)


def yolo_line(box, label=0):
    return " ".join([str(label), *(f"{x / 40} {y / 24}" for x, y in corners(box))])


@pytest.mark.parametrize("table", ["classes.txt", "data.yaml", None])
def test_yolo_segmentation_labels(tmp_path, table):
    text = "\n".join([yolo_line(BOXES[0], 1), "0 0.5 0.5 0.1 0.1", yolo_line(BOXES[1], 0), "0 1 2", "0 7 7 9 7 9 9"])
    for_all(tmp_path, "img{}.txt", text)
    if table:
        names = "cell\nnucleus\n" if table == "classes.txt" else "names: {0: cell, 1: nucleus}\nnc: 2\n"
        write(tmp_path / "labels" / table, names)
    content, notes = convert(tmp_path)
    assert_cells(content)
    expected = ["cell", "nucleus"] if table else ["class 0", "class 1"]
    assert [c["name"] for c in content["categories"]] == expected
    assert [a["category_id"] for a in content["annotations"][:2]] == [2, 1]
    noted = notes.full_text()
    assert (
        "line 2: is a box" in noted and "line 4: has 2 coordinates" in noted and "line 5: has coordinates of 7" in noted
    )


def test_yolo_boxes_are_no_masks(tmp_path):
    for_all(tmp_path, "img{}.txt", "0 0.5 0.5 0.1 0.1")
    with pytest.raises(SourceError, match="img0.txt holds boxes, not outlines; export YOLO segmentation labels"):
        convert(tmp_path)


OTHER_JSON = {
    "COCO": ({"images": [], "annotations": []}, "is a COCO file; give it as --labels"),
    "VIA": ({"_via_img_metadata": {}}, "is of the VGG Image Annotator; export COCO"),
    "Label Studio": ([{"data": {}, "annotations": []}], "is of Label Studio; export COCO"),
    "Supervisely": ({"objects": []}, "is of Supervisely or Cityscapes"),
    "other": ({"a": 1}, "is not a LabelMe, GeoJSON or COCO file"),
}


@pytest.mark.parametrize("kind", OTHER_JSON)
def test_json_of_another_program_is_named(tmp_path, kind):
    for_all(tmp_path, "img{}.png", CELLS)
    (tmp_path / "labels" / "img0.png").unlink()
    content, message = OTHER_JSON[kind]
    write(tmp_path / "labels" / "img0.json", content)
    assert f"img0.json {message}" in convert(tmp_path)[1].full_text()


@pytest.mark.parametrize(
    "ending, advice", [(".mat", "save the label array"), (".xml", "export the outlines"), (".czi", "open it in Fiji")]
)
def test_file_of_a_kind_that_is_not_read_is_named_with_what_to_do(tmp_path, ending, advice):
    for_all(tmp_path, "img{}.png", CELLS)
    write(tmp_path / "labels" / f"more{ending}", b"x")
    notes = convert(tmp_path)[1]
    assert f"{ending} files are not read ({advice}" in notes.full_text() and notes.num_left_out == 1


@pytest.mark.parametrize("ending", [".webp", ".jp2"])
def test_lossless_webp_and_jpeg_2000_images(tmp_path, ending):
    for number in range(4):
        path = tmp_path / "images" / f"img{number}{ending}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random_image()).save(path, **({"lossless": True} if ending == ".webp" else {}))
    for_all(tmp_path, "img{}.png", CELLS)
    convert_labelmaps(tmp_path / "images", tmp_path / "labels", tmp_path / "out" / "cells", val_fraction=0)
    assert_cells(read_split(tmp_path / "out" / "cells", "train"))
    written = cv2.imread(str(tmp_path / "out/cells/train/img0.png"))[..., ::-1]
    assert np.array_equal(written, random_image())
