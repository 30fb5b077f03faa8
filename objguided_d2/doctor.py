"""The command ``doctor``: what training and evaluation need here, what is missing and how to get it.

Everything but the standard library is imported inside the checks, so that they work where packages are missing.
"""

import argparse
import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .utils.detectron2_install import KINDS, InstallError, install_detectron2

# Import name -> how to get it.
PACKAGES = {
    "torch": "run `pip install torch`",
    "torchvision": "run `pip install torchvision`",
    "detectron2": "run `objguided doctor --install-detectron2`",
    "numpy": "run `pip install numpy`",
    "pycocotools": "run `pip install pycocotools`",
    "faster_coco_eval": "run `pip install faster-coco-eval`",
    "cv2": "run `pip install opencv-python-headless`",
}
REGISTERED = {
    "META_ARCH_REGISTRY": "ObjectGuidedRCNN",
    "BACKBONE_REGISTRY": "build_resnet_unet_backbone",
    "PROPOSAL_GENERATOR_REGISTRY": "CenterKeypointProposals",
    "ROI_HEADS_REGISTRY": "ObjectGuidedROIHeads",
    "ROI_MASK_HEAD_REGISTRY": "ObjectGuidedMaskHead",
}
GIBIBYTE = 2**30
MEMORY_WANTED, DISK_WANTED = 4 * GIBIBYTE, 2 * GIBIBYTE


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        fix: what to do about it; empty if all is well.
        fatal: training cannot work before that.
    """

    subject: str
    state: str
    fix: str = ""
    fatal: bool = False

    def __str__(self) -> str:
        mark = "ok" if not self.fix else "MISSING" if self.fatal else "note"
        return f"{mark:8}{self.subject}: {self.state}" + (f"\n        -> {self.fix}" if self.fix else "")


def check_python() -> Iterator[Finding]:
    version = platform.python_version()
    too_old = sys.version_info < (3, 10)
    yield Finding("python", f"{version} ({sys.executable})", "install Python 3.10 or newer" if too_old else "", too_old)


def check_packages() -> Iterator[Finding]:
    for name, fix in PACKAGES.items():
        try:
            module = importlib.import_module(name)
        except Exception as error:  # A broken binary raises anything.
            yield Finding(name, f"cannot be imported ({_one_line(error)})", fix, fatal=True)
        else:
            yield Finding(name, getattr(module, "__version__", None) or importlib.metadata.version(name))


def check_device() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding("device", f"{len(names)} CUDA device(s): {', '.join(names)}")
    else:
        yield Finding("device", f"CPU, {torch.get_num_threads()} threads; the *_R_18 configs are made for it")


def check_compiled_ops() -> Iterator[Finding]:
    import detectron2  # noqa: F401

    try:
        importlib.import_module("detectron2._C")
    except ImportError:
        yield Finding("detectron2._C", "no compiled operators; not needed, everything here works without them")
    else:
        yield Finding("detectron2._C", "compiled operators load")


def check_registries() -> Iterator[Finding]:
    try:
        import detectron2.modeling as registries

        importlib.import_module("objguided_d2.modeling")
    except Exception as error:
        fix = "see the packages above, or install this one again"
        yield Finding("objguided_d2", f"cannot be imported ({_one_line(error)})", fix, fatal=True)
        return
    for registry, part in REGISTERED.items():
        found = part in getattr(registries, registry)
        fix = "" if found else "install this version of the package again"
        yield Finding(part, "registered" if found else f"not in {registry}", fix, fatal=not found)


def check_datasets() -> Iterator[Finding]:
    from detectron2.data import DatasetCatalog

    from objguided_d2.data.builtin import datasets_root

    source = "from" if "DETECTRON2_DATASETS" in os.environ else "to change it, set"
    yield Finding("datasets root", f"{datasets_root().resolve()} ({source} DETECTRON2_DATASETS)")
    absent = []
    for name in DatasetCatalog.list():
        if DatasetCatalog[name].__module__.startswith("objguided_d2."):
            try:
                yield Finding(name, f"{len(DatasetCatalog.get(name))} images")
            except FileNotFoundError:
                absent.append(name)
            except (OSError, ValueError) as error:
                state, _, fix = str(error).partition("; ")
                yield Finding(name, state, fix or "see `objguided prepare --help`")
    if absent:
        yield Finding("not prepared", ", ".join(absent), "those you want: `objguided prepare --help`")


def check_memory() -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available
    fix = "" if free >= MEMORY_WANTED else "lower SOLVER.IMS_PER_BATCH and INPUT.CACHE_MEGABYTES"
    yield Finding("free memory", f"{free / GIBIBYTE:.1f} GiB", fix)


def check_disk() -> Iterator[Finding]:
    free = shutil.disk_usage(".").free
    fix = "" if free >= DISK_WANTED else "free some space or set OUTPUT_DIR to another disk"
    yield Finding("free disk", f"{free / GIBIBYTE:.1f} GiB in {Path.cwd()}", fix)


CHECKS = (
    check_python,
    check_packages,
    check_device,
    check_compiled_ops,
    check_registries,
    check_datasets,
    check_memory,
    check_disk,
)


def examine(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Findings of one check; that it cannot be made, for want of a package or a system that tells, is one too."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:
        subject = check.__name__.removeprefix("check_").replace("_", " ")
        findings.append(Finding(subject, f"not known ({_one_line(error)})", "see the problems above, if any"))
    return findings


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print the report; returns 1 if training cannot work."""
    parser = argparse.ArgumentParser(prog=prog, description="What is installed here, what is missing, how to get it.")
    parser.add_argument(
        "--install-detectron2",
        nargs="?",
        const="wheel",
        choices=KINDS,
        help="first install Detectron2: its Python files (default) or, from source, with compiled operators",
    )
    args = parser.parse_args(argv)
    if args.install_detectron2:
        try:
            print(install_detectron2(args.install_detectron2), flush=True)
        except InstallError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        importlib.invalidate_caches()
    findings = [finding for check in CHECKS for finding in examine(check)]
    print(*findings, sep="\n")
    fatal = sum(finding.fatal for finding in findings)
    print(f"\n{fatal} problem(s) in the way of training." if fatal else "\nReady to train.")
    return int(fatal > 0)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(prog="python -m objguided_d2.doctor"))
