"""What passes change in networks beside their parameters, such as the statistics of batch norm: kept, and put back.

A layer changes its buffer in place, or puts another tensor in its place. Plugins count in plain attributes, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

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


_PLAIN: Final = (int, float, bool, str, type(None))
_OWN: Final = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


class KeptState:
    """All buffers of some modules, those that are still to come among them, and plain attributes such as counters."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        every = {id(module): module for each in modules for module in each.modules()}.values()
        self._kept = [(module, dict(module._buffers), _plain(module)) for module in every]
        self._values = [
            (buffer, buffer.clone())
            for _, buffers, _ in self._kept
            for buffer in buffers.values()
            if buffer is not None
        ]

    @torch.no_grad()
    def put_back(self) -> None:
        """Let them be that again."""
        for buffer, value in self._values:
            if buffer.shape == value.shape:
                buffer.copy_(value)
            else:
                buffer.data = value.clone()  # it may be put back again
        for module, buffers, plain in self._kept:
            module._buffers.clear()
            module._buffers.update(buffers)
            for name in _plain(module).keys() - plain.keys():
                del module.__dict__[name]
            module.__dict__.update(plain)


def _plain(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _OWN and type(value) in _PLAIN}


@contextmanager
def unchanged_buffers(*modules: nn.Module) -> Iterator[None]:
    """Whatever is computed within leaves buffers and plain attributes as they were."""
    kept = KeptState(modules)
    try:
        yield
    finally:
        kept.put_back()
