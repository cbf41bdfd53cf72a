"""Prepared copies: see :mod:`ganzoo.data.copies` for their format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.data import ArrayDataset, Augment
from ganzoo.data.copies import Copy, read_copy
from ganzoo.data.mapped import MappedImages
from ganzoo.data.memory import fits
from ganzoo_datasets import PreparedConfig


class Prepared(ArrayDataset):
    """Images of a prepared copy of one file, mapped; several files are :class:`PreparedParts`, unless they are held."""

    def __new__(cls, config: PreparedConfig | None = None, spec: Spec | None = None) -> Any:
        if config is not None and spec is not None and len(_copy(config).shards) > 1 and config.memory != "hold":
            return PreparedParts(config, spec)
        return super().__new__(cls)

    def __init__(self, config: PreparedConfig, spec: Spec) -> None:
        copy = _copy(config)
        parts = _parts(copy, config)
        samples = torch.cat(parts) if config.memory == "hold" else parts[0]
        super().__init__(samples, _labels(copy), spec, Augment(config.flip, config.crop))
        self.digest, self.classes, self._made = copy.digest, copy.classes, (config, spec)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Prepared, self._made


class PreparedParts(MappedImages):
    """Images of a prepared copy of several files."""

    def __init__(self, config: PreparedConfig, spec: Spec) -> None:
        copy = _copy(config)
        super().__init__(_parts(copy, config), _labels(copy), spec, Augment(config.flip, config.crop))
        self.digest, self.classes, self._made = copy.digest, copy.classes, (config, spec)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Prepared, self._made


def _copy(config: PreparedConfig) -> Copy:
    assert config.path is not None, "its spec was asked for first"
    return read_copy(config.path)


def _parts(copy: Copy, config: PreparedConfig) -> list[Tensor]:
    soon = config.memory != "stream" and fits(copy.nbytes)
    return [torch.from_numpy(copy.open_shard(shard, soon=soon)) for shard in copy.shards]


def _labels(copy: Copy) -> Tensor | None:
    labels = copy.read_labels()
    return None if labels is None else torch.from_numpy(labels)
