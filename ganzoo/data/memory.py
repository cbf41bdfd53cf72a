"""How much memory is free for data. Free of torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import starmap
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from ganzoo import processes

Memory = Literal["auto", "hold", "stream"]
"""What a data set does about memory: hold all samples, take them from where they are, or whichever is right."""

SHARE: Final = 0.5
"""Share of the free memory that the samples may take."""
_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_GROUPS: Final = {
    "": ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Where limits stand, by controller (none in version 2 of Linux's control groups): the folder of the outermost group,
files of the limit and of what is used, the part that can be dropped."""


def fits(nbytes: int) -> bool:
    """Whether so many bytes for each process of a run on this machine are a fair share of what is free."""
    return nbytes * processes.place().local_world <= free_memory() * SHARE


def free_memory() -> int:
    """Bytes that programs may still take, within the limit of a container too; half of all where nobody tells."""
    found = [size for size in (_of_system(), *starmap(_of_group, _own_groups())) if size is not None]
    return max(0, min(found, default=_guessed()))


def _of_system() -> int | None:
    if sys.platform == "win32":
        return _of_windows()
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _own_groups() -> Iterator[tuple[Path, str, str, str]]:
    """The groups that this process is in, from the outermost on: a container's, and one of a scheduler within it."""
    inner = dict.fromkeys(_GROUPS, PurePosixPath())
    with suppress(OSError, ValueError):
        for line in _OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in _GROUPS.keys() & set(controllers.split(",")):
                inner[controller] = PurePosixPath(path.lstrip("/"))
    for controller, (top, *files) in _GROUPS.items():
        within = inner[controller]
        for group in [*reversed(within.parents), within] if within.name else [within]:
            limit, used, droppable = files
            yield Path(top, group), limit, used, droppable


def _of_group(folder: Path, limit: str, used: str, droppable: str) -> int | None:
    """What the limit of a group leaves; pages of files that the system would drop are free."""
    with suppress(OSError, ValueError):
        left = _number(Path(folder, limit)) - _number(Path(folder, used))
        for line in Path(folder, "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            left += int(value) if name == droppable else 0
        return left
    return None


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _of_windows() -> int | None:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("all", "free", "pages", "swap", "room", "left", "more")),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  there is none elsewhere
    return int(status.free) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _guessed() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 2**30
