"""Package metadata of objguided_d2; Detectron2 itself is installed by ``make install`` (see README)."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / "objguided_d2/__init__.py").read_text()).group(1)


class BuildWithConfigs(build_py):
    """Copies the top-level ``configs/``, where Detectron2's users look for them, into the package of a wheel.

    An editable installation reads them where they are (objguided_d2/config_files.py).
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "objguided_d2/configs"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / "configs", target)


setup(
    name="objguided_d2",
    version=VERSION,
    description="Object-guided instance segmentation of biological images, as a Detectron2 extension",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["objguided_d2", "objguided_d2.*"]),
    package_data={
        "objguided_d2": [
            "py.typed",
            "data/converters/splits/*/*.tsv",
            "data/converters/splits/*/*.txt",
            "report/*.html",
            "report/*.css",
            "report/*.js",
            "models/*.zip",
            "napari/napari.yaml",
            "samples/README.md",
            "samples/samples.tsv",
            "samples/cells/LICENSE",
            "samples/**/*.png",
        ]
    },
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={
        "console_scripts": ["objguided = objguided_d2.cli:console"],
        "napari.manifest": ["objguided_d2 = objguided_d2.napari:napari.yaml"],
    },
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=1.26",
        "Pillow>=10.3",
        "opencv-python-headless>=4.8",
        "pycocotools>=2.0.7",
        "faster-coco-eval>=1.8",
        "scipy>=1.12",
        "tifffile>=2023.7",
        "imagecodecs>=2023.7",
        "scikit-image>=0.22",
        # HDBSCAN, for the baseline CosineEmbedding; py-ctcmetrics needs scikit-learn in any case.
        "scikit-learn>=1.4",
        "pandas>=2.0",
        "safetensors>=0.4",
        "h5py>=3.8",
        "roifile>=2023.2",
        "PyYAML>=6.0",
        "py-ctcmetrics>=1.1",
        "fvcore>=0.1.5.post20221221",
        "iopath>=0.1.7,<0.1.11",
        "yacs>=0.1.8",
        "omegaconf>=2.3,<2.4",
        "hydra-core>=1.3,<1.4",
        "cloudpickle>=2.0",
        "matplotlib>=3.8",
        "tabulate>=0.9",
        "tensorboard>=2.14",
        "termcolor>=2.0",
        "tqdm>=4.65",
        "packaging>=23.0",
        "psutil>=5.9",
        # detectron2.model_zoo imports pkg_resources, which setuptools 81 removed.
        "setuptools<81",
    ],
    extras_require={
        "bioimageio": ["bioimageio.core>=0.11", "bioimageio.spec>=0.5.12"],
        "cluster": ["dask>=2024.8", "distributed>=2024.8", "dask-jobqueue>=0.9"],
        "napari": ["napari[pyqt6]>=0.5.5"],
        "parquet": ["pyarrow>=14"],
        "slides": ["tiffslide>=2.4"],
        "zarr": ['zarr>=3.0.8; python_version >= "3.11"'],
        "test": [
            "bioimageio.core>=0.11",
            "bioimageio.spec>=0.5.12",
            "pytest>=8.0",
            "hypothesis>=6.90",
            "stardist>=0.8.5",
            "selenium>=4.20",
            "napari[pyqt6]>=0.5.5",
            'ome-zarr>=0.11; python_version >= "3.11"',
            "dask>=2024.8",
            "distributed>=2024.8",
            "dask-jobqueue>=0.9",
            "pyarrow>=14",
            "shapely>=2.0",
            "tiffslide>=2.4",
            'zarr>=3.0.8; python_version >= "3.11"',
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "License :: OSI Approved :: Apache Software License",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
