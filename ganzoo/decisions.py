"""What a run leaves to ganzoo: what is chosen for it, and why. Free of torch.

A :class:`Machine` says what there is; torch fills it in when a run starts, and :func:`guessed` does without. Each
function here turns that and the settings into a :class:`Decision`, which ``--dry-run`` and ``doctor`` print and a run's
``config.json`` keeps. What must be measured (:func:`to_measure`) is settled by :mod:`ganzoo.training.fast`.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ganzoo import processes
from ganzoo.api import MIXES_SAMPLES, Spec, UsageError
from ganzoo.settings import PRODUCTS

if TYPE_CHECKING:
    from ganzoo.config import OptimConfig, RunConfig, RunSettings

AUTO: Final = "auto"
GAIN: Final = 1.05
"""How many times as fast as the plain way another one must be to be chosen."""
OFFERED: Final = ("fp32", "bf16")
"""What ``--precision auto`` may choose from, where hardware has it; docs/explain/speed.md says what is known of it."""
_FUSED: Final = {"adam", "adamw", "sgd"}
_NATIVE: Final = {"avx512_bf16", "amx_bf16"}
PLAIN: Final = "torch's own"
"""How convolutions are computed that no matrices compute."""
MIXING: Final = "it mixes the samples of a batch, as batch norm does"
_LATER: Final = "measured at the start"
_FOUND: Final = "found out at the start"


@dataclass(frozen=True)
class Decision:
    """One thing that was chosen.

    Attributes:
        name: what it is about: ``device``, ``threads``, ``precision``, ``layout``, ``convolutions``, ``critic``,
            ``tf32``, ``compile``, ``optimiser``, ``data``.
        value: what was chosen.
        reason: half a sentence.
    """

    name: str
    value: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return asdict(self)


class Arrangement(NamedTuple):
    """Arithmetic of the networks and order of their weights in memory.

    The arithmetic is ``fp32``, ``bf16``, ``bf16-products`` or ``fp16``.
    """

    precision: str
    layout: str


@dataclass(frozen=True)
class Machine:
    """What computes.

    Attributes:
        device: as torch writes it, such as ``cuda:0``.
        reason: why that one.
        name: of the processor.
        threads: how many the CPU takes; None if only torch knows.
        bf16: whether it computes bfloat16 in hardware; None if only torch knows.
    """

    device: str
    reason: str
    name: str
    threads: int | None
    bf16: bool | None

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0]


def guessed(asked: str) -> Machine:
    """The machine as far as it can be known without torch, which has the last word when a run starts."""
    if asked != AUTO:
        device, reason = asked, "asked for"
    elif (
        Path("/proc/driver/nvidia/version").exists() and "+cpu" not in _torch_version()
    ):  # a driver, and no torch that is known to be without CUDA
        device, reason = "cuda", "there is an NVIDIA driver; torch has the last word"
    elif sys.platform == "darwin" and platform.machine() == "arm64":
        device, reason = "mps", "this is Apple silicon; torch has the last word"
    else:
        device, reason = "cpu", "no accelerator was seen; torch has the last word"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    of_kind = {"cpu": bool(_NATIVE & processor_flags()), "mps": False}
    native = of_kind.get(device.partition(":")[0])
    return Machine(device, reason, platform.machine(), int(threads) if threads.isdigit() else None, native)


def processor_flags() -> frozenset[str]:
    """The extensions of the processor as Linux tells them; empty where nothing does."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def to_measure(settings: RunSettings, spec: Spec, machine: Machine) -> list[Arrangement]:
    """The arrangements that may serve a run, the plain one first; nothing is to be measured if there is one only.

    Raises:
        UsageError: the layout that is asked for is known to give wrong numbers there.
    """
    if machine.kind == "mps" and settings.layout == "channels-last":
        raise UsageError("torch computes wrong gradients with channels-last on MPS; use --layout contiguous.")
    precisions, layouts = [settings.precision], [settings.layout]
    if settings.precision == AUTO:
        may = machine.bf16 is not False and machine.kind != "mps" and not settings.deterministic
        precisions = list(OFFERED) if may else ["fp32"]
    if settings.layout == AUTO:
        may = spec.is_image and machine.kind != "mps" and not settings.deterministic
        layouts = ["contiguous", "channels-last"] if may else ["contiguous"]
    found = [Arrangement(precision, layout) for precision in precisions for layout in layouts]
    may = machine.kind == "cpu" and machine.bf16 is not False and not (settings.deterministic or settings.compile)
    return [*found, Arrangement(PRODUCTS, layouts[0])] if may and "bf16" in precisions else found


def expected(config: RunConfig, machine: Machine) -> list[Decision]:
    """What is chosen, as far as it is known before the networks are built."""
    settings, spec = config.run, config.spec()
    open_to = to_measure(settings, spec, machine)
    small = "small networks keep"
    return [
        *of_machine(machine),
        _expected_precision(settings, machine, open_to),
        layout(settings, spec, machine)
        if len({each.layout for each in open_to}) == 1
        else Decision("layout", _LATER, f"channels-last if it is {GAIN:g} times as fast; {small} contiguous"),
        convolutions(settings, spec, machine, open_to[0].precision)
        or Decision("convolutions", _LATER, f"matrices where they are quicker; {small} torch's own"),
        critic(MIXING)
        if MIXES_SAMPLES in config.disc.component.traits_of(config.disc.config, spec)
        else Decision("critic", _FOUND, "it sees reals and fakes in one pass if it mixes no samples"),
        tf32(settings, machine),
        Decision("compile", "on" if settings.compile else "off", "asked for" if settings.compile else "by default"),
        *optimisers(config.gen_optim, config.disc_optim, machine),
        _data(config, machine),
    ]


