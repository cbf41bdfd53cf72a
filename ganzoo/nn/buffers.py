"""Buffers of networks, such as the statistics of batch norm: remembered, and put back.

A layer changes its buffer in place, or puts another tensor in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class KeptBuffers:
    """What all buffers of some modules, and of those within, hold now."""

    def __init__(self, modules: Iterable[nn.Module] = ()) -> None:
        self._kept = [
            (module._buffers, name, buffer.clone())
            for each in modules
            for module in each.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    @torch.no_grad()
    def put_back(self, where: Tensor | None = None) -> None:
        """Let them hold that again; only if ``where [] bool`` on their device, which the host does not wait for."""
        for place, name, before in self._kept:
            buffer = place.get(name)
            if buffer is not None and buffer.shape == before.shape:  # else it was made in between, and is no statistic
                buffer.copy_(before if where is None else torch.where(where, before, buffer))


@contextmanager
def unchanged_buffers(*modules: nn.Module) -> Iterator[None]:
    """Whatever is computed within leaves the buffers as they were."""
    kept = KeptBuffers(modules)
    try:
        yield
    finally:
        kept.put_back()
