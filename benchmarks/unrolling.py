"""What unrolling costs: time and memory of a step by the number K of unrolled steps, with activation checkpointing and
without.

Each figure is of one process that takes a few steps. Memory is the growth of the process's peak over what it held
after the first step with K = 0, as the system counts it; time is that of the processor for the quickest step of one
thread, which other work on the machine does not change much. ``python benchmarks/unrolling.py`` takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

SUBJECTS: Final[dict[str, dict[str, Any]]] = {
    "mlp on the ring, batch 512": {"data": "ring", "gen": "mlp", "disc": "mlp", "run.batch_size": 512},
    "dcgan 16x16, width 64, batch 64": {
        "data": "digits",
        "data.size": 16,
        "gen": "dcgan",
        "disc": "dcgan",
        "gen.width": 64,
        "disc.width": 64,
        "run.batch_size": 64,
    },
}
STEPS: Final = (1, 2, 5, 10, 20)
_PEAK_TO_BYTES: Final = 1 if sys.platform == "darwin" else 1024


def measure(subject: str, steps: int, seconds: float, *, checkpointing: bool) -> dict[str, float]:
    """Milliseconds of a step, and how many MB it added to the process's peak."""
    import torch

    from ganzoo.config import Layer, resolve
    from ganzoo.testing.training import Session

    torch.set_num_threads(1)
    chosen = {"loss": "minimax", "trainer": "unrolled", "run.cond": "off"}

    def session(k: int) -> Session:
        settings = {**chosen, **SUBJECTS[subject], "trainer.steps": k, "trainer.checkpointing": checkpointing}
        return Session(resolve([Layer("benchmark", settings)]))

    session(0).take(1)
    subject_session = session(steps)
    before = _peak()
    subject_session.take(1)
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        began = time.process_time()
        subject_session.take(1)
        times.append(time.process_time() - began)
    return {"milliseconds": 1e3 * min(times), "megabytes": (_peak() - before) / 1e6}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_TO_BYTES


def _apart(subject: str, steps: int, seconds: float, *, checkpointing: bool) -> dict[str, float]:
    """:func:`measure` in a process of its own, since a peak never falls.

    The C library gives large blocks back at once, so that the peak is of what is held and not of what was.
    """
    command = [sys.executable, __file__, "--one", subject, "--steps", str(steps), "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, *(["--checkpointing"] if checkpointing else [])],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure all, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time of each figure")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--one", choices=list(SUBJECTS), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(measure(asked.one, asked.steps, asked.seconds, checkpointing=asked.checkpointing)))
        return
    table = []
    for subject in SUBJECTS:
        print(f"\n{subject}\n{'K':>3} {'ms':>8} {'MB':>8}   {'ms':>8} {'MB':>8}   {'time':>5} {'memory':>6}")
        for k in STEPS:
            kept, made = (_apart(subject, k, asked.seconds, checkpointing=flag) for flag in (False, True))
            table.append({"subject": subject, "k": k, "kept": kept, "recomputed": made})
            ratios = [made[name] / max(kept[name], 1e-3) for name in ("milliseconds", "megabytes")]
            print(
                f"{k:>3} {kept['milliseconds']:>8.1f} {kept['megabytes']:>8.1f}   {made['milliseconds']:>8.1f} "
                f"{made['megabytes']:>8.1f}   {ratios[0]:>5.2f} {ratios[1]:>6.2f}",
                flush=True,
            )
    if asked.json is not None:
        asked.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
