"""Memory that a step frees stays with the process for the next step, which takes as much again.

glibc hands the top of its heap back to the system as soon as more of it is free than twice the largest mapped block
that was freed before, 64 MiB at most. A step's tensors are more than that, so they are given back and faulted in anew,
page by page, in every step. What that costs is measured by the part ``allocator`` of the bench.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ganzoo.decisions import KEPT, Machine, memory

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Names of ``mallopt``'s parameters, as ``malloc.h`` has them."""
_MIB: Final = 2**20
_KEPT: Final = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_THRESHOLD: 1024 * _MIB}
_ADAPTED: Final = {_TRIM_THRESHOLD: 64 * _MIB, _MMAP_THRESHOLD: 32 * _MIB}
"""Where glibc's own thresholds end that follow what is freed; a process cannot have them follow again."""
_lock: Final = threading.Lock()
_runs: Final[list[None]] = []
"""One for each run of this process that wants freed memory kept; the last one to end gives it back."""


@contextmanager
def freed_memory(machine: Machine) -> Iterator[None]:
    """Keep what is freed where :func:`ganzoo.decisions.memory` says so; afterwards, give it back."""
    if memory(machine).value != KEPT:
        yield
        return
    libc = _libc()
    with _lock:
        _runs.append(None)
        _set(libc, _KEPT)
    try:
        yield
    finally:
        with _lock:
            _runs.pop()
            if not _runs:
                _set(libc, _ADAPTED)
                gc.collect()  # networks and their hooks refer to each other
                libc.malloc_trim(0)


def _libc() -> Any:
    return ctypes.CDLL(None)


def _set(libc: Any, thresholds: Mapping[int, int]) -> None:
    for name, value in thresholds.items():
        if not libc.mallopt(name, value) and name == _MMAP_THRESHOLD:  # glibc before 2.35 takes no more than this
            libc.mallopt(name, _ADAPTED[name])
