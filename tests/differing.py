"""One process among several that differ, started by ``test_differing`` as ``python tests/differing.py OUT PORT``."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from group import go_on_as_two, tell

from ganzoo.config import Layer, resolve
from ganzoo.plugins import add_local
from ganzoo.training.alone import Alone, join
from ganzoo.training.build import build_bundle
from ganzoo.training.start import train

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "data": "ring",
    "gen": "mlp",
    "disc": "mlp",
    "gen.width": 6,
    "disc.width": 6,
    "batch_size": 12,
    "samples": 4,
}


def names(together: Alone) -> dict[str, float]:
    """The means of terms that some processes have, in an order of their own."""
    mine: list[dict[str, float]] = [{"a": 0.0, "lazy": 5.0, "b": 1.0}, {"b": 3.0, "a": 3.0}, {"own": 7.0, "a": 6.0}]
    return together.means_of(mine[together.rank])


def numbers(together: Alone) -> dict[str, Any]:
    """What becomes of complex gradients, of those that are missing, and of buffers of other types."""
    here, there = (torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64)) for _ in range(2))
    here.grad = torch.full((2,), complex(together.rank, 3))
    if together.rank == 0:
        there.grad = torch.full((2,), 6j)
    precise = torch.full((1,), 1 + together.rank * 1e-12, dtype=torch.float64)
    turning = torch.full((1,), complex(0, together.rank))
    together.average_gradients([here, there], [precise, turning], torch.zeros(()))
    assert there.grad is not None
    found = [here.grad, there.grad, turning]
    return {"complex": [str(value.tolist()) for value in found], "precise": precise.item() - 1}


def new_buffers(together: Alone) -> float:
    """The mean of a buffer that a layer has put in the place of another one."""
    config = resolve([Layer("small", SMALL)])
    bundle = build_bundle(config, config.spec(), CPU, together)
    bundle.gen.register_buffer("late", torch.zeros(()))
    bundle.gen.late = torch.tensor(float(together.rank))
    for p in bundle.gen_side.trainable:
        p.grad = torch.zeros_like(p)
    mean = bundle.apply_gradients(bundle.gen_side, torch.tensor(float(together.rank)))
    together.check_alike(bundle, 1)
    assert mean == bundle.gen.late
    return float(mean)


def constant(together: Alone) -> bool:
    """Whether buffers that all processes have alike stay to the bit, masks and the largest numbers among them."""
    rng = torch.Generator().manual_seed(0)
    most, least = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny
    held = [torch.randn(1000, generator=rng), torch.tensor([most, -most, torch.inf, -torch.inf, 0.0, least, 1 / 3])]
    found = [value.clone() for value in held]
    together.average_gradients([], found, torch.zeros(()))
    return all(map(torch.equal, held, found))


def spread(together: Alone) -> list[float]:
    """The mean of a sparse gradient, and one under ``torch.func``."""
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.sparse_coo_tensor(torch.tensor([[together.rank]]), torch.tensor([3.0]), (3,))
    together.average_gradients([p], [], torch.zeros(()))
    assert p.grad is not None
    slope = torch.func.grad(lambda x: together.mean(x.square()).sum())(torch.tensor([float(together.rank)]))
    return [*p.grad.tolist(), *slope.tolist()]


def statistics(together: Alone) -> float:
    """Where a trainer has looked at its networks after the last update, what differs then is the mean."""
    config = resolve([Layer("small", {**SMALL, "disc.norm": "batch"})])
    bundle = build_bundle(config, config.spec(), CPU, together)
    bundle.disc.register_buffer("odd", torch.zeros(2, dtype=torch.int16))
    together.start_alike(bundle)
    buffer = next(value for value in bundle.disc.buffers() if value.is_floating_point())
    buffer.add_(together.rank)
    together.check_alike(bundle, 1)
    return float(buffer.flatten()[0])


def ahead(together: Alone) -> dict[str, float]:
    """When this process had opened what takes it long, and when it went on."""
    with together.first_ahead():
        time.sleep(0.2 * together.rank)
        opened = time.monotonic()
    return {"opened": opened, "on": time.monotonic()}


def remembering(out: Path, rank: int) -> None:
    """A run of a trainer that differs between processes: straight, and in two halves of new chance."""
    settings = {**SMALL, "trainer": "remembering", "out": out, "checkpoint_every": 4, "log_every": 2}
    random.seed(rank)
    train(settings, name="straight", steps=8)
    random.seed(rank)
    train(settings, name="halves", steps=4)
    random.seed(99)
    train(settings, resume=out / "halves", steps=8)
    # A process that does not see the run's folder goes on all the same: the first one says what is done.
    seen: dict[str, Any] = {"resume": out / "halves"} if rank == 0 else {"name": "halves"}
    train({**settings, "steps": 9}, **seen)


def partial(out: Path) -> None:
    """A run of a trainer whose processes keep other things by name and shape; and one of one process that goes on."""
    settings = {**SMALL, "out": out, "trainer": "partial"}
    train(settings, name="partial", steps=1)
    train(settings, resume=out / "partial", steps=2)
    train({**SMALL, "trainer": "remembering"}, resume=out / "solo", steps=2)


def main(out: Path, port: str) -> None:
    """Everything, in one process of three, of which two go on."""
    add_local([str(Path(__file__).parent / "own_parts.py")])
    joined, _ = join(CPU, 60)
    with joined as together:
        found: dict[str, Any] = {"names": names(together), "new": new_buffers(together), "ahead": ahead(together)}
        found |= {"constant": constant(together), "spread": spread(together), "statistics": statistics(together)}
        tell(out, 3, together.rank, found | numbers(together))
        together.meet()
    if together.rank < 2:
        go_on_as_two(port)
        remembering(out, together.rank)
        partial(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
