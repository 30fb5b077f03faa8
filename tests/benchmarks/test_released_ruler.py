from detectron2.data import DatasetCatalog, MetadataCatalog

from benchmarks.released_ruler import read_by_both
from tests.evaluation.rectangles import rectangle_record


def test_an_image_without_objects_counts_for_nothing():
    results = []
    for name, empty in (("ruler_alone", []), ("ruler_with_empty", [rectangle_record(2, [])])):
        records = [rectangle_record(1, [((10, 10, 40, 40), 0)]), *empty]
        DatasetCatalog.register(name, lambda records=records: records)
        MetadataCatalog.get(name).thing_classes = ["cell"]
        results.append(read_by_both(name, 0.1))
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert results[0] == results[1] and results[0]["released_seg"]["AP50"] == 100
