"""What a COCO instance file holds once it is checked, and what was found in it."""

from dataclasses import dataclass, field
from typing import Any


class Problems:
    """Messages by kind: one line per kind names the first case and counts the others."""

    def __init__(self) -> None:
        self._cases: dict[str, list[str]] = {}

    def add(self, kind: str, where: str) -> None:
        """Args: kind: what is wrong and what to do; where: the entry, with its particulars."""
        self._cases.setdefault(kind, []).append(where)

    def __len__(self) -> int:
        return len(self._cases)

    def lines(self) -> list[str]:
        return [
            f"{cases[0]}{f' (and {len(cases) - 1} more)' if len(cases) > 1 else ''}: {kind}"
            for kind, cases in self._cases.items()
        ]


@dataclass
class CocoImage:
    """One image of a file.

    Attributes:
        id: int or text.
        file_name: with forward slashes, relative to the images' folder; None if there is none.
        height, width: as the file states them; None if it does not.
        annotations: repaired; each has ``id``, ``image_id``, ``category_id``, ``iscrowd``, ``segmentation`` (polygons
            or compressed RLE) and, if the image has a size, ``bbox`` (XYWH) and ``area``.
        errors: why this image can neither train nor be evaluated.
    """

    id: Any
    file_name: str | None
    height: int | None
    width: int | None
    annotations: list[dict] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass
class CocoFile:
    """A file as :func:`read_coco` understands it.

    Attributes:
        categories: id -> name, by ascending id, without grouping categories.
        images: with their annotations, in the order of the file.
        info: the ``info`` entry.
        is_annotated: whether there is a list of annotations, were it empty.
        is_repaired: whether annotations, categories or images differ from those in the file.
        errors: of the file as a whole.
        unassigned: errors of annotations that name no image.
        image_errors: those of all images, by kind.
        warnings: what was repaired or is not used.
    """

    categories: dict[int, str] = field(default_factory=dict)
    images: list[CocoImage] = field(default_factory=list)
    info: dict = field(default_factory=dict)
    is_annotated: bool = True
    is_repaired: bool = False
    errors: Problems = field(default_factory=Problems)
    unassigned: Problems = field(default_factory=Problems)
    image_errors: Problems = field(default_factory=Problems)
    warnings: Problems = field(default_factory=Problems)

    def all_errors(self) -> list[str]:
        """One line for each kind of error, the file's first."""
        return self.errors.lines() + self.unassigned.lines() + self.image_errors.lines()
