"""The facts that figures depend on, and what arithmetic the hardware has."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

import ganzoo

_WORTH_TELLING: Final = (
    *("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "bf16", "sve", "sve2", "i8mm"),
)
_ON_CPU: Final = {
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "fp16": {"amx_fp16", "asimdhp"},  # AVX-512 FP16 serves forward passes only
}


def facts(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on, as plain JSON values."""
    name, flags = cpu()
    found: dict[str, Any] = {
        "ganzoo": ganzoo.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "cpu": name,
        "flags": [flag for flag in _WORTH_TELLING if flag in flags],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device_name": properties.name,
            "device_memory_gb": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return found


@cache
def cpu() -> tuple[str, frozenset[str]]:
    """Name and instruction sets of the processor; the sets are known on Linux only."""
    name, flags = platform.processor() or platform.machine(), frozenset[str]()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "model name":
                name = value
            elif key in ("flags", "Features"):
                flags = frozenset(value.split())
                break
    return name, flags


def lacking(precision: str, device: torch.device) -> str:
    """Why arithmetic of a precision is not measured; empty where the hardware computes it itself."""
    if precision == "fp32":
        return ""
    if device.type == "cpu":
        name, flags = cpu()
        wanted = _ON_CPU[precision]
        if flags & wanted:
            return ""
        return f"{name} has no {precision} arithmetic (none of {', '.join(sorted(wanted))}): it would be emulated"
    if device.type == "cuda":
        if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            return f"{torch.cuda.get_device_name(device)} has no bf16 arithmetic"
        return ""
    return f"not measured on {device.type}"


def memory_of_process() -> tuple[float, float] | None:
    """Present and peak resident memory of this process in MB, or None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
    return int(lines["VmRSS"].split()[0]) / 1024, int(lines["VmHWM"].split()[0]) / 1024


def forget_peak() -> bool:
    """Let the peak of this process start anew from what it has now; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True
