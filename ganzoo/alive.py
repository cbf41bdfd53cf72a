"""Whether a process of this machine lives: by its number, and by when it started, since numbers are used again.

Free of torch.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def lives(pid: object, began: object = None) -> bool:
    """Whether the process ``pid`` runs, and is the one that :func:`started` said ``began`` of, if that is known."""
    if not isinstance(pid, int) or pid <= 0 or not _exists(pid):
        return False
    now = started(pid)
    return now != _ENDED and (began is None or now is None or began == now)


_ENDED = "ended"


def _exists(pid: int) -> bool:
    if sys.platform == "win32":
        return started(pid) is not None
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def started(pid: int) -> str | None:
    """When a process started, in words that tell it from a later one of the same number; None if unknown."""
    if sys.platform == "win32":
        return _started_on_windows(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":  # it has ended, and its parent has not looked yet
            return _ENDED
        return f"{boot} {fields[19]}"
    except (OSError, IndexError):
        pass
    with suppress(OSError, subprocess.SubprocessError):
        line = ["ps", "-o", "lstart=", "-p", str(pid)]
        env = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        done = subprocess.run(line, capture_output=True, text=True, timeout=10, check=False, env=env)
        return done.stdout.strip() or None
    return None


def _started_on_windows(pid: int) -> str | None:
    # os.kill(pid, 0) would end the process there.
    query, running = 0x1000, 259
    kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(kernel.OpenProcess(query, False, pid))
    if not handle.value:
        return None
    try:
        code = ctypes.c_ulong()
        times = [ctypes.c_ulonglong() for _ in range(4)]
        if not kernel.GetExitCodeProcess(handle, ctypes.byref(code)) or code.value != running:
            return None
        if not kernel.GetProcessTimes(handle, *map(ctypes.byref, times)):
            return None
        return str(times[0].value)
    finally:
        kernel.CloseHandle(handle)
