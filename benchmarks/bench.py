"""Every figure of speed, as ratios of things measured side by side: one table, and JSON for ``report.py``.

``python benchmarks/bench.py`` takes about twenty-five minutes and 5 GB of disk; ``--seconds`` sets how long each
comparison may take and ``--parts`` which are made. ``--small`` has tiny networks and shows only that everything works.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from measure import machine
from measure.asked import device, seconds, several
from measure.context import Context
from measure.memory import alone
from measure.parts import PARTS
from measure.timing import Result

from ganzoo.files import write_text

FORMAT = "ganzoo-bench/1"
HEADS = f"{'contender':<34} {'ms':>10} {'ratio':>7}   quartiles        rounds  figures"


def told(row: Result) -> str:
    """A line of the table."""
    figures = ", ".join(f"{key} {value:.4g}" for key, value in row.figures.items())
    words = "; ".join(filter(None, (figures, row.note)))
    if row.milliseconds is None or row.ratio is None:
        return f"{row.contender:<34} {'':>10} {'':>7}   {'':<22}  {words}"
    spread = f"{row.low:.3f} to {row.high:.3f}"
    return f"{row.contender:<34} {row.milliseconds:10.3f} {row.ratio:7.3f}   {spread:<16} {row.rounds:6}  {words}"


def measured(context: Context, parts: list[str], file: Path | None) -> None:
    """Measure part by part, printing what is found and keeping it in a file as it comes."""
    facts = machine.facts(context.device)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(HEADS, flush=True)
    rows: list[Result] = []
    for part in parts:
        begun, title = time.perf_counter(), ""
        for row in PARTS[part](context):
            row.part = part
            rows.append(row)
            if row.comparison != title:
                title = row.comparison
                print(f"\n{part}: {title}")
            print(told(row), flush=True)
        context.close()
        print(f"({part}: {time.perf_counter() - begun:.0f} s)", flush=True)
        if file is not None:
            keep(file, facts, context, rows)


def keep(file: Path, facts: dict[str, Any], context: Context, rows: list[Result]) -> None:
    """Write what was measured so far."""
    found = {
        "format": FORMAT,
        "machine": facts,
        "seconds": context.seconds,
        "small": context.small,
        "results": [asdict(row) for row in rows],
    }
    write_text(file, json.dumps(found, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help=f"which, separated by commas ({', '.join(PARTS)})")
    parser.add_argument("--seconds", type=seconds, default=20.0, help="for each comparison (20)")
    parser.add_argument("--device", type=device, default="cpu", help="auto, cpu, cuda, ... (cpu)")
    parser.add_argument("--threads", type=several, help="of torch on the CPU (its own choice)")
    parser.add_argument("--small", action="store_true", help="tiny networks and two rounds: a trial, not a measurement")
    parser.add_argument("--json", type=Path, help="write the results to this file, too, part by part")
    parser.add_argument("--alone", nargs=2, metavar=("CONTENDER", "WORKLOAD"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    parts = [part for part in asked.parts.split(",") if part]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # as a run and the official example do
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        closing(Context(asked.seconds, asked.device, Path(name), asked.small)) as context,
    ):
        if asked.alone:
            print(alone(context, *asked.alone))
        else:
            measured(context, parts, asked.json)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
