"""Peak memory of a few steps, over what the imports take, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from measure.contenders import OurLoop, tutorial_loop
from measure.context import Context
from measure.machine import forget_peak, memory_of_process
from measure.timing import Result, Turn
from measure.workloads import DCGAN_28, DCGAN_32, DCGAN_64, MLP_28, RING

WORKLOADS: Final = {workload.name: workload for workload in (DCGAN_64, DCGAN_32, DCGAN_28, MLP_28, RING)}
CONTENDERS: Final = ("ganzoo", "tutorial")
STEPS: Final = 5
BENCH: Final = Path(__file__).parent.parent / "bench.py"


def memory(context: Context) -> Iterator[Result]:
    """Of each configuration, ours and the tutorial's around the same networks; data are part of it."""
    for name in WORKLOADS if not context.small else (RING.name, MLP_28.name):
        for contender in CONTENDERS if name != RING.name else CONTENDERS[:1]:
            command = [sys.executable, str(BENCH), "--device", str(context.device), "--alone", contender, name]
            if context.small:
                command.append("--small")
            done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}: {done.stderr[-2000:]}")
            told = json.loads(done.stdout)
            yield Result(f"memory, {name}", contender, figures=told["figures"], note=told["note"])


def alone(context: Context, contender: str, name: str) -> str:
    """What a process of its own measures, as JSON."""
    workload = WORKLOADS[name]
    if context.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    possible = forget_peak()
    before = memory_of_process()
    if contender == "ganzoo":
        work = OurLoop(context, workload.of_run(context))
        work(STEPS)
    else:
        turn: Turn = tutorial_loop(context, workload, 0)
        turn.before(STEPS)
        turn.work(STEPS)
    after = memory_of_process()
    figures: dict[str, float] = {}
    if possible and before is not None and after is not None:
        figures = {"peak_over_imports_mb": after[1] - before[0], "imports_mb": before[0]}
    if context.device.type == "cuda":
        figures["peak_on_device_mb"] = torch.cuda.max_memory_allocated() / 1e6
    note = "" if figures else "left out: this system does not tell the peak memory of a process"
    return json.dumps({"figures": figures, "note": note})
