"""Start-up, the loop's overhead and the price of unrolling, each as a ratio of things measured side by side.

Machines are shared and clocks drift, so contenders take turns in short rounds, in an order that changes from round to
round; what is reported is the median of the rounds' ratios and the quartiles around it. ``python benchmarks/bench.py``
takes less than three minutes; ``--seconds`` sets how long each comparison may take.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo.config import Layer, resolve
from ganzoo.nn import Discriminator, Generator
from ganzoo.registry import build
from ganzoo.training.device import resolve_device
from ganzoo.training.loop import Session
from ganzoo.training.run import Run

DCGAN: Final = {
    "data": "digits",
    "data.size": 32,
    "gen": "dcgan",
    "disc": "dcgan",
    "loss": "ns",
    "gen.width": 32,
    "disc.width": 32,
    "run.batch_size": 32,
}
RING: Final = {"data": "ring", "gen": "mlp", "disc": "mlp", "loss": "minimax", "run.batch_size": 512}
UNROLLED: Final = (0, 1, 2, 5)
ROUND: Final = 0.25
"""Seconds that a contender's turn should last."""
ENDLESS: Final = {"steps": 10**9, "sample_every": 0, "checkpoint_every": 0}


@dataclass
class Result:
    """How one contender compares with the first of its comparison.

    Attributes:
        comparison, contender, base: their names.
        milliseconds: of one unit of work, the median over the rounds.
        ratio: of its time and the base's in the same round, the median; 1 is equal, more is slower.
        low, high: quartiles of that ratio.
        rounds: how many.
    """

    comparison: str
    contender: str
    base: str
    milliseconds: float
    ratio: float
    low: float
    high: float
    rounds: int


def compare(name: str, contenders: Mapping[str, Callable[[int], None]], seconds: float) -> list[Result]:
    """Let the contenders take turns; each is a function that does ``n`` units of work."""
    repeats = {}
    for key, work in contenders.items():
        work(3)
        started = time.perf_counter()
        work(3)
        repeats[key] = max(1, round(3 * ROUND / (time.perf_counter() - started)))
    times: dict[str, list[float]] = {key: [] for key in contenders}
    order, until = list(contenders), time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[order[0]]) < 5:
        random.shuffle(order)
        for key in order:
            started = time.perf_counter()
            contenders[key](repeats[key])
            times[key].append((time.perf_counter() - started) / repeats[key])
    base = next(iter(contenders))
    results = []
    for key, found in times.items():
        ratios = [mine / its for mine, its in zip(found, times[base], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        results.append(Result(name, key, base, 1e3 * statistics.median(found), middle, low, high, len(ratios)))
    return results


def start_up(seconds: float) -> list[Result]:
    """``ganzoo --help`` and ``ganzoo run --help`` against the import of click alone, each a process."""

    def process(*arguments: str) -> Callable[[int], None]:
        def work(n: int) -> None:
            for _ in range(n):
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

        return work

    contenders = {
        "import click": process("-c", "import click"),
        "ganzoo --help": process("-m", "ganzoo", "--help"),
        "ganzoo run --help": process("-m", "ganzoo", "run", "--help"),
    }
    return compare("start-up", contenders, seconds)


def our_loop(settings: Mapping[str, Any], folder: Path, device: torch.device) -> Callable[[int], None]:
    """Steps of a run's own loop, with its moving average, observers and log."""
    config = resolve([Layer("bench", {**settings, "out": str(folder), **ENDLESS})])
    run = Run.create(config, config.spec(), {})
    session = Session(run, device, say=lambda _: None)

    def work(n: int) -> None:
        for _ in range(n):
            session._take_step()
        synchronize(device)

    return work


def bare_loop(settings: Mapping[str, Any], device: torch.device) -> Callable[[int], None]:
    """The same arithmetic around the same networks, written down as plainly as can be."""
    config = resolve([Layer("bench", dict(settings))])
    spec, batch, saturating = config.spec(), config.run.batch_size, config.loss.name == "minimax"
    gen = cast("Generator", build(config.gen, spec)).to(device).train()
    disc = cast("Discriminator", build(config.disc, spec)).to(device).train()
    average = copy.deepcopy(gen).requires_grad_(False)
    data = build(config.data, spec).to(device)
    rng = torch.Generator(device).manual_seed(0)
    of_gen: list[Tensor] = list(gen.parameters())
    averaged: list[Tensor] = list(average.parameters())
    buffers = list(zip(average.buffers(), gen.buffers(), strict=True))
    opt_gen = torch.optim.Adam(of_gen, 2e-4, (0.5, 0.999), fused=True)
    opt_disc = torch.optim.Adam(disc.parameters(), 2e-4, (0.5, 0.999), fused=True)
    order: Iterator[Tensor] = iter(())

    def reals() -> Tensor:
        nonlocal order
        if data.length is None:
            drawn: Tensor = data.draw(batch, rng).x
            return drawn
        picked = next(order, None)
        if picked is None:
            order = iter(torch.split(torch.randperm(data.length, device=device), batch)[:-1])
            picked = next(order)
        fetched: Tensor = data.fetch(picked).x
        return fetched

    def work(n: int) -> None:
        for _ in range(n):
            real, fake = reals(), gen(torch.randn(batch, gen.latent_dim, device=device, generator=rng))
            loss = softplus(-disc(real)).mean() + softplus(disc(fake.detach())).mean()
            opt_disc.zero_grad()
            torch.autograd.backward(loss)
            opt_disc.step()
            logits = disc(fake)
            loss = -softplus(logits).mean() if saturating else softplus(-logits).mean()
            opt_gen.zero_grad()
            torch.autograd.backward(loss, inputs=of_gen)
            opt_gen.step()
            with torch.no_grad():
                torch._foreach_lerp_(averaged, of_gen, 0.01)
                for mine, its in buffers:
                    mine.copy_(its)
        synchronize(device)

    return work


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def loops(folder: Path, device: torch.device, seconds: float) -> list[Result]:
    """Our loop against the bare one."""
    results = []
    for name, settings in (("loop, dcgan 32x32", DCGAN), ("loop, mlp on ring", RING)):
        contenders = {"bare": bare_loop(settings, device), "ganzoo": our_loop(settings, folder, device)}
        results += compare(name, contenders, seconds)
    return results


def unrolling(folder: Path, device: torch.device, seconds: float) -> list[Result]:
    """The unrolled trainer with K steps against none."""
    contenders = {
        f"K = {k}": our_loop({**RING, "trainer": "unrolled", "trainer.steps": k}, folder, device) for k in UNROLLED
    }
    return compare("unrolled, mlp on ring", contenders, seconds)


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "ganzoo": ganzoo.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="for each of the four comparisons (30)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, ... (cpu)")
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    asked = parser.parse_args()
    device = resolve_device(asked.device).device
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = start_up(asked.seconds)
        results += loops(folder, device, asked.seconds)
        results += unrolling(folder, device, asked.seconds)
    facts = machine(device)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"{'comparison':<22} {'contender':<18} {'ms':>9} {'ratio':>7}   quartiles      rounds")
    for one in results:
        numbers = f"{one.milliseconds:9.3f} {one.ratio:7.3f}   {one.low:.3f} to {one.high:.3f} {one.rounds:6}"
        print(f"{one.comparison:<22} {one.contender:<18} {numbers}")
    if asked.json:
        text = json.dumps({"machine": facts, "results": [asdict(one) for one in results]}, indent=2)
        asked.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
