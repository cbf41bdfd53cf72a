"""Which share of the measured peak of matrix products a step reaches, and what its data cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch.profiler import DeviceType, ProfilerActivity, profile

from ganzoo.errors import GanzooError
from ganzoo.training.loop import Session
from measure.contenders import steps_of
from measure.context import Context, synchronize
from measure.growth import flops_of
from measure.machine import lacking
from measure.timing import Result, Turn, Work, against
from measure.workloads import DCGAN_28, DCGAN_32, DCGAN_64, IMAGES, MLP_28

TYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_PRODUCTS: Final = ("conv", "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
"""What torch's names of products of matrices and of convolutions have in them."""
_PROFILED: Final = 0.5
"""Seconds of steps that are looked into."""


def matmul(side: int, dtype: torch.dtype, device: torch.device) -> Work:
    """Products of square matrices."""
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=rng).to(device, dtype) for _ in range(2))
    out = torch.empty_like(a)

    def work(n: int) -> None:
        for _ in range(n):
            torch.mm(a, b, out=out)
        synchronize(device)

    return work


def products_share(session: Session) -> float:
    """The part of a step's time that torch spends in products and convolutions; the rest is what goes with them."""
    steps, cuda = steps_of(session), session.device.type == "cuda"
    steps(2)
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]) as found:
        begun = time.perf_counter()
        while time.perf_counter() - begun < _PROFILED:
            steps(1)
        took = time.perf_counter() - begun
    operations = [each for each in found.key_averages() if each.device_type == DeviceType.CPU]  # and not kernels
    events = [each for each in operations if any(word in each.key for word in _PRODUCTS)]
    spent = sum(each.self_device_time_total if cuda else each.self_cpu_time_total for each in events)
    return float(spent / 1e6 / took)


def peak(context: Context) -> Iterator[Result]:
    """Operations per second of a step by those of a large matrix product of the same precision in the same rounds.

    Beside it, the part of the step in products and convolutions, and how quick they are by themselves: what is lost
    within them is the library's or the shape's, what is lost beside them is the rest of the step.
    """
    side = 64 if context.small else 2048 if context.device.type == "cpu" else 8192
    operations = 2.0 * side**3
    for name, dtype in TYPES.items():
        why = lacking(name, context.device)
        if why:
            yield Result(f"share of the peak, {name}", "all", note=f"left out: {why}")
            continue
        settings: dict[str, Any] = {"run.precision": name}
        workloads = (DCGAN_64, DCGAN_32, DCGAN_28, MLP_28)
        try:
            sessions = {w.name: context.session(context.resolve(w.of_run(context, settings))) for w in workloads}
        except GanzooError as err:
            yield Result(f"share of the peak, {name}", "all", note=f"left out: {err}")
            continue
        counted = {key: flops_of(session) for key, session in sessions.items()}
        contenders: dict[str, Work | Turn] = {f"matrices of {side}x{side}": matmul(side, dtype, context.device)}
        contenders |= {key: steps_of(session) for key, session in sessions.items()}
        times = context.times(contenders)
        rates = {key: [counted.get(key, operations) / each for each in found] for key, found in times.items()}
        for row in against(f"share of the peak, {name}", times):
            best = rates[row.base]
            shares = [mine / its for mine, its in zip(rates[row.contender], best, strict=True)]
            row.figures = {
                "share_of_peak": statistics.median(shares),
                "gflop": counted.get(row.contender, operations) / 1e9,
                "gflop_per_s": statistics.median(rates[row.contender]) / 1e9,
            }
            if row.contender in sessions:
                part = products_share(sessions[row.contender])
                row.figures |= {"products_share": part, "products_of_peak": row.figures["share_of_peak"] / part}
            yield row


def pipeline(context: Context) -> Iterator[Result]:
    """What a batch of data costs by itself, as a share of the step that uses it."""
    for workload in IMAGES:
        session = context.session(context.resolve(workload.of_run(context)))

        def data(n: int, stream: Any = session.stream) -> None:
            for _ in range(n):
                stream.next()
            synchronize(context.device)

        rows = context.compare(f"data of {workload.name}", {"whole step": steps_of(session), "its data alone": data})
        rows[1].figures["share_of_step"] = rows[1].ratio or 0.0
        yield from rows
