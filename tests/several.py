"""One process among several, started by ``test_distributed`` as ``python tests/several.py OUT PORT``.

It trains every allowed combination of loss, regularizer and trainer for some steps together with the others, and next
to that alone on the joined batch, and writes how far the gradients are apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from group import go_on_as_two, tell
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.data import DataStream
from ganzoo.errors import GanzooError
from ganzoo.nn import Batch, Bundle, Noise
from ganzoo.nn.communication import Communication
from ganzoo.plugins import add_local
from ganzoo.registry import build, registry
from ganzoo.training.alike import checksum
from ganzoo.training.alone import Alone, LostError, join
from ganzoo.training.build import build_bundle
from ganzoo.training.loop import Session
from ganzoo.training.run import Run
from ganzoo.training.start import train

CPU = torch.device("cpu")
STEPS = 2
SMALL: dict[str, Any] = {
    "data": "ring",
    "gen": "mlp",
    "disc": "mlp",
    "gen.width": 6,
    "disc.width": 6,
    "gen.latent_dim": 3,
    "disc.activation": "tanh",
    "run.batch_size": 12,
    "run.cond": "off",
    "trainer.critic_steps": 2,
    "trainer.steps": 2,
}


class Double(TorchFunctionMode):
    """float64 where a run takes float32, so that only the algorithm is compared; and the noise of several processes
    one after the other, where one generator stands for theirs.
    """

    def __init__(self, noise: Joined | None = None) -> None:
        super().__init__()
        self.noise = noise

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.float:
            return args[0].double()
        rng = kwargs.get("generator")
        if self.noise is not None and rng is self.noise.rng:
            (n, *rest) = args[0] if isinstance(args[0], (tuple, list, torch.Size)) else args
            each = n // len(self.noise.each)
            parts = [func((each, *rest), **{**kwargs, "generator": noise.rng}) for noise in self.noise.each]
            return torch.cat(parts)
        return func(*args, **kwargs)


class Joined(Noise):
    """The noise of all processes."""

    def __init__(self, seed: int, world: int) -> None:
        super().__init__(seed, CPU)
        self.each = [Noise(seed, CPU, rank) for rank in range(world)]

    def begin(self, step: int) -> None:
        for noise in self.each:
            noise.begin(step)


class Parts:
    """The parts of a batch that some processes get, as one batch in float64."""

    def __init__(self, streams: Iterable[DataStream]) -> None:
        self.streams = list(streams)

    def next(self) -> Batch:
        return Batch(torch.cat([stream.next().x for stream in self.streams]).double())


def combinations() -> Iterator[tuple[str, RunConfig]]:
    """Every loss without and with each regularizer, as far as the rules allow.

    Under trainers other than the usual one, each regularizer stands with the first loss that goes with it.
    """
    names = {kind: [entry.component.name for entry in registry().entries(kind)] for kind in ("loss", "regularizer")}
    names["loss"] = [name for name in names["loss"] if name != "hiccup"]
    tried: set[tuple[str, str]] = set()
    for entry in registry().entries("trainer"):
        for loss in names["loss"]:
            for reg in (None, *names["regularizer"]):
                chosen = {"trainer": entry.component.name, "loss": loss, **({"reg": reg} if reg else {})}
                try:
                    config = resolve([Layer("small", SMALL, optional=True), Layer("chosen", chosen)])
                    refused = config.plan().broken_rules()
                except GanzooError:
                    continue
                pair = (entry.component.name, reg or loss)
                if not refused and (entry.component.name == "alternating" or pair not in tried):
                    tried.add(pair)
                    yield "/".join(filter(None, chosen.values())), config


def trained(config: RunConfig, communication: Communication, stream: Parts, noise: Noise | None) -> list[Tensor]:
    """Gradients and weights after some steps."""
    bundle: Bundle = build_bundle(config, config.spec(), CPU, communication)
    bundle.noise = noise or bundle.noise
    trainer = build(config.trainer, bundle.spec)
    trainer.setup(bundle)
    found: list[Tensor] = []
    with Double(noise if isinstance(noise, Joined) else None):
        for step in range(STEPS):
            bundle.begin(step)
            trainer.step(stream)
            for side in (bundle.gen_side, bundle.disc_side):
                found += [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in side.trainable]
                found += [p.detach().clone() for p in side.trainable]
    return found


def apart(config: RunConfig, together: Alone) -> float:
    """The largest difference between training together and training alone on the joined batch."""
    data = build(config.data, config.spec())
    streams = [DataStream(data, 12, 0, rank=rank, world=together.world) for rank in range(together.world)]
    ours = trained(config, together, Parts([streams[together.rank]]), None)
    again = [DataStream(data, 12, 0, rank=rank, world=together.world) for rank in range(together.world)]
    alone = trained(config, Alone(), Parts(again), Joined(0, together.world))
    return max(float((a - b).abs().max()) for a, b in zip(ours, alone, strict=True))


def again(together: Alone) -> float:
    """The largest difference between unrolled steps that are kept and those that are computed again."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)  # the backward pass, which computes again, knows no mode
        for checkpointing in (False, True):
            chosen = {"trainer": "unrolled", "loss": "wgan-gp", "reg": "r2", "trainer.checkpointing": checkpointing}
            config = resolve([Layer("small", SMALL), Layer("chosen", chosen)])
            data = build(config.data, config.spec())
            stream = DataStream(data, 12, 0, rank=together.rank, world=together.world)
            found.append(trained(config, together, Parts([stream]), None))
    return max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))


