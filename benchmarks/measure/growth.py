"""How cost grows: with the critic steps that are unrolled, and with resolution, width and batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from ganzoo import decisions
from ganzoo.training.convolving import apply
from ganzoo.training.loop import Session
from measure.contenders import steps_of
from measure.context import Context
from measure.flops import dcgan_step
from measure.timing import Result
from measure.workloads import PLAIN, RING, Workload, dcgan

UNROLLED: Final = (0, 1, 2, 5, 10)
AGAIN: Final = ", checkpointing"
"""Of contenders whose unrolled steps are computed again in the backward pass."""
SIZES: Final = ((32, 32, 32), (64, 32, 32), (32, 64, 32), (32, 32, 64))
"""Side, width and batch."""


def flops_of(session: Session) -> float:
    """Floating-point operations of one step as torch counts them: products of matrices and convolutions only.

    Convolutions count as torch's own, however they are computed, so that the way does not change the number.
    """
    nets = session.bundle.gen, session.bundle.disc
    chosen = next(each.value for each in session.decisions if each.name == "convolutions")
    apply(*nets, ())
    session._take_step()
    with FlopCounterMode(display=False) as counter:
        session._take_step()
    apply(*nets, () if chosen == decisions.PLAIN else chosen.split())
    return float(counter.get_total_flops())


def peak_bytes(session: Session) -> float:
    """The most memory that one step has allocated at a time, beyond what was there before it."""
    session._take_step()
    if session.device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        session._take_step()
        return float(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        session._take_step()
    held = peak = 0
    assert found.profiler is not None
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return float(peak)


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Least squares: intercept, slope, and the largest residual relative to the largest value."""
    columns = torch.tensor([[1.0, each] for each in x], dtype=torch.float64)
    values = torch.tensor(y, dtype=torch.float64)
    fitted = torch.linalg.lstsq(columns, values[:, None]).solution[:, 0]
    residual = (columns @ fitted - values).abs().max() / values.abs().max()
    return float(fitted[0]), float(fitted[1]), float(residual)


def unrolling(context: Context) -> Iterator[Result]:
    """The unrolled trainer with K steps against none, kept and with checkpointing: time and memory, and their lines."""
    name = f"unrolled, {RING.name}"
    # K = 0 is another program, without the optimiser's formulas, so the lines are those of K = 1 and more.
    counts = UNROLLED[1:]
    asked = {f"K = {k}": {"trainer.steps": k} for k in UNROLLED}
    asked |= {f"K = {k}{AGAIN}": {"trainer.steps": k, "trainer.checkpointing": True} for k in counts}
    sessions = {
        key: context.session(context.resolve(RING.of_run(context, {**PLAIN, "trainer": "unrolled", **settings})))
        for key, settings in asked.items()
    }
    rows = context.compare(name, {key: steps_of(session) for key, session in sessions.items()})
    for row, session in zip(rows, sessions.values(), strict=True):
        row.figures["peak_mb"] = peak_bytes(session) / 1e6
    yield from rows
    for how, found in (("", rows[1 : len(UNROLLED)]), (AGAIN, rows[len(UNROLLED) :])):
        times, peaks = [row.milliseconds or 0.0 for row in found], [row.figures["peak_mb"] for row in found]
        for what, unit, values in (("time", "ms", times), ("memory", "MB", peaks)):
            start, slope, residual = line(counts, values)
            yield Result(
                name,
                f"line of {what} over K from 1 on{how}",
                figures={"intercept": start, "slope": slope, "residual": residual},
                note=f"{start:.2f} + {slope:.2f} K {unit}, off by at most {100 * residual:.1f} % of the largest",
            )


def sizes(context: Context) -> Iterator[Result]:
    """DCGAN at other sides, widths and batches: operations by formula and as counted, and time by operation."""
    sessions, formulas = {}, {}
    for side, width, batch in SIZES if not context.small else SIZES[:2]:
        width_used, batch_used = (4, 8) if context.small else (width, batch)
        workload = Workload("", "digits", side, dcgan(width, batch))
        key = f"{side}x{side}, width {width_used}, batch {batch_used}"
        sessions[key] = context.session(context.resolve(workload.of_run(context, PLAIN)))
        formulas[key] = batch_used * dcgan_step(side, width_used, 1, 100)
    counted = {key: flops_of(session) for key, session in sessions.items()}
    rows = context.compare("DCGAN by size", {key: steps_of(session) for key, session in sessions.items()})
    base = counted[rows[0].contender]
    for row in rows:
        row.figures = {
            "gflop": counted[row.contender] / 1e9,
            "formula_gflop": formulas[row.contender] / 1e9,
            "times_the_operations": counted[row.contender] / base,
            "gflop_per_s": counted[row.contender] / 1e6 / (row.milliseconds or 1),
        }
    yield from rows
