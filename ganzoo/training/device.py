"""Which device a run uses, and why."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ganzoo.errors import MissingError, UsageError

_TYPES = ("cpu", "cuda", "mps", "xpu")
_SINGLE = ("cpu", "mps")
"""Of which a machine has one, whose number nobody says."""


@dataclass(frozen=True)
class DeviceChoice:
    """A device with the reason for it.

    Attributes:
        device: what to compute on.
        reason: half a sentence for the user.
        warning: a sentence if an accelerator stays idle, else None.
    """

    device: torch.device
    reason: str
    warning: str | None = None


def resolve_device(asked: str | torch.device = "auto") -> DeviceChoice:
    """The device for ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``xpu``; torch's own means the same.

    Raises:
        UsageError: ``asked`` names no device.
        MissingError: it names one that this machine, or this build of torch, does not have.
    """
    present = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if asked == "auto":
        if present is not None:
            return DeviceChoice(present, f"the accelerator found here ({_name(present)})")
        return DeviceChoice(torch.device("cpu"), "no accelerator that this torch can use was found", _unused_hardware())
    try:
        device = torch.device(asked)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type not in _TYPES:
        raise UsageError(
            f"There is no device {asked!r}; use auto, {', '.join(_TYPES)}, or one with a number as cuda:1."
        )
    if device.type == "cpu":
        idle = f"The {_name(present)} stays idle, because the CPU was asked for." if present is not None else None
        return DeviceChoice(device, "asked for", idle)
    if present is None or present.type != device.type:
        found = f"only cpu{'' if present is None else f' and {present.type}'}"
        raise MissingError(f"The device '{device}' was asked for, but {found} can be used here; {_cure(device.type)}.")
    count = torch.accelerator.device_count()
    if (device.index or 0) >= count:
        raise MissingError(f"The device '{device}' was asked for, but there are only {count}, numbered from 0.")
    return DeviceChoice(device, "asked for")


def backend_of(device: torch.device, local_world: int) -> str:
    """The backend through which so many processes of this machine speak: NCCL between GPUs, gloo between CPUs.

    Raises:
        UsageError: the device cannot serve several processes.
        MissingError: there are more processes than GPUs.
    """
    if device.type == "cpu":
        return "gloo"
    if device.type != "cuda":
        raise UsageError(f"Several processes train on CPUs or on CUDA devices, not on {device.type}; use --device cpu.")
    if ":" in str(device):
        raise UsageError(f"Each process takes a GPU of its own, so --device {device} cannot be; use --device cuda.")
    there = torch.cuda.device_count()
    if local_world > there:
        raise MissingError(
            f"There are {local_world} processes on this machine, but {there} GPUs; start no more than that, or "
            "use --device cpu."
        )
    return "nccl"


def numbered(device: torch.device) -> torch.device:
    """The device as tensors tell theirs: ``cuda`` is ``cuda:0``, or whichever torch means by it now."""
    if device.type in _SINGLE or ":" in str(device):
        return device
    return torch.device(device.type, torch.get_device_module(device).current_device())


@contextmanager
def meant(device: torch.device) -> Iterator[None]:
    """Within, this is the device that torch means where it is not told: for events, for seeds, for waiting."""
    if device.type in _SINGLE:
        yield
        return
    with torch.get_device_module(device).device(device):
        yield


def _name(device: torch.device | None) -> str:
    if device is None:
        return "CPU"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def _unused_hardware() -> str | None:
    """A sentence if there is a GPU that this build of torch cannot drive."""
    if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        return (
            f"An NVIDIA GPU seems to be here, but torch {torch.__version__} cannot use it; "
            "training on the CPU is many times slower. Install a CUDA build of torch."
        )
    return None


def _cure(kind: str) -> str:
    if kind == "cuda" and torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA, so install a CUDA build, or use --device cpu"
    return "use --device cpu"
