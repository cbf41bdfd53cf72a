"""Arguments that several of the benchmarks take, understood for argparse."""

from __future__ import annotations

import argparse
import math

import torch

from ganzoo.errors import GanzooError
from ganzoo.training.device import resolve_device


def seconds(text: str) -> float:
    """A length of time; 0 asks for as little as there may be."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return value


def several(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def device(text: str) -> torch.device:
    """A device that is here; ``auto`` takes an accelerator if there is one."""
    try:
        return resolve_device(text).device
    except GanzooError as err:
        raise argparse.ArgumentTypeError(str(err)) from None
