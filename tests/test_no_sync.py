"""No step asks the device for a number: the host would wait for it, and a GPU would idle meanwhile.

On a CPU there is nothing to wait for, so what is looked for are the operations that would wait on a GPU: taking a
number out of a tensor, branching on one, shapes that depend on values, and copies to the host by name.
"""

from __future__ import annotations

import traceback
from typing import Any

import pytest
import torch
from running import DIGITS, POINTS
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ganzoo.config import Layer, resolve
from ganzoo.nn import EMA
from ganzoo.nn.guard import Guard
from ganzoo.registry import registry
from ganzoo.testing.training import Session

OPERATIONS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique2", "_unique2", "item"}
METHODS = {
    getattr(Tensor, name)
    for name in (
        "item",
        "tolist",
        "cpu",
        "numpy",
        "__bool__",
        "__float__",
        "__int__",
        "__index__",
        "nonzero",
        "__len__",
    )
} - {Tensor.__len__}

FEW = {"run.cond": "off", "trainer.critic_steps": 2, "trainer.steps": 2}


class Calls(TorchFunctionMode):
    """Hears what Python asks tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in METHODS:
            self.found.append(where(func))
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hears what torch computes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indexed = name == "index" and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        said = where(func) if name in OPERATIONS or indexed else ""
        if said and "F.one_hot" not in said:  # torch checks its labels, on a CPU alone
            self.found.append(said)
        return func(*args, **(kwargs or {}))


def where(func: Any) -> str:
    """The call and the lines of ours that led to it."""
    ours = [
        f"{frame.filename}:{frame.lineno} {frame.line}"
        for frame in traceback.extract_stack()
        if "ganzoo" in frame.filename
    ]
    return f"{func} from {' '.join(ours[-3:])}"


def waits(settings: dict[str, Any], *, guarded: bool = False) -> list[str]:
    """What in a step would wait for the device."""
    session = Session(resolve([Layer("test", {**FEW, **settings}, optional=True)]))
    bundle = session.bundle
    if guarded:
        bundle.guard = Guard(torch.device("cpu"))
    ema = EMA(bundle.gen, 100)
    session.take(1)  # optimisers make their moments, and the stream its order
    with Calls() as calls, Operations() as operations:
        for step in (1, 2):
            bundle.begin(step)
            session.trainer.step(session.stream)
            if bundle.guard is not None:
                bundle.guard.settle()
            ema.update(bundle.gen, 100, 4)
    return [*calls.found, *operations.found]


def parts(kind: str) -> list[str]:
    return [entry.component.name for entry in registry().entries(kind) if entry.plugin.builtin]


@pytest.mark.parametrize("trainer", parts("trainer"))
@pytest.mark.parametrize("loss", parts("loss"))
def test_no_loss_makes_a_step_wait(loss: str, trainer: str) -> None:
    assert waits({**POINTS, "loss": loss, "trainer": trainer}) == []


@pytest.mark.parametrize("trainer", parts("trainer"))
@pytest.mark.parametrize("reg", parts("regularizer"))
def test_no_regularizer_makes_a_step_wait(reg: str, trainer: str) -> None:
    assert waits({**POINTS, "loss": "ns", "reg": (reg,), "trainer": trainer}) == []


@pytest.mark.parametrize("gen", [name for name in parts("generator") if name != "mlp"])
def test_no_generator_makes_a_step_wait(gen: str) -> None:
    disc = "cgan" if gen == "cgan" else "dcgan"
    assert waits({**DIGITS, "gen": gen, "disc": disc, "run.cond": "on" if gen == "cgan" else "off"}) == []


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_neither_a_guard_nor_float16_makes_a_step_wait(name: str) -> None:
    more = {"gen_optim.name": name, "disc_optim.name": name, "run.precision": "fp16"}
    assert waits({**POINTS, **more, "loss": "wgan-gp"}, guarded=True) == []


def test_what_would_wait_is_heard() -> None:
    x = torch.ones(3)
    with Calls() as calls, Operations() as operations:
        float(x[0])
        x.tolist()
        if x.sum() > 0:
            x[x > 0]
    words = " ".join([*calls.found, *operations.found])
    assert all(name in words for name in ("__float__", "tolist", "_local_scalar_dense", "aten.index"))
