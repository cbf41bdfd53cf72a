"""``--compile``: torch.compile for what it can, tried out first in a process of its own, which may fail or crash.

The generator is compiled, and the critic where its gradients are differentiated once only: torch.compile knows no
second derivative. The modules themselves stay as they are, and so do the names of their weights.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from ganzoo import processes
from ganzoo.api import Spec
from ganzoo.config import Layer, RunConfig, flatten, resolve
from ganzoo.decisions import Arrangement, Decision
from ganzoo.nn import Batch, Bundle, Trainer
from ganzoo.nn.bundle import Side, derive_seed
from ganzoo.registry import build
from ganzoo.training.build import build_bundle
from ganzoo.training.device import meant

if TYPE_CHECKING:
    from ganzoo.training.loop import Session

_TOLERANCE: Final = {"fp32": 1e-2, "bf16": 1e-1, "fp16": 1e-1}
"""Relative difference of losses and gradients within two steps; a wrong kernel is off by all of it."""
_PERTURBATION: Final = 1e-6
"""By how much weights are changed, relatively, to see how much a network and its optimiser magnify rounding: in deep
ones with batch norm, and by Adam, whose first step is the sign of a gradient, by four orders of magnitude."""
_TIMES: Final = 3.0
"""What that may be exceeded by, since kernels round otherwise at every layer."""
_MOST: Final = 0.5
_STEPS: Final = 2
_PATIENCE: Final = 900.0
_SMALL: Final = 5_000_000
"""Weights below which launches cost a GPU more than what is launched, so that graphs of them pay."""
_NO_COMPILER: Final = "No working C++ compiler"
_ADVICE: Final = "Set TORCHDYNAMO_VERBOSE"
"""How that begins with which torch ends all its errors."""
Backend = str | Callable[..., Any]


def compiled(session: Session, arrangement: Arrangement) -> Decision:
    """Compile what a session's steps call, if that is asked for and proves right, and say what was done.

    Args:
        session: it has taken no step yet.
        arrangement: that of its networks, so that what is tried is what will run.
    """
    config, bundle = session.run.config, session.bundle
    if not config.run.compile:
        return Decision("compile", "off", "by default")
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, **arrangement._asdict()))
    share = session.settings.batch_size // session.together.world
    problem = session.together.from_first(lambda: tried(config, session.run.spec, session.device, share))
    if problem:
        session.say(f"Warning: The run goes on without --compile: {problem}.")
        return Decision("compile", "off", problem)
    critic = apply(bundle, session.trainer, session.device)
    if critic:
        return Decision("compile", "generator, critic", "asked for; two steps gave what they give without")
    return Decision("compile", "generator", "asked for; the critic's gradients are differentiated twice")


def apply(
    bundle: Bundle, trainer: Trainer, device: torch.device, backend: str | Callable[..., Any] = "inductor"
) -> bool:
    """Compile what steps call; whether that includes the critic."""
    critic = trainer.differentiates_once and bundle.critic_is_plain
    settings: dict[str, Any] = {"backend": backend, "dynamic": False}
    if backend == "inductor":
        few = sum(p.numel() for side in (bundle.gen_side, bundle.disc_side) for p in side.parameters()) < _SMALL
        # Random numbers as without compiling, so that they stay a function of seed and step.
        settings["options"] = {"fallback_random": True, "triton.cudagraphs": device.type == "cuda" and few}

    def transform(module: nn.Module) -> Callable[..., Any]:
        result: Callable[..., Any] = torch.compile(module, **settings)
        return result

    bundle.compile(transform, critic=critic)
    return critic


def tried(config: RunConfig, spec: Spec, device: torch.device, batch: int, backend: str = "inductor") -> str:
    """What is wrong with compiling this run, found out in another process; empty if nothing is."""
    task = {
        "config": config.to_dict(),
        "spec": [list(spec.shape), spec.num_classes],
        "device": str(device),
        "batch": batch,
        "backend": backend,
    }
    try:
        done = subprocess.run(
            [*processes.python(), "-m", "ganzoo.training.compiling"],
            input=json.dumps(task),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=processes.apart(),
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"compiling takes more than {_PATIENCE:.0f} s"
    except OSError as err:
        return f"it could not be tried ({err.strerror or err})"
    if done.returncode < 0:
        return f"compiling crashes with this torch (signal {-done.returncode})"
    try:
        return str(json.loads(done.stdout.splitlines()[-1])["problem"])
    except (IndexError, ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return f"compiling fails (exit code {done.returncode}: {last[:300]})"


def difference(config: RunConfig, spec: Spec, device: torch.device, batch: int, backend: Backend) -> str:
    """Take two steps with and without compiling; what is wrong with the former, empty if nothing is."""
    plain = _steps(config, spec, device, batch, None)
    try:
        found = _steps(config, spec, device, batch, backend)
    except Exception as err:  # whatever a compiler raises
        return _reason(err)
    perturbed = _steps(config, spec, device, batch, None, perturbation=_PERTURBATION)
    tolerance = _TOLERANCE.get(config.run.precision, _TOLERANCE["fp32"])
    for name, expected in plain.items():
        error, by_itself = (_relative(each[name], expected) for each in (found, perturbed))
        if not error <= max(tolerance, min(_TIMES * by_itself, _MOST)):
            return f"compiled, {name} differs by {error:.1%} from what it is without"
    return ""


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(1e-6))


def _reason(err: Exception) -> str:
    """Why torch.compile fails, without the advice that torch gives to those who work on torch."""
    text = " ".join(str(err).split())
    if _NO_COMPILER in text:
        return "there is no C++ compiler here; install one, such as g++"
    return f"torch.compile fails ({type(err).__name__}: {text.partition(_ADVICE)[0][:300].rstrip()})"


class _Samples:
    """Batches of noise in place of the data."""

    def __init__(self, spec: Spec, batch: int, device: torch.device) -> None:
        self._spec, self._batch, self._device = spec, batch, device
        self._rng = torch.Generator().manual_seed(derive_seed("compiling"))

    def next(self) -> Batch:
        x = torch.rand(self._batch, *self._spec.shape, generator=self._rng) * 2 - 1
        classes = self._spec.num_classes
        y = torch.randint(classes, (self._batch,), generator=self._rng).to(self._device) if classes else None
        return Batch(x.to(self._device), y)


def _steps(
    config: RunConfig,
    spec: Spec,
    device: torch.device,
    batch: int,
    backend: Backend | None,
    *,
    perturbation: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Losses and gradients of some steps, by name, on the CPU, from weights with a relative ``perturbation``."""
    bundle = build_bundle(config, spec, device)
    if perturbation:
        _perturb(bundle, perturbation)
    trainer: Trainer = build(config.trainer, spec)
    trainer.setup(bundle)
    if backend is not None:
        apply(bundle, trainer, device, backend)
    stream = _Samples(spec, batch, device)
    found: dict[str, torch.Tensor] = {}
    for step in range(_STEPS):
        bundle.begin(step)
        metrics = trainer.step(stream)
        found |= {f"{name} of step {step + 1}": metrics[name] for name in ("loss_d", "loss_g")}
        for whose, side in (("generator", bundle.gen_side), ("critic", bundle.disc_side)):
            found[f"the gradient of the {whose} of step {step + 1}"] = _gradient(side)
        found = {name: value.detach().float().cpu() for name, value in found.items()}
    return found


@torch.no_grad()
def _perturb(bundle: Bundle, size: float) -> None:
    rng = torch.Generator().manual_seed(derive_seed("perturbation"))
    for side in (bundle.gen_side, bundle.disc_side):
        for p in side.trainable:
            noise = torch.randn(p.shape, generator=rng)
            p.mul_((1 + size * noise).to(p.device, p.dtype))


def _gradient(side: Side) -> torch.Tensor:
    return torch.cat([p.grad.reshape(-1) for p in side.trainable if p.grad is not None] or [torch.zeros(1)])


def _main(task: Mapping[str, Any]) -> str:
    config = resolve([Layer("run", flatten(task["config"], "run"))])
    shape, classes = task["spec"]
    device = torch.device(task["device"])
    with meant(device):
        return difference(config, Spec(tuple(shape), classes), device, task["batch"], task["backend"])


if __name__ == "__main__":
    problem = _main(json.loads(sys.stdin.read()))
    sys.stdout.write("\n" + json.dumps({"problem": problem}) + "\n")
