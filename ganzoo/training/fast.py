"""What makes a run quick and is not the same everywhere: asked of torch, measured on the run's own networks, recorded.

A measurement is not repeatable to the bit, and what it decides changes the last bits of every number. So its outcome
is remembered: by the run, which is resumed as it began, and by this machine for these networks, so that the same
command gives the same run again.
"""

from __future__ import annotations

import functools
import json
import math
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch

from ganzoo import decisions
from ganzoo.decisions import Arrangement, Decision, Machine
from ganzoo.nn import Bundle
from ganzoo.nn.precision import can_round_products
from ganzoo.reading import read_table
from ganzoo.settings import PRODUCTS
from ganzoo.training import convolving
from ganzoo.training.build import arrange
from ganzoo.training.choices import chosen_once
from ganzoo.training.compiling import compiled
from ganzoo.training.trial import APART, difference, gain, how_far, misses, passes

if TYPE_CHECKING:
    from ganzoo.settings import RunSettings
    from ganzoo.training.loop import Session

_FEW: Final = 100_000
"""Weights below which the arithmetic is not."""


def machine_of(device: torch.device, reason: str = "asked for") -> Machine:
    """What torch knows of a device."""
    name = f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    threads = torch.get_num_threads() if device.type == "cpu" else None
    return Machine(str(device), reason, name, threads, _has_bf16(device))


def _has_bf16(device: torch.device) -> bool:
    """Whether the hardware itself computes bfloat16; torch emulates it elsewhere, many times slower."""
    if device.type == "cuda":
        if torch.version.hip:
            return bool(torch.cuda.is_bf16_supported())
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "xpu":
        return True
    if device.type != "cpu":
        return False
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    if any(asked):
        return any(bool(ask()) for ask in asked if ask is not None)
    return bool({"avx512_bf16", "amx_bf16"} & decisions.processor_flags())


def slow_precision(settings: RunSettings, device: torch.device) -> str | None:
    """A sentence where the arithmetic that was asked for is emulated."""
    if device.type != "cpu" or settings.precision not in ("bf16", "fp16"):
        return None
    native = _has_bf16(device) if settings.precision == "bf16" else _has_fp16()
    if native:
        return None
    return f"This processor emulates {settings.precision}, which is many times slower than fp32; use --precision fp32."


def _has_fp16() -> bool:
    """Whether it computes float16 in training: with AVX-512 FP16 alone a backward pass takes twenty times as long."""
    ask = getattr(torch.cpu, "_is_amx_fp16_supported", None)
    return bool(ask()) if ask is not None else "amx_fp16" in decisions.processor_flags()


