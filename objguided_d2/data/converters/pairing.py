"""Which files are images, which are labels, and which labels belong to which image.

Images and labels meet by their path without ending and without folders that only say what they hold (``images/``,
``masks/``), else by their name alone; where the labels lie in the folders of the images, never across these folders. A
file is never both: one whose name is that of another image with a label ending
(``a_masks.tif`` beside ``a.tif``) is a label, and in a source that holds both, files without such an ending are labels
only in a folder of labels.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..pixels import IMAGE_SUFFIXES
from .conversion import ConversionNotes

# What programs append to an image's name for its labels, `objguided predict` those with a dot; a name with an ending
# beats the bare one.
LABEL_ENDINGS = ("_cp_masks", "_labels", "_label", "_masks", "_mask", "_seg", "_rois", ".labels", ".rois", "")
# Pictures that segmentation programs leave beside their labels.
_BYPRODUCT_ENDINGS = (
    "_cp_outlines", "_cp_output", "_cp_flows", "_outlines", "_flows", "_overlay", ".overlay", "_dP", "_cellprob",
)  # fmt: skip
# Endings of image names that their labels do not have.
_IMAGE_ENDINGS = ("_img", "_image")
_IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages", "tissue images"}
_LABEL_FOLDERS = {
    "labels", "label", "masks", "mask", "annotations", "annotation", "gt", "groundtruth", "ground_truth",
    "segmentation", "label masks", "label masks modify", "imagej_zips", "imagj_zips",
}  # fmt: skip
# NuInsSeg (Mahbod et al., Scientific Data 2024) has each image's labels in many forms; its authors name the one to use.
_NUINSSEG_LABELS = "label masks modify"
_NUINSSEG_OTHER = {
    "label masks", "distance maps", "mask binary", "mask binary without border", "mask binary without border erode",
    "overlay", "overlay save", "overlay_save_path", "stacked mask", "vague areas", "weighted_maps",
    "weighted_maps_erode", "imagej_zips", "imagj_zips",
}  # fmt: skip
_SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip

_KINDS = {".json": "json", ".geojson": "geojson", ".npy": "npy", ".zip": "roi", ".roi": "roi", ".txt": "yolo"}
_COCO_ENDING = ".coco"
# Files beside labels that are none; `objguided predict` writes the last two.
_OTHER_FILES = ("classes.txt", "obj.names", "notes.txt", "readme.txt", "license.txt", "run.json", "errors.csv")
# ending -> what to do about a file that is found and not read.
UNSUPPORTED = {
    **dict.fromkeys(
        (".czi", ".nd2", ".lif", ".oib", ".oif", ".vsi", ".lsm"), "open it in Fiji and save planes as TIFF"
    ),
    **dict.fromkeys((".svs", ".ndpi", ".mrxs", ".scn"), "export regions as TIFF or PNG, with QuPath say"),
    **dict.fromkeys((".dcm", ".nii", ".mha", ".mhd"), "save slices as TIFF or PNG"),
    **dict.fromkeys((".mat", ".npz", ".h5", ".hdf5", ".zarr", ".pkl"), "save the label array as TIFF"),
    **dict.fromkeys((".xml", ".svg", ".csv", ".tsv"), "export the outlines as COCO JSON"),
    **dict.fromkeys((".heic", ".gif", ".psd", ".pdf", ".eps"), "save it as PNG or TIFF"),
    **dict.fromkeys((".rar", ".7z", ".tar", ".gz"), "unpack it"),
}


@dataclass(frozen=True)
class LabelFile:
    """A file with labels of one image.

    Attributes:
        name: path in the source of labels.
        kind: "image" (values are objects), "mask" (one object), "json", "geojson", "coco", "npy", "roi" or "yolo".
        ending: of LABEL_ENDINGS.
        folder: name of the folder that holds it, "" if that is the image's own.
    """

    name: str
    kind: str
    ending: str
    folder: str


@dataclass
class Pairing:
    """Attributes:
    images: unique name for the converted image -> path in the source of images.
    labels: the same -> its label files; at least one for each key.
    splits: the same -> "train", "val" or "test" if a folder of its path is called so, else None.
    coco_files: JSON files that are of no single image.
    """

    images: dict[str, str] = field(default_factory=dict)
    labels: dict[str, list[LabelFile]] = field(default_factory=dict)
    splits: dict[str, str | None] = field(default_factory=dict)
    coco_files: list[str] = field(default_factory=list)


class ImageIndex:
    """Finds the image that a path or name is about.

    Args:
        names: paths of the images.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._by_path: dict[tuple[str, ...], list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        stems = {PurePosixPath(name).stem for name in names}
        for name in names:
            path = PurePosixPath(name)
            for stem in {path.stem, *(s for s in _without_image_ending(path.stem) if s not in stems)}:
                self._by_path[(*plain_folders(path), stem)].append(name)
                self._by_stem[stem].append(name)

    def same_path(self, path: PurePosixPath, stem: str) -> str | None:
        """The image called ``stem`` in the folder of ``path``, folders that only say what they hold aside."""
        found = self._by_path.get((*plain_folders(path), stem), ())
        return found[0] if len(found) == 1 else None

    def same_stem(self, stem: str) -> str | None:
        """The only image called ``stem``."""
        found = self._by_stem.get(stem, ())
        return found[0] if len(found) == 1 else None

    def folder_of(self, path: PurePosixPath, anywhere: bool) -> str | None:
        """The image that the innermost plain folder of ``path`` is named after, beside or in it, or ``anywhere``."""
        folders = plain_folders(path)
        if not folders:
            return None
        for outer in (folders, folders[:-1]):
            found = self._by_path.get((*outer, folders[-1]), ())
            if len(found) == 1:
                return found[0]
        return self.same_stem(folders[-1]) if anywhere else None

    def ambiguous(self) -> list[str]:
        """Images that share folder and name, whatever their ending, with another one."""
        return sorted({name for found in self._by_path.values() if len(found) > 1 for name in found})

    def unique_names(self, names: Sequence[str]) -> dict[str, str]:
        """The stems of images by their paths, behind the folders of those whose stem is another's too.

        Args:
            names: paths of the images, without :meth:`ambiguous` ones.
        """
        separator = "_"
        while True:
            unique = {
                name: path.stem
                if len(self._by_stem[path.stem]) == 1
                else separator.join((*plain_folders(path), path.stem))
                for name, path in ((name, PurePosixPath(name)) for name in names)
            }
            if len(set(unique.values())) == len(unique):
                return unique
            separator += "_"


def find_label_file(stem: str, names_by_stem: Mapping[str, str]) -> str | None:
    """The label file of an image among files that may be its copies as well: a name with an ending beats the bare one.

    Args:
        stem: of the image.
        names_by_stem: the files.
    """
    return next((names_by_stem[stem + ending] for ending in LABEL_ENDINGS if stem + ending in names_by_stem), None)


def pair_files(
    image_names: Sequence[str], label_names: Sequence[str], same_source: bool, notes: ConversionNotes
) -> Pairing:
    """Pair the files of two sources, or of one that holds both.

    Files that are left out go to the notes with the reason.
    """
    image_names, label_names = (_without_other_forms(_visible(names)) for names in (image_names, label_names))
    images = _find_images(image_names, same_source, notes)
    index = ImageIndex(images)
    for name in index.ambiguous():
        notes.leave_out(f"{name}: another image has its name with another ending; rename or remove one")
        images.remove(name)
    pairing = Pairing()
    key_of = index.unique_names(images)
    for name, key in sorted(key_of.items(), key=lambda item: item[1]):
        pairing.images[key] = name
        pairing.splits[key] = split_folder(name)
    taken = set(image_names) & set(images) if same_source else set()
    label_names = [name for name in label_names if name not in taken]
    share_folders = any(_in_folder_of_images(name, index) for name in label_names)
    for name in label_names:
        file, image = _label_of(name, index, share_folders)
        if file is None:
            continue
        if image in key_of:
            pairing.labels.setdefault(key_of[image], []).append(file)
        elif file.kind in ("json", "coco"):
            pairing.coco_files.append(name)
        elif not same_source and not name.lower().endswith(".txt"):
            notes.leave_out(f"{name}: labels without an image of their name", kind="labels without an image, left out")
    for name in sorted({*image_names, *label_names}):
        path = PurePosixPath(name)
        # Beside an image's labels it is something else, as a table of measurements.
        if key_of.get(index.same_path(path, path.stem) or index.same_stem(path.stem) or "") not in pairing.labels:
            _note_unsupported(path, notes)
    for key in [key for key, files in pairing.labels.items() if all(file.kind == "coco" for file in files)]:
        pairing.coco_files += [file.name for file in pairing.labels.pop(key)]
    return pairing


def split_folder(name: str) -> str | None:
    """The split that a folder of the path is called after."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        if part.lower() in _SPLIT_FOLDERS:
            return _SPLIT_FOLDERS[part.lower()]
    return None


def _find_images(names: Sequence[str], same_source: bool, notes: ConversionNotes) -> list[str]:
    candidates = [name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    present = {(PurePosixPath(name).parent, PurePosixPath(name).stem) for name in candidates}
    images = []
    for name in candidates:
        path = PurePosixPath(name)
        if same_source and _role(path) == "label":
            continue
        bases = [
            path.stem.removesuffix(ending)
            for ending in (*LABEL_ENDINGS, *_BYPRODUCT_ENDINGS)
            if ending and path.stem.endswith(ending)
        ]
        if any((path.parent, base + ending) in present for base in bases for ending in ("", *_IMAGE_ENDINGS)):
            if not same_source:
                notes.add("label file or by-product among the images, not taken as an image", name)
            continue
        images.append(name)
    return images


def _label_of(name: str, index: ImageIndex, share_folders: bool) -> tuple[LabelFile | None, str | None]:
    """The label file that a name is, and the image it is for."""
    path = PurePosixPath(name)
    kind = _kind(path)
    if kind is None:
        return None, None
    anywhere = not (share_folders and plain_folders(path))
    stems = _label_stems(path)
    sources = [stem.removesuffix(e) for stem in stems for e in _BYPRODUCT_ENDINGS if stem.endswith(e)]
    if any(index.same_path(path, base) or (anywhere and index.same_stem(base)) for base in sources):
        return None, None
    bases = [(stem.removesuffix(e), e) for stem in stems for e in LABEL_ENDINGS if stem.endswith(e)]
    for base, ending in bases:
        if image := index.same_path(path, base):
            return LabelFile(name, kind, ending, ""), image
    if image := index.folder_of(path, anywhere):
        image_stem = PurePosixPath(image).stem
        for base, ending in bases:
            if base in (image_stem, *_without_image_ending(image_stem)):
                return LabelFile(name, kind, ending, ""), image
        return LabelFile(name, "mask" if kind == "image" else kind, "", path.parent.name), image
    for base, ending in bases if anywhere else ():
        if image := index.same_stem(base):
            return LabelFile(name, kind, ending, path.parent.name), image
    return LabelFile(name, kind, "", path.parent.name), None


def _in_folder_of_images(name: str, index: ImageIndex) -> bool:
    """Whether a label file lies below a folder of the name of its image's folder."""
    path = PurePosixPath(name)
    if _kind(path) is None:
        return False
    found = [index.folder_of(path, False)]
    found += [
        index.same_path(path, stem.removesuffix(ending))
        for stem in _label_stems(path)
        for ending in LABEL_ENDINGS
        if stem.endswith(ending)
    ]
    return any(image and plain_folders(PurePosixPath(image)) for image in found)


def _kind(path: PurePosixPath) -> str | None:
    """The kind of label file, None if it is none."""
    if path.name.lower().endswith(_COCO_ENDING + ".json"):
        return "coco"
    suffix = path.suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else _KINDS.get(suffix)


def _label_stems(path: PurePosixPath) -> list[str]:
    """The name without its ending, and without both where it has two: QuPath writes a.tif.geojson."""
    inner = PurePosixPath(path.stem)
    return [path.stem, inner.stem] if inner.suffix.lower() in (*IMAGE_SUFFIXES, _COCO_ENDING) else [path.stem]


def _without_image_ending(stem: str) -> list[str]:
    return [stem.removesuffix(ending) for ending in _IMAGE_ENDINGS if stem.endswith(ending) and stem != ending]


def plain_folders(path: PurePosixPath) -> tuple[str, ...]:
    """The folders of a path without those that only say what they hold, as ``images``."""
    return tuple(part for part in path.parts[:-1] if part.lower() not in _IMAGE_FOLDERS | _LABEL_FOLDERS)


def _role(path: PurePosixPath) -> str | None:
    """What the innermost telling folder says that a file is."""
    for part in reversed(path.parts[:-1]):
        if part.lower() in _IMAGE_FOLDERS:
            return "image"
        if part.lower() in _LABEL_FOLDERS:
            return "label"
    return None


def _without_other_forms(names: Sequence[str]) -> list[str]:
    """Of NuInsSeg's tree, the files that are images or have labels in the form to be used."""
    folders = [{part.lower() for part in PurePosixPath(name).parts[:-1]} for name in names]
    if not any(_NUINSSEG_LABELS in of_name for of_name in folders):
        return list(names)
    return [name for name, of_name in zip(names, folders) if not of_name & _NUINSSEG_OTHER]


def _visible(names: Sequence[str]) -> list[str]:
    """The names without hidden files and known companions; a Zarr folder is one name."""
    visible: dict[str, None] = {}
    for path in map(PurePosixPath, names):
        if path.name.lower() in _OTHER_FILES or any(p.startswith(".") or p == "__MACOSX" for p in path.parts):
            continue
        visible[str(next((outer for outer in path.parents if outer.suffix == ".zarr"), path))] = None
    return list(visible)


def _note_unsupported(path: PurePosixPath, notes: ConversionNotes) -> None:
    if advice := UNSUPPORTED.get(path.suffix.lower()):
        notes.leave_out(str(path), kind=f"{path.suffix.lower()} files are not read ({advice}), left out")
