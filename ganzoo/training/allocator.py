"""Memory that a step frees stays with the process for the next step, which takes as much again.

glibc hands the top of its heap back to the system as soon as more of it is free than the largest block that was freed
before, so a step's tensors are given back and faulted in anew, page by page, in every step. What that costs is measured
by the part ``allocator`` of the bench.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ganzoo.decisions import KEPT, Machine, memory

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Names of ``mallopt``'s parameters, as ``malloc.h`` has them."""
_MIB: Final = 2**20
_KEPT: Final = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 1024 * _MIB}
_ADAPTED: Final = {_TRIM_THRESHOLD: 64 * _MIB, _MMAP_THRESHOLD: 32 * _MIB}
"""Where glibc's own thresholds end that follow what is freed; a process cannot have them follow again."""


@contextmanager
def freed_memory(machine: Machine) -> Iterator[None]:
    """Keep what is freed where :func:`ganzoo.decisions.memory` says so; afterwards, give it back."""
    if memory(machine).value != KEPT:
        yield
        return
    libc = ctypes.CDLL(None)
    _set(libc, _KEPT)
    try:
        yield
    finally:
        _set(libc, _ADAPTED)
        libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, thresholds: dict[int, int]) -> None:
    for name, value in thresholds.items():
        if not libc.mallopt(name, value) and name == _MMAP_THRESHOLD:  # glibc before 2.35 takes no more than this
            libc.mallopt(name, _ADAPTED[name])