def _expected_precision(settings: RunSettings, machine: Machine, open_to: Sequence[Arrangement]) -> Decision:
    if len({each.precision for each in open_to}) == 1:
        return precision(settings, machine)
    if settings.precision != AUTO:
        return Decision("precision", settings.precision, "asked for; in products alone where that is quicker")
    why = f"bf16 if {_hardware(machine)}it is {GAIN:g} times as fast; small networks keep fp32"
    return Decision("precision", _LATER, why)


def of_machine(machine: Machine) -> list[Decision]:
    """The device and the threads."""
    found = [Decision("device", machine.device, machine.reason)]
    if machine.kind == "cpu":
        world = processes.count()
        threads, shared = machine.threads, processes.threads_each(world)
        # Processes that --devices starts find the variable set to their share.
        if world > 1 and threads in (None, shared):
            threads, why = shared, "the cores, divided between the processes"
        else:
            why = "OMP_NUM_THREADS says so" if os.environ.get("OMP_NUM_THREADS") else "as many as torch takes"
        found.append(Decision("threads", str(threads or processes.cores()), why))
    return found


def precision(settings: RunSettings, machine: Machine) -> Decision:
    """The arithmetic of the networks where it need not be measured."""
    if settings.precision != AUTO:
        return Decision("precision", settings.precision, "asked for")
    if machine.kind == "mps":
        why = "bfloat16 is left to those who ask for it on MPS"
    elif not machine.bf16:
        why = "bfloat16 is not computed in hardware here"
    else:
        why = "with --deterministic nothing is measured"
    return Decision("precision", "fp32", why)


def layout(settings: RunSettings, spec: Spec, machine: Machine) -> Decision:
    """The order of memory where it need not be measured."""
    if settings.layout != AUTO:
        return Decision("layout", settings.layout, "asked for")
    if not spec.is_image:
        why = "points have no channels"
    elif machine.kind == "mps":
        why = "channels-last gives wrong gradients on MPS"
    else:
        why = "with --deterministic nothing is measured"
    return Decision("layout", "contiguous", why)


def convolutions(settings: RunSettings, spec: Spec, machine: Machine, precision: str) -> Decision | None:
    """How convolutions are computed in the arithmetic of the networks; None where that must be measured.

    ``settings.compile`` says whether they are compiled, which may be asked for in vain.
    """
    if not spec.is_image:
        why = "points have none"
    elif machine.kind != "cpu":
        why = "matrices are tried on CPUs"
    elif settings.deterministic:
        why = "with --deterministic nothing is measured"
    elif settings.layout != AUTO:
        why = "with a layout that was asked for nothing is measured"
    elif settings.compile:
        why = "what is compiled is left to the compiler"
    elif precision != "fp32" and not (precision == "bf16" and machine.bf16):
        why = f"matrices are not tried in {precision} here"
    else:
        return None
    return Decision("convolutions", PLAIN, why)


def critic(apart: str) -> Decision:
    """How the critic looks at reals and fakes: ``apart`` is why one after the other, or empty."""
    if apart:
        return Decision("critic", "reals and fakes one after the other", apart)
    return Decision("critic", "reals and fakes in one pass", "each logit depends on its own sample alone")


def uses_tf32(settings: RunSettings) -> bool:
    """Whether CUDA may round the factors of float32 products to 10 bits."""
    return settings.precision != "fp32"


def tf32(settings: RunSettings, machine: Machine) -> Decision:
    """How CUDA multiplies what is float32."""
    if machine.kind != "cuda":
        return Decision("tf32", "off", "it is CUDA's")
    if uses_tf32(settings):
        return Decision("tf32", "on", "products of float32 take 10-bit factors; --precision fp32 asks for all 23")
    return Decision("tf32", "off", "--precision fp32 asks for IEEE float32")


def optimisers(gen: OptimConfig, disc: OptimConfig, machine: Machine) -> list[Decision]:
    """How parameters are stepped; one line if both sides do it alike."""
    found = []
    for name, config in (("optimiser of gen", gen), ("optimiser of disc", disc)):
        fused = config.name in _FUSED and machine.kind in ("cpu", "cuda", "mps", "xpu")
        why = "one operation for all parameters" if fused else "torch has no fused one"
        found.append(Decision(name, f"{config.name}, fused" if fused else config.name, why))
    if found[0].value == found[1].value:
        return [Decision("optimiser", found[0].value, found[0].reason)]
    return found


def kept(record: Mapping[str, Any], machine: Machine) -> dict[str, str]:
    """Name -> value of what the ``config.json`` of a run says was chosen, if that was for the same kind of device."""
    listed = record.get("decisions")
    found = {
        each["name"]: each["value"]
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict) and isinstance(each.get("name"), str) and isinstance(each.get("value"), str)
    }
    return found if found.get("device", "").partition(":")[0] == machine.kind else {}


def _hardware(machine: Machine) -> str:
    return "the hardware computes it and " if machine.bf16 is None else ""


def _data(config: RunConfig, machine: Machine) -> Decision:
    """Where samples lie, as far as it is known before they are opened."""
    if hasattr(config.data.config, "memory"):
        return Decision("data", _FOUND, "held, mapped, or decoded while training, by size, free memory and settings")
    if machine.kind == "cuda":
        why = "on the device if that has room for them, else in main memory, copied while steps are computed"
        return Decision("data", _LATER, why)
    return Decision("data", "on the device", "samples in memory are the device's own")


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""
