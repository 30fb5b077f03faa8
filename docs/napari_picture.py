"""Make the picture of napari.md: the viewer with the plugin's panel, after it has segmented a sample image.

    xvfb-run python docs/napari_picture.py

Run at the top of the repository. The viewer draws with OpenGL, so it takes a display, or a virtual one as here.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import napari
from napari.qt import get_qapp
from PIL import Image

from objguided_d2 import samples

# Loaded before there is a viewer: PyTorch brings Triton's LLVM, which crashes after that of a software renderer.
from objguided_d2.inference.predictor import Predictor
from objguided_d2.napari.widget import SegmentWidget

PICTURE = Path(__file__).parent / "images" / "napari.png"
SAMPLE = "fluorescence_large"
SIZE = 1120, 600
COLORS = 128  # of the palette: a third of the bytes of 24 bits


def main(argv: Sequence[str] | None = None) -> int:
    """Segment, take the picture and write it.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    (sample,) = (sample for sample in samples.nuclei() if sample.kind == SAMPLE)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    limits = sample.image.min(), sample.image.max()
    viewer.add_image(sample.image, name="nuclei", contrast_limits=limits)
    widget = SegmentWidget(viewer, load=Predictor.from_pretrained)
    viewer.window.add_dock_widget(widget, name="Segment objects", area="right")
    widget.run.native.click()
    _process(lambda: not widget.is_running)
    viewer.reset_view()
    viewer.layers[-1].opacity = 0.5
    end = time.monotonic() + 3
    _process(lambda: time.monotonic() > end)
    pixels = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
    Image.fromarray(pixels).quantize(COLORS).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB, {widget.status.value}")
    viewer.close()
    return 0


def _process(is_done: Callable[[], bool]) -> None:
    app = get_qapp()
    while not is_done():
        app.processEvents()
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
