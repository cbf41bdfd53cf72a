"""Whether two processes hold the same bits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def checksum(tensors: Sequence[Tensor]) -> Tensor:
    """A number ``int64 []`` that depends on every bit of every tensor, and on where it stands."""
    if not tensors:
        return torch.zeros((), dtype=torch.int64)
    total, start = torch.zeros((), dtype=torch.int64, device=tensors[0].device), 1
    for tensor in tensors:  # one after the other, because all of them at once would take several times their memory
        words = _words(tensor)
        stop = start + 2 * len(words)
        places = torch.arange(start, stop, 2, device=words.device)  # odd, so that no changed bit is multiplied away
        total += (words * places).sum()
        start = stop
    return total


def _words(tensor: Tensor) -> Tensor:
    real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    flat = real.contiguous().reshape(-1)
    # Longer numbers count as two: the highest bits of two products of 64 bits would cancel each other.
    words = {1: torch.uint8, 2: torch.int16}.get(flat.element_size(), torch.int32)
    return flat.view(words).to(torch.int64)