@contextmanager
def switches(settings: RunSettings, device: torch.device) -> Iterator[None]:
    """torch's process-wide switches as the run wants them, and afterwards as they were."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.benchmark
    if settings.deterministic:
        torch.use_deterministic_algorithms(True)
        cudnn.benchmark = False
    cuda = device.type == "cuda"
    tf32 = matmul.allow_tf32, cudnn.allow_tf32
    if cuda:
        matmul.allow_tf32 = cudnn.allow_tf32 = decisions.uses_tf32(settings)
        cudnn.benchmark = not settings.deterministic  # shapes stay the same, so trying the algorithms once pays
    try:
        yield
    finally:
        if settings.deterministic:  # even to ask for what is the case already imports torch's compiler
            torch.use_deterministic_algorithms(before[0])
        cudnn.benchmark = before[1]
        if cuda:
            matmul.allow_tf32, cudnn.allow_tf32 = tf32


def settle(session: Session) -> list[Decision]:
    """Arrange the networks of a session that has taken no step yet, and say how, beside what needs no choice."""
    machine = machine_of(session.device)
    config, bundle = session.run.config, session.bundle
    said = json.loads(session.together.from_first(lambda: json.dumps(_choose(session, machine))))
    chosen = Arrangement(*said["chosen"])
    arrange(bundle, chosen)
    settings, open_to = config.run, decisions.to_measure(config.run, session.run.spec, machine)
    compiling = compiled(session, chosen)
    settled = replace(settings, compile=compiling.value != "off")
    products = convolving.convolving(session, settled, machine, chosen, lambda: _before(session, machine))
    reasons = Arrangement(said["reason"], said["reason"])
    if products.value != decisions.PLAIN and chosen.layout != "channels-last":
        chosen = chosen._replace(layout="channels-last")
        reasons = reasons._replace(layout="convolutions by matrices want it")
    found = []
    known = (decisions.precision(settings, machine), decisions.layout(settings, session.run.spec, machine))
    for at, fixed in enumerate(known):
        several = len({each[at] for each in open_to}) > 1
        as_asked = settings.precision == chosen[at]  # though another way of it may have been tried
        found.append(Decision(fixed.name, chosen[at], reasons[at]) if several and not as_asked else fixed)
    return [
        *found,
        products,
        decisions.critic(bundle.apart),
        decisions.tf32(settings, machine),
        compiling,
        *decisions.optimisers(config.gen_optim, config.disc_optim, machine),
        Decision("data", *session.dataset.placement),
    ]


def _before(session: Session, machine: Machine) -> dict[str, str]:
    """What the run that is gone on with began with."""
    record: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        record = read_table(session.run.path / "config.json")
    return decisions.kept(record, machine)


def _choose(session: Session, machine: Machine) -> dict[str, Any]:
    """The arrangement of a run and why, as JSON values."""
    open_to = decisions.to_measure(session.run.config.run, session.run.spec, machine)
    if not _may_round_products(session):
        open_to = [each for each in open_to if each.precision != PRODUCTS]
    plain = open_to[0]
    if len(open_to) == 1:
        return {"chosen": plain, "reason": "asked for"}
    old = _before(session, machine)
    was = Arrangement(old.get("precision", ""), old.get("layout", ""))
    if was in open_to:
        return {"chosen": was, "reason": "as the run began"}
    open_to = _worth_measuring(open_to, session.bundle)
    if len(open_to) == 1:
        return {"chosen": plain, "reason": "the networks are too small for it to matter"}
    tied = convolving.TIED if convolving.is_tied(session.bundle) else ""
    if tied:
        open_to = [each for each in open_to if each.layout == plain.layout]
    if len(open_to) == 1:
        return {"chosen": plain, "reason": tied}

    def valid(found: dict[str, Any]) -> bool:
        return Arrangement(*found["chosen"]) in open_to and isinstance(found["reason"], str)

    def measure() -> dict[str, Any]:
        sound, why, passing = _sound(session, open_to)
        said: dict[str, Any] = {"chosen": plain, "reason": ""}
        if len(sound) > 1:
            said, unlike = _quickest(session, sound)
            why = "; ".join(filter(None, (why, unlike)))
        reason = "; ".join(filter(None, (said["reason"], why, tied)))
        return {**said, "reason": reason, "passing": passing or said.get("passing", False)}

    what = "arithmetic and order of memory are quickest"
    return chosen_once(session, machine, {"open_to": open_to}, valid, measure, what=what)


def _sound(session: Session, open_to: Sequence[Arrangement]) -> tuple[list[Arrangement], str, bool]:
    """The arrangements whose arithmetic computes about what the plain one's does.

    Returns:
        them; which arithmetic is left out and why, or empty; whether it could not be computed, which may pass.
    """
    plain, left, words, passing = open_to[0], list(open_to), [], False
    for precision in dict.fromkeys(each.precision for each in open_to if each.precision != plain.precision):
        ways = [functools.partial(arrange, session.bundle, way) for way in (plain, plain._replace(precision=precision))]
        apart = difference(session, ways)
        if not apart <= APART:  # NaN where it could not be computed at all
            far = how_far(apart, f"in {plain.precision}")
            left = [each for each in left if each.precision != precision]
            words.append(f"{precision} is left out: with it these networks {far}")
            passing |= math.isnan(apart)
    return left, "; ".join(words), passing


def _quickest(session: Session, open_to: Sequence[Arrangement]) -> tuple[dict[str, Any], str]:
    """The verdict over these arrangements, and which order of memory is left out and why, or an empty text."""
    plain, seconds = open_to[0], _measure(session, open_to)
    said = _verdict(seconds, open_to)
    chosen = Arrangement(*said["chosen"])
    if chosen.layout == plain.layout:
        return said, ""
    ways = [functools.partial(arrange, session.bundle, way) for way in (chosen._replace(layout=plain.layout), chosen)]
    wrong = misses(session, chosen.precision, ways)
    if not wrong:
        return said, ""
    left = [each for each in open_to if each.layout != chosen.layout]
    said = _verdict({each: times for each, times in seconds.items() if each in left}, left)
    return said, f"{chosen.layout} is left out: with it these networks {wrong}"


def _verdict(seconds: dict[Arrangement, list[float]], open_to: Sequence[Arrangement]) -> dict[str, Any]:
    """The quickest arrangement, if it gains enough over the plain one.

    Where one failed, what is chosen holds for this run only (``passing``): the cause may be gone the next time.
    """
    plain = open_to[0]
    if plain not in seconds:
        return {"chosen": plain, "reason": "nothing could be measured", "passing": True}
    gains = {each: gain(seconds[plain], times) for each, times in seconds.items()}
    best = max(gains, key=lambda each: gains[each])
    tried = " or ".join(", ".join(each) for each in seconds if each != plain)
    failed = " and ".join(", ".join(each) for each in open_to if each not in seconds)
    words = f"{tried} was measured here and gains less than {decisions.GAIN - 1:.0%}" if tried else ""
    if gains[best] >= decisions.GAIN:
        words = f"{', '.join(best)} was {gains[best]:.2f} times as fast as {', '.join(plain)} when measured here"
    else:
        best = plain
    if failed:
        return {"chosen": best, "reason": f"{words}{'; ' * bool(words)}{failed} failed here", "passing": True}
    return {"chosen": best, "reason": words}


def _may_round_products(session: Session) -> bool:
    """Whether products that round their factors are worth a trial.

    Convolutions gain more by tensors of half the size; and what a trainer differentiates twice must not be rounded.
    """
    return can_round_products() and convolving.is_light(session.bundle) and session.trainer.differentiates_once


def _worth_measuring(open_to: Sequence[Arrangement], bundle: Bundle) -> list[Arrangement]:
    weights = (p for net in (bundle.gen, bundle.disc) for p in net.parameters() if p.dim() > 1)
    plain, few, is_light = open_to[0], sum(p.numel() for p in weights) < _FEW, convolving.is_light(bundle)
    return [
        each
        for each in open_to
        if not (few and each.precision != plain.precision) and not (is_light and each.layout != plain.layout)
    ]


def _measure(session: Session, open_to: Sequence[Arrangement]) -> dict[Arrangement, list[float]]:
    """Seconds of a pass in each arrangement that works; the networks are left in the first."""
    ways = {each: functools.partial(arrange, session.bundle, each) for each in open_to}
    return passes(session, ways)
