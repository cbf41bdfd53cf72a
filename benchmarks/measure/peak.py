"""Which share of the measured peak of matrix products a step reaches, and what its data cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import torch

from ganzoo.errors import GanzooError
from measure.contenders import steps_of
from measure.context import Context, synchronize
from measure.growth import flops_of
from measure.machine import lacking
from measure.timing import Result, Turn, Work, against
from measure.workloads import DCGAN_28, DCGAN_32, DCGAN_64, IMAGES, MLP_28

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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


def peak(context: Context) -> Iterator[Result]:
    """Operations per second of a step by those of a large matrix product of the same precision in the same rounds."""
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
