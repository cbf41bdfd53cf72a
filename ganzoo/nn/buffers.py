"""What passes change in networks beside what optimisers do, such as the statistics of batch norm: kept, and put back.

A layer changes its buffer in place, or puts another tensor in its place; some write to parameters. Plugins count in
plain attributes, too, and gather samples in lists.
"""

from __future__ import annotations

import copy
import operator
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class KeptBuffers:
    """What all buffers of some modules and of those within hold now, and the parameters that no optimiser steps."""

    def __init__(self, modules: Iterable[nn.Module] = ()) -> None:
        self._kept = [
            (place, name, value.detach().clone())
            for each in modules
            for module in each.modules()
            for place in (module._buffers, module._parameters)
            for name, value in place.items()
            if value is not None and not (place is module._parameters and value.requires_grad)
        ]

    @torch.no_grad()
    def put_back(self, where: Tensor | None = None) -> None:
        """Let them hold that again; only if ``where [] bool`` on their device, which the host does not wait for."""
        for place, name, before in self._kept:
            value = place.get(name)
            if value is None or value.shape != before.shape:  # it was made in between, and is no statistic
                continue
            wanted = before if where is None else torch.where(where, before, value)
            if is_expanded(value):
                place[name] = wanted.clone()  # type: ignore[assignment]  # nobody wrote to it, but it may be another
            else:
                value.copy_(wanted)


_PLAIN: Final = (int, float, bool, str, type(None))
_OWN: Final = frozenset((*vars(nn.Module()), "forward"))
"""Attributes that every module has, and how it is computed, which is nothing that passes change."""


class KeptState:
    """All that passes may change in some modules and in those within.

    Parameters, buffers and attributes, with what is still to come among them. Of attributes also what they hold: the
    numbers of tensors, the contents of lists, dicts, sets and deques, generators of random numbers, and so on for
    objects of classes that the module's own package brings.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._undo: list[Callable[[], object]] = []
        self._seen: dict[int, object] = {}
        for module in {id(module): module for each in modules for module in each.modules()}.values():
            package = _package(module)
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                self._keep(tensor, package)
            if not isinstance(module, torch.jit.ScriptModule):  # there they stay
                self._undo += map(_refilling, (module._parameters, module._buffers, module._modules))
            attributes = _attributes(module)
            for value in attributes.values():
                self._keep(value, package)
            self._undo.append(partial(_set_attributes, module, attributes))

    @torch.no_grad()
    def put_back(self) -> None:
        """Let them be that again; any number of times."""
        for undo in self._undo:
            undo()

    def _keep(self, value: Any, package: str) -> None:
        """Keep what a value holds, if that can be changed."""
        if type(value) in _PLAIN or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            if value.grad_fn is None and not value.is_inference():
                self._undo.append(_rewriting(value))
        elif isinstance(value, torch.Generator):
            self._undo.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            self._undo.append(partial(value.setstate, value.getstate()))
        else:
            held = _held(value, package)
            if held is None:
                return
            for each in held.values() if isinstance(held, dict) else held:
                self._keep(each, package)
            if not isinstance(held, tuple):
                self._undo.append(_refilling(held))


def copied(module: Module) -> Module:
    """A copy of its own, also of a network that has kept tensors of its last forward pass, in their graph.

    As a hook of torch's older spectral_norm does, and some that gather activations; by themselves, these cannot be
    copied.
    """
    return copy.deepcopy(module, {id(value): value.detach().clone() for value in _tensors_in(module) if value.grad_fn})


def _tensors_in(module: nn.Module) -> Iterator[Tensor]:
    """The buffers of a module and of those within, and the tensors that stand in their attributes."""
    seen: set[int] = set()

    def found(value: Any, package: str) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        elif type(value) not in _PLAIN and id(value) not in seen:
            seen.add(id(value))
            held = _held(value, package) or ()
            for each in held.values() if isinstance(held, dict) else held:
                yield from found(each, package)

    yield from module.buffers()
    for each in module.modules():
        for value in _attributes(each).values():
            yield from found(value, _package(each))


def is_expanded(tensor: Tensor) -> bool:
    """Whether some of its numbers stand at one place in memory, as ``expand`` makes it, so that none may be written."""
    return tensor.layout == torch.strided and _once(tensor) is not tensor


def fill_memory(module: nn.Module) -> None:
    """Let each number of parameters and buffers have a place of its own, and parameters no gaps in between.

    Torch's fused optimisers take that for granted, and nothing can be loaded into what was expanded.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if is_expanded(tensor) or (tensor.requires_grad and not _is_dense(tensor)):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


class Loadable(nn.Module):
    """A module into which can be loaded what it saves, expanded buffers too."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the tensors of a state dict, as every module does."""
        fill_memory(self)
        return super().load_state_dict(state_dict, strict, assign)


def in_shared_memory(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Four-dimensional weights that are another weight or buffer too, or a part of one, under another name."""
    every = {id(tensor): tensor for each in modules for tensor in (*each.parameters(), *each.buffers())}
    places = {
        key: tensor.untyped_storage().data_ptr() for key, tensor in every.items() if tensor.layout == torch.strided
    }
    often = Counter(places.values())
    return [every[key] for key, place in places.items() if every[key].dim() == 4 and often[place] > 1]


def _is_dense(tensor: Tensor) -> bool:
    return torch.empty_like(tensor, device="meta").stride() == tensor.stride()  # which leaves gaps out


def _once(tensor: Tensor) -> Tensor:
    """A view in which numbers that stand at one place are seen once; the tensor itself if there are none."""
    if tensor.layout == torch.strided:
        for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            if stride == 0 and size > 1:
                tensor = tensor.narrow(dim, 0, 1)
    return tensor


def _rewriting(tensor: Tensor) -> Callable[[], object]:
    """What gives a tensor its memory and its numbers again.

    Not by the tensor itself but by its data: for autograd nothing has happened.
    """
    data = tensor.data
    before = _once(data).clone()

    def undo() -> None:
        tensor.data = data
        _once(data).copy_(before)

    return undo


def _refilling(place: Any) -> Callable[[], object]:
    """What gives a container its contents again."""
    before = _contents(place)

    def undo() -> None:
        now = _contents(place)
        if len(now) == len(before) and all(map(_is_same, now, before)):
            return
        place.clear()
        (place.extend if hasattr(place, "extend") else place.update)(before)

    return undo


def _contents(place: Any) -> list[Any]:
    return list(place.items() if hasattr(place, "items") else place)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two members of a container are one, or two of its pairs of one key hold the same."""
    return one is other or (type(one) is tuple and len(one) == len(other) == 2 and all(map(operator.is_, one, other)))


def _held(value: object, package: str) -> Any:
    """What a value holds, in the container that it is or has for it; None if it is nothing of that kind."""
    if isinstance(value, list | tuple | dict | set | deque):
        return value
    own = _package(value) == package and not isinstance(value, nn.Module | type)
    return getattr(value, "__dict__", None) if own else None


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _OWN}


def _set_attributes(module: nn.Module, before: dict[str, Any]) -> None:
    for name in _attributes(module).keys() - before.keys():
        del module.__dict__[name]
    module.__dict__.update(before)


@contextmanager
def unchanged_buffers(*modules: nn.Module) -> Iterator[None]:
    """Whatever is computed within leaves modules as they were: see :class:`KeptState`."""
    kept = KeptState(modules)
    try:
        yield
    finally:
        kept.put_back()
