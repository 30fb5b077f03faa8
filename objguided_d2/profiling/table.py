"""Results of a benchmark as JSON and Markdown, with the machine that they were measured on."""

import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from ..utils.atomic_write import write_json, write_text


def describe_machine() -> str:
    """Processor, threads, device and versions in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    field = dict(_pair(line) for line in lines)
    name = field.get("model name", platform.processor() or platform.machine())
    flags = set(field.get("flags", "").split())
    extensions = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    if "cpu family" in field:
        name += f" (family {field['cpu family']}, model {field['model']}; {', '.join(extensions)})"
    device = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {torch.get_num_threads()} threads{device}; torch {torch.__version__}"


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def write_tables(
    folder: Path, title: str, headers: Sequence[str], rows: Sequence[Sequence], notes: str, numbers: object
) -> str:
    """Write ``benchmark.md`` and ``benchmark.json`` into a folder.

    Returns:
        the Markdown text.
    """
    machine = describe_machine()
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    text = f"# {title}\n\n{machine}. {notes}\n\n{table}\n"
    write_text(folder / "benchmark.md", text)
    write_json(folder / "benchmark.json", {"machine": machine, "notes": notes, "results": numbers}, indent=1)
    return text
