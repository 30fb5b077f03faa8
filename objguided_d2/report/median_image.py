"""The one image of a data set that speed is measured on and sampling points are shown for."""

from detectron2.data import DatasetCatalog


def median_image(dataset_name: str) -> tuple[dict, list[dict]]:
    """The record and the objects (no crowds) of the image of median object count among those with objects, if any."""
    records = DatasetCatalog.get(dataset_name)
    images = [(record, [a for a in record["annotations"] if not a.get("iscrowd", 0)]) for record in records]
    images.sort(key=lambda image: len(image[1]))
    with_objects = [image for image in images if image[1]] or images
    return with_objects[len(with_objects) // 2]