def lazily(together: Alone, folder: Path) -> dict[str, Any]:
    """200 steps with a lazy penalty and batch norm in the generator: what each process holds in the end."""
    settings = {**SMALL, "reg": "lazy-r1", "gen.norm": "batch", "run.steps": 200, "run.out": folder, "run.name": "lazy"}
    config = resolve([Layer("lazy", settings | {"trainer.steps": "auto"}, optional=True)])
    run = together.run_for(Run(Path(together.from_first(lambda: str(made(config)))), config, config.spec()))
    session = Session(run, CPU, say=lambda _: None, together=together)
    session.train()
    saved = session.snapshot()
    values = [*saved.model.values(), *saved.optimizer.values()]
    return {"sum": str(int(checksum(values))), "factor": float(saved.model["reg0.factor"])}


def runs(out: Path) -> dict[str, Any]:
    """Whole runs: straight, in two halves, one that began in one process, and one that diverges."""
    settings = whole(out)
    train(settings, name="straight", steps=12)
    train(settings, name="halves", steps=6)
    train(settings, resume=out / "halves", steps=12)
    train(settings, resume=out / "solo", steps=12)
    found = {"diverged": heard(lambda: train({**settings, "optim.lr": 1e38}, name="diverged", steps=12))}
    found["uneven"] = heard(lambda: train({**settings, "batch_size": 13}, name="uneven"))
    found["taken"] = heard(lambda: train(settings, name="straight"))
    return found


def troubled(out: Path, rank: int) -> dict[str, Any]:
    """Runs in which the first process alone meets NaN and scores, and the time of the last one alone is over."""
    settings: dict[str, Any] = {
        **whole(out),
        "loss": "hiccup",
        "loss.at": (3, 6),
        "loss.once": True,
        "checkpoint_every": 4,
        "eval_every": 4,
        "eval_samples": 50,
    }
    forever = 1_000_000
    train(
        {**settings, "on_nonfinite": "skip", "max_time": 1 if rank else forever, "keep_last": 100, "log_every": 2},
        name="skip",
        steps=forever,
    )
    train({**settings, "on_nonfinite": "rollback", "eval_patience": 1}, name="rollback", steps=forever)
    limited = {**settings, "on_nonfinite": "skip", "nonfinite_limit": 0}
    unscored = {**settings, "on_nonfinite": "skip", "eval_metric": "fid"}
    return {
        "limited": heard(lambda: train(limited, name="limited", steps=12)),
        "unscored": heard(lambda: train(unscored, name="unscored", steps=12)),
    }


