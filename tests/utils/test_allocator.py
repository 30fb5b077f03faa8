import ctypes
import subprocess
import sys

import pytest

from objguided_d2.utils.allocator import OPT_OUT, keep_freed_memory, release_freed_memory

# Pages that the system has to clear for a tensor of the size of ones that were freed. The least of many, since a small
# block that settles beside a freed tensor leaves too little room, once aligned, for the next.
COUNT_FAULTS = """
import resource, torch
from objguided_d2.utils.allocator import keep_freed_memory
keep_freed_memory()
def faults_of_a_tensor():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
print(min(faults_of_a_tensor() for _ in range(20)))
before = megabytes()
masks = torch.ones(300 * 2**20, dtype=torch.bool)
held = megabytes() - before
del masks
print(held, megabytes() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
@pytest.mark.parametrize("opt_out, kept", [("", True), ("1", False)])
def test_a_tensor_gets_the_memory_of_one_that_was_freed(opt_out, kept, monkeypatch):
    monkeypatch.setenv(OPT_OUT, opt_out)
    output = subprocess.run([sys.executable, "-W", "ignore", "-c", COUNT_FAULTS], capture_output=True, text=True)
    num_faults, held, kept_of_a_large_one = map(float, output.stdout.split())
    assert held > 290 and kept_of_a_large_one < 30
    # 40 MiB are 10240 pages of 4 KiB; up to 32 MiB glibc keeps by itself.
    assert num_faults < 200 if kept else num_faults > 1000


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_systems_without_glibc_are_left_alone(platform, monkeypatch):
    def library(name):
        raise TypeError("LoadLibrary() argument 1 must be str, not None")

    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setattr(sys, "platform", platform)
    release_freed_memory()
    assert not keep_freed_memory()
