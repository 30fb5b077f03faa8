"""Cell Tracking Challenge (celltrackingchallenge.net): image sequences with gold and silver truth.

``NN/tTTT.tif`` are the frames of sequence NN, ``NN_GT/SEG/man_segTTT.tif`` the cells outlined by hand (gold: often a
few cells of a few frames), ``NN_ST/SEG/man_segTTT.tif`` nearly all cells, outlined by programs (silver), and
``NN_GT/TRA/man_trackTTT.tif`` a mark on every cell.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..builtin import CTC_BORDERS
from ..intensity import DEFAULT, IntensityMapping, deep_to_rgb8
from ..pixels import read_image_pixels, read_label_pixels
from ..source_error import SourceError
from .conversion import ConversionNotes, open_source
from .instance_dataset import LabeledImage, write_instance_dataset
from .label_objects import label_objects

TRUTHS = ("gold", "silver", "both")
# Gold truth that has nothing of more than this fraction of a frame's cells is partial; silver truth holds a few cells
# that are none.
MAX_MISSING_FRACTION = 0.1


@dataclass
class Frame:
    """File names of one time point."""

    sequence: str
    number: int
    image: str
    gold: str | None = None
    silver: str | None = None
    markers: str | None = None

    @property
    def name(self) -> str:
        return f"{self.sequence}_t{self.number:04d}"

    def has(self, truth: str) -> bool:
        """Whether there is a file of this truth, one of TRUTHS."""
        return bool((truth != "silver" and self.gold) or (truth != "gold" and self.silver))


def convert_ctc(
    source: Path,
    output: Path,
    *,
    train_truth: str = "silver",
    val_truth: str = "both",
    val_sequences: Sequence[str] = (),
    val_fraction: float = 0.2,
    gap: int = 2,
    intensity: str = DEFAULT,
    border: int | None = None,
) -> ConversionNotes:
    """Convert one dataset of the challenge to splits train and val, of class "cell".

    Neighboring frames are near copies, so a split by frame would test on what was trained on: whole sequences are
    held out, or, of each sequence, the last block of time.

    A frame's truth is its silver cells ("silver"), its gold cells ("gold"), or the silver ones with those that a gold
    cell covers replaced by it ("both"). Where cells have no outline - a frame's truth is gold cells alone and its
    silver cells, or markers, are more; or the strip at the image border - a crowd region says so, which training
    and evaluation ignore. Frames whose truth is gold cells that are not all never train.

    Args:
        source: folder or zip archive with ``NN/``, ``NN_GT/``, ``NN_ST/``; its name should be the challenge's.
        output: the dataset's folder.
        train_truth, val_truth: of TRUTHS; frames without it are left out.
        val_sequences: sequences to hold out; without any, the last ``val_fraction`` of the frames of each.
        val_fraction: see above.
        gap: frames between the two blocks that are dropped.
        intensity: see :mod:`.intensity`; only images of more than 8 bits are mapped.
        border: width of the strip, by default that of CTC_BORDERS for the source's name, else 0.

    Returns:
        notes on what was unusual and left out.
    Raises:
        SourceError: if the source is missing, damaged or laid out in another way.
        ValueError: for an unknown truth, fraction or mapping.
    """
    if train_truth not in TRUTHS or val_truth not in TRUTHS:
        raise ValueError(f"truth is {train_truth!r} and {val_truth!r}, expected each of {', '.join(TRUTHS)}")
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}, expected between 0 and 1")
    mapping = IntensityMapping.parse(intensity)
    if border is None:
        border = CTC_BORDERS.get(source.stem, 0)
    names, read = open_source(source)
    sequences = find_frames(names)
    if not any(frame.gold or frame.silver for frames in sequences.values() for frame in frames):
        raise SourceError(
            f"{source} holds no frames NN/tTTT.tif with NN_GT/SEG/man_segTTT.tif or NN_ST/SEG/man_segTTT.tif; give "
            "the folder of one dataset of the challenge"
        )
    unknown = set(val_sequences) - set(sequences)
    if unknown:
        raise SourceError(f"{source} has sequences {', '.join(sequences)}; none is called {', '.join(sorted(unknown))}")
    notes = ConversionNotes()
    frames_of: dict[str, list[Frame]] = {"train": [], "val": []}
    for sequence, frames in sequences.items():
        if val_sequences:
            blocks = ([], frames) if sequence in val_sequences else (frames, [])
        else:
            cut = len(frames) - max(1, round(val_fraction * len(frames)))
            blocks = frames[: max(0, cut - gap)], frames[cut:]
        for of_split, block in zip(frames_of.values(), blocks):
            of_split += block
    truth_of = {"train": train_truth, "val": val_truth}
    for split, of_split in frames_of.items():
        if not any(frame.has(truth_of[split]) for frame in of_split):
            raise SourceError(
                f"{source}: none of the {len(of_split)} frames for '{split}' has {truth_of[split]} truth; choose "
                "another truth, or hold out other frames (val_sequences, val_fraction)"
            )
    readers = {
        split: [
            partial(_read_frame, read, frame, truth_of[split], split == "train", mapping, border, notes)
            for frame in of_split
        ]
        for split, of_split in frames_of.items()
    }
    write_instance_dataset(output, readers, ["cell"], notes, {"intensity": str(mapping)})
    return notes


def find_frames(names: Sequence[str]) -> dict[str, list[Frame]]:
    """Frames by sequence, in the order of time, with or without a folder around the sequences.

    Raises:
        SourceError: for volumes (slices of 3D truth), which this converter does not read, and for several datasets.
    """
    datasets = sorted({match[1] for name in names if (match := re.match(r"(.*/|)\d\d/t\d{3,4}\.tif$", name))})
    if len(datasets) > 1:
        raise SourceError(
            f"{len(datasets)} datasets are in one source, as {datasets[0] or './'} and {datasets[1]}; give the folder "
            "of one of them"
        )
    frames: dict[str, dict[int, Frame]] = {}
    truths: dict[tuple[str, str, int], str] = {}
    for name in names:
        if match := re.search(r"(?:^|/)(\d\d)/t(\d{3,4})\.tif$", name):
            sequence, number = match[1], int(match[2])
            frames.setdefault(sequence, {})[number] = Frame(sequence, number, name)
        elif match := re.search(r"(?:^|/)(\d\d)_(GT|ST)/SEG/man_seg_?(\d{3,4})(_\d+)?\.tif$", name):
            if match[4]:
                raise SourceError(f"{name} is a slice of a volume; only the 2D datasets of the challenge are read")
            truths[match[1], match[2], int(match[3])] = name
        elif match := re.search(r"(?:^|/)(\d\d)_GT/TRA/man_track(\d{3,4})\.tif$", name):
            truths[match[1], "TRA", int(match[2])] = name
    for sequence, of_sequence in frames.items():
        for number, frame in of_sequence.items():
            frame.gold = truths.get((sequence, "GT", number))
            frame.silver = truths.get((sequence, "ST", number))
            frame.markers = truths.get((sequence, "TRA", number))
    return {s: [of_sequence[n] for n in sorted(of_sequence)] for s, of_sequence in sorted(frames.items())}


def _read_frame(
    read: Callable[[str], bytes],
    frame: Frame,
    truth: str,
    training: bool,
    mapping: IntensityMapping,
    border: int,
    notes: ConversionNotes,
) -> LabeledImage:
    pixels = read_image_pixels(read, frame.image)
    try:
        image = deep_to_rgb8(pixels, mapping)
    except ValueError as error:
        raise SourceError(f"{frame.image}: {error}") from error
    gold, silver, markers = (
        _read_truth(read, name, pixels.shape[:2]) if name else None
        for name in (frame.gold, frame.silver, frame.markers)
    )
    labels = merge_truths(gold, silver) if truth == "both" else gold if truth == "gold" else silver
    if labels is None:
        raise SourceError(f"{frame.image}: no {truth} truth for this frame")
    is_gold_alone = truth == "gold" or silver is None
    is_partial = is_gold_alone and _lacks_objects(gold, markers if silver is None else silver)
    if is_partial and training:
        way_out = "it has no silver truth" if silver is None else "train on silver or both"
        raise SourceError(f"{frame.image}: only some of its cells have gold truth; {way_out}")
    crowd = np.full(labels.shape, is_partial)
    if border:
        crowd[:border] = crowd[-border:] = crowd[:, :border] = crowd[:, -border:] = True
    crowd &= labels == 0
    masks = [mask for _, mask in label_objects(labels, frame.name, notes)]
    fields = {"sequence": frame.sequence, "frame": frame.number}
    if is_partial:
        notes.add("frame with gold truth of some cells, kept with the rest as crowd", frame.name)
        fields["partially_annotated"] = True
    return LabeledImage(frame.name, image, masks, crowd=crowd if crowd.any() else None, fields=fields)


def merge_truths(gold: np.ndarray | None, silver: np.ndarray | None) -> np.ndarray | None:
    """Silver labels, those covered by gold ones for more than half replaced by these; None if there are neither.

    Args:
        gold, silver: (H, W) labels or None.
    """
    if gold is None or silver is None:
        return silver if gold is None else gold
    # Dense labels: a table by value would be as long as the highest value, whatever a file holds.
    values, dense = np.unique(silver, return_inverse=True)
    dense = dense.reshape(silver.shape)
    total = np.bincount(dense.ravel())
    covered = np.bincount(dense[gold > 0], minlength=len(total))
    kept = (2 * covered <= total) & (values > 0)
    _, gold_labels = np.unique(gold, return_inverse=True)
    kept_silver = np.where(kept[dense], dense + int(values[0] != 0), 0)
    return np.where(gold > 0, len(values) + gold_labels.reshape(gold.shape), kept_silver)


def _lacks_objects(gold: np.ndarray, reference: np.ndarray | None) -> bool:
    """Whether gold labels cover nothing of many of the cells in another truth of the frame."""
    if reference is None:
        return False
    cells = np.unique(reference[reference > 0])
    touched = np.unique(reference[(reference > 0) & (gold > 0)])
    return len(cells) - len(touched) > MAX_MISSING_FRACTION * len(cells)


def _read_truth(read: Callable[[str], bytes], name: str, size: tuple[int, int]) -> np.ndarray:
    labels = read_label_pixels(read, name).astype(np.int64)
    if labels.shape != size:
        raise SourceError(f"{name} is {labels.shape}, its image {size} (height, width)")
    return labels