def whole(out: Path) -> dict[str, Any]:
    """Settings of a small run with everything that is averaged or kept: batch norm, a moving average, a penalty."""
    kept = {key: value for key, value in SMALL.items() if not key.startswith("trainer.")}
    return {**kept, "gen.norm": "batch", "reg": "r1", "out": out, "log_every": 4, "checkpoint_every": 5, "samples": 4}


def made(config: RunConfig) -> Path:
    """A new run's directory."""
    return Run.create(config, config.spec(), {}).path


def heard(function: Callable[[], object]) -> str:
    """The sentence that ``function`` raises."""
    try:
        function()
    except GanzooError as err:
        return str(err)
    return ""


def votes(together: Alone) -> list[int]:
    """What is agreed after each step where the last process alone votes, before the second one."""
    p = torch.nn.Parameter(torch.zeros(1))
    agreed = []
    for step in range(3):
        agreed.append(together.agree(15 if step >= 1 and together.rank == together.world - 1 else 0))
        together.average_gradients([p], [], torch.zeros(()))
    return [*agreed, together.agree(0)]


def unequal(together: Alone) -> dict[str, Any]:
    """What becomes of missing gradients, buffers and totals."""
    here, there, nowhere = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    here.grad = torch.full((2,), float(together.rank))
    if together.rank == 0:
        there.grad = torch.full((2,), 6.0)
    buffer = torch.full((1,), float(together.rank))
    bad = torch.tensor(float("nan") if together.rank == 1 else 1.0)
    total = together.average_gradients([here, there, nowhere], [buffer], bad)
    assert there.grad is not None
    return {
        "here": here.grad.tolist(),
        "there": there.grad.tolist(),
        "nowhere": nowhere.grad is None,
        "buffer": buffer.item(),
        "finite": bool(torch.isfinite(total)),
    }


def same(together: Alone, chosen: list[tuple[str, RunConfig]]) -> dict[str, Any]:
    """What holds for any number of processes: equal gradients, agreed votes, and a difference that is noticed."""
    found: dict[str, Any] = {"unequal": unequal(together), "votes": votes(together)}
    torch.set_default_dtype(torch.float64)
    found["apart"] = {name: apart(config, together) for name, config in chosen}
    found["again"] = again(together)
    bundle = build_bundle(chosen[0][1], chosen[0][1].spec(), CPU, together)
    together.check_alike(bundle, 1)
    with torch.no_grad():
        next(iter(bundle.gen.parameters())).view(-1)[0] += 1e-12 * together.rank
    found["differing"] = heard(lambda: together.check_alike(bundle, 7))
    together.start_alike(bundle)
    together.check_alike(bundle, 8)
    torch.set_default_dtype(torch.float32)
    return found


def main(out: Path, port: str) -> None:
    """Everything, in one process of three, of which two go on; they meet anew at ``port``."""
    add_local([str(Path(__file__).parent / name) for name in ("lazy_parts.py", "hiccup_parts.py")])
    every = list(combinations())
    joined, _ = join(CPU, 60)
    with joined as together:
        write(out, together, same(together, every[:: max(1, len(every) // 6)]))
    if together.rank == 2:
        return
    go_on_as_two(port)
    found = runs(out) | troubled(out, together.rank)
    joined, _ = join(CPU, 60)
    with joined as together:
        found |= {"lazy": lazily(together, out), **same(together, every)}
        write(out, together, found)
        if together.rank == 1:
            return
        try:
            together.meet()
        except LostError as err:
            (out / "lost.txt").write_text(str(err), encoding="utf-8")
            raise


def write(out: Path, together: Alone, found: dict[str, Any]) -> None:
    """Tell the test, and wait until the others have."""
    tell(out, together.world, together.rank, found)
    together.meet()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except LostError:
        sys.exit(1)
