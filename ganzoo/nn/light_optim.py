"""torch's optimisers, without the wait before their first use.

torch wraps the methods of its optimisers to keep them from its compiler. The wrappers import that compiler, with sympy
and ``torch.distributed``, when the first optimiser is made: that takes as long as importing torch did. Here are the
methods without the wrappers. The arithmetic and the state are torch's.
"""

from __future__ import annotations

import inspect

import torch
from torch import optim


class _Light(optim.Optimizer):
    """Stands before one of torch's optimisers among the bases."""

    add_param_group = inspect.unwrap(optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(optim.Optimizer.load_state_dict)


class Adam(_Light, optim.Adam):
    step = torch.no_grad()(inspect.unwrap(optim.Adam.step))


class AdamW(_Light, optim.AdamW):
    step = torch.no_grad()(inspect.unwrap(optim.AdamW.step))


class RMSprop(_Light, optim.RMSprop):
    step = torch.no_grad()(inspect.unwrap(optim.RMSprop.step))


class SGD(_Light, optim.SGD):
    step = torch.no_grad()(inspect.unwrap(optim.SGD.step))


def torch_class(optimizer: optim.Optimizer) -> type[optim.Optimizer]:
    """The class of torch whose arithmetic an optimiser has: the one underneath for one from here."""
    bases = type(optimizer).__bases__
    return bases[1] if bases[0] is _Light else type(optimizer)
