"""One process against two on the same global batch, each a run of the command line."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from measure.context import Context
from measure.timing import Result
from measure.workloads import DCGAN_32, MLP_28, Workload

CONTENDERS: Final = (
    ("1 process, 1 thread", 1, 1),
    ("1 process, 2 threads", 1, 2),
    ("2 processes, 1 thread each", 2, 1),
)
BENCHMARKS: Final = Path(__file__).parent.parent


def processes(context: Context) -> Iterator[Result]:
    """Images per second of runs that differ in nothing but processes and threads."""
    for workload in (DCGAN_32, MLP_28):
        rounds = 1 if context.small else 3
        # A start costs some seconds; what remains of the time is shared by the runs.
        seconds = max(2.0, context.seconds / (rounds * len(CONTENDERS)))
        rates: dict[str, list[float]] = {name: [] for name, _, _ in CONTENDERS}
        order = list(CONTENDERS)
        for _ in range(rounds):
            random.shuffle(order)
            for name, count, threads in order:
                rates[name].append(_rate(context, workload, count, threads, seconds))
        base = CONTENDERS[0][0]
        batch = workload.batch_size(context)
        for name, _, _ in CONTENDERS:
            gains = [mine / its for mine, its in zip(rates[name], rates[base], strict=True)]
            rate = statistics.median(rates[name])
            yield Result(
                f"processes, {workload.name}",
                name,
                base,
                1e3 * batch / rate,
                1 / statistics.median(gains),
                1 / max(gains),
                1 / min(gains),
                rounds,
                {"images_per_s": rate, "gain": statistics.median(gains)},
            )


def _rate(context: Context, workload: Workload, count: int, threads: int, seconds: float) -> float:
    """Images per second of one run, without its first part."""
    out = context.folder / "processes"
    settings: dict[str, Any] = {**workload.of_run(context), "run.device": str(context.device), "run.out": str(out)}
    settings |= {"run.max_time": seconds, "run.log_every": 5, "run.sample_every": 0, "run.checkpoint_every": 0}
    flags = [f"--{path.removeprefix('run.').replace('_', '-')}={value}" for path, value in settings.items()]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(BENCHMARKS)}
    command = [sys.executable, "-m", "ganzoo", "run", *flags, "--steps=1000000", "--devices", str(count)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}: {done.stderr[-2000:]}")
    newest = max(out.glob("*/metrics.jsonl"), key=lambda path: path.stat().st_mtime)
    found = [json.loads(text) for text in newest.read_text(encoding="utf-8").splitlines()]
    lines = [each for each in found if "images" in each]
    start = {"images": 0, "seconds": 0.0}
    first, last = lines[len(lines) // 4] if len(lines) > 2 else start, lines[-1]
    return float(last["images"] - first["images"]) / float(last["seconds"] - first["seconds"])
