import sys
from types import SimpleNamespace

import psutil
import pytest

from objguided_d2.utils import process_memory
from objguided_d2.utils.process_memory import peak_process_megabytes


def test_the_peak_is_in_mebibytes():
    held = bytearray(b"1") * (50 * 2**20)
    now = psutil.Process().memory_info().rss / 2**20
    assert now - 1 <= peak_process_megabytes() < 64 * 2**10 and len(held)


def test_the_peak_on_windows(monkeypatch):
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=300 * 2**20))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(process_memory, "psutil", SimpleNamespace(Process=lambda: process), raising=False)
    monkeypatch.delattr(process_memory, "resource")
    assert peak_process_megabytes() == pytest.approx(300)
