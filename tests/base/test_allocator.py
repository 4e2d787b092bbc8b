"""Promises of `base/allocator.py`: a kept heap has no page faults, whoever began it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hanllama.base import allocator

PROGRAM = """
import resource
from hanllama.base import allocator
if {keep}:
    allocator.keep_heap()
import ctypes
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def tensors():
    before, places = faults(), [libc.malloc(100 << 20) for _ in range(2)]
    for place in places:
        ctypes.memset(place, 1, 100 << 20)
    for place in reversed(places):
        libc.free(place)
    return faults() - before
tensors()
print(allocator.kept, tensors())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
@pytest.mark.parametrize("keep", [True, False])
def test_a_kept_heap_is_not_faulted_in_again(keep: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True
    )
    kept, faults = done.stdout.split()
    assert kept == str(keep), done.stderr
    assert int(faults) < 100 if keep else int(faults) > 200, "2 huge pages or 50,000 small ones"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "kept", False)
    monkeypatch.setattr(allocator.sys, "platform", platform)
    allocator.keep_heap()
    assert not allocator.kept


def test_a_c_library_without_the_function_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "kept", False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.keep_heap()
    assert not allocator.kept
