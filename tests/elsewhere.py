"""An accelerator that knows shapes and places and computes nothing: what runs on it runs on no other device.

It finds what a CPU cannot: tensors that were left on the host or made there, numbers that a step asks the device for,
and float64, which MPS does not have. Reads settings of runs from standard input, one JSON object a line, and
prints what is wrong with each, if anything is.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from ganzoo.config import Layer, resolve
from ganzoo.data import ArrayDataset, DataStream
from ganzoo.nn import EMA
from ganzoo.nn.guard import Guard
from ganzoo.registry import build
from ganzoo.testing.training import noise
from ganzoo.training.build import build_bundle
from ganzoo.training.device import meant, numbered

NAME = "elsewhere"
STEPS = 2


class Module:
    """What torch asks of the module of a device."""

    present = 0

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def current_device(self) -> int:
        return self.present

    @contextlib.contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.present = self.present, device.index
        try:
            yield
        finally:
            self.present = before

    def manual_seed(self, seed: int) -> None:
        """There is nothing to seed."""

    def get_rng_state(self) -> Tensor:
        return torch.zeros(0)

    def set_rng_state(self, state: Tensor) -> None:
        """There is no state."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class Generator(torch.Generator):
    """A generator that says where it draws."""

    def __new__(cls, device: Any = "cpu") -> Self:  # noqa: ARG004
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]

    def __init__(self, device: Any = "cpu") -> None:
        self._device = torch.device(device)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._device


class Single(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses float64."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in pytree.tree_leaves(made):
            if isinstance(value, Tensor) and value.dtype == torch.float64 and value.device.type == NAME:
                raise TypeError("there is no float64")
        return made


def move(net: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """What torch does for ``net.to(device)``, which it refuses for tensors without numbers."""
    mode = torch._guards.detect_fake_mode()

    def moved(value: Tensor) -> Tensor:
        if mode is not None and not isinstance(value, FakeTensor):
            value = mode.from_tensor(value)
        if isinstance(value, FakeTensor):
            value.constant = None  # a number that is known would be moved for real
        return function(value)

    for module in net.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = nn.Parameter(moved(p.detach()), p.requires_grad)
        for name, b in module._buffers.items():
            if b is not None:
                module._buffers[name] = moved(b)
    return net


def copied(value: FakeTensor, memo: dict[int, Any]) -> Tensor:
    """A copy for ``copy.deepcopy``; torch would copy memory that is not there, and break that of others."""
    made = value.detach().clone().requires_grad_(value.requires_grad)
    memo[id(value)] = found = nn.Parameter(made, value.requires_grad) if isinstance(value, nn.Parameter) else made
    return found


def wrong(settings: dict[str, Any]) -> str:
    """What is wrong with some steps of a run, or empty."""
    config = resolve([Layer("elsewhere", settings, optional=True)])
    spec = config.spec()
    data = noise(spec) if spec.is_image else build(config.data, spec)
    try:
        with meant(torch.device(NAME, 1)):
            assert numbered(torch.device(NAME)).index == 1
        device = numbered(torch.device(NAME))
        with meant(device), FakeTensorMode(allow_non_fake_inputs=True) as mode, Single():
            for name, value in vars(data).items():
                if isinstance(value, Tensor):
                    setattr(data, name, mode.from_tensor(value))
            bundle = build_bundle(config, spec, device)
            trainer = build(config.trainer, spec)
            trainer.setup(bundle)
            if config.run.on_nonfinite != "stop":
                bundle.guard = Guard(device)
            stream = DataStream(data.to(device), config.run.batch_size, 0, device)
            average = EMA(bundle.gen, 100)
            for step in range(STEPS):
                bundle.begin(step)
                metrics = trainer.step(stream)
                if bundle.guard is not None:
                    bundle.guard.settle()
                average.update(bundle.gen, 100, 4)
            if isinstance(data, ArrayDataset):
                assert data.placement[0] == "on the device"
            tensors = {**metrics, **dict(average.module.named_parameters())}
            return "".join(
                f"{name} is on {value.device}. " for name, value in tensors.items() if value.device != device
            )
    except Exception as err:
        ours = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(err.__traceback__) if "ganzoo" in f.filename]
        return f"{type(err).__name__}: {' '.join(str(err).split())[:300]} at {' '.join(ours[-3:])}"


def main() -> None:
    torch.Generator = Generator  # type: ignore[misc]
    nn.Module._apply = move  # type: ignore[method-assign]
    FakeTensor.__deepcopy__ = copied  # type: ignore[method-assign,assignment]
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    for line in sys.stdin:
        sys.stdout.write(json.dumps(wrong(json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
