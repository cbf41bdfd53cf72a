"""Start-up of the command line, and the time to the first step of training, each a process from start to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from measure.context import Context
from measure.timing import Result, Turn, Work, process

LEAVE = Path(__file__).with_name("leave.py")


def start_up(context: Context) -> Iterator[Result]:
    """``ganzoo --help`` and what needs no torch, against the import of click alone."""
    contenders: dict[str, Work | Turn] = {
        "import click": process("-c", "import click"),
        "ganzoo --help": process("-m", "ganzoo", "--help"),
        "ganzoo run --help": process("-m", "ganzoo", "run", "--help"),
        "ganzoo list": process("-m", "ganzoo", "list"),
    }
    yield from context.compare("start-up", contenders)


def first_step(context: Context) -> Iterator[Result]:
    """From the start of ``ganzoo run`` to the end of its first step on digits, beside the import of torch alone."""
    out = str(context.folder / "first")
    device = ("--device", str(context.device))
    contenders: dict[str, Work | Turn] = {
        "import torch": process("-c", "import torch"),
        "ganzoo run, to step 1": process("-m", "ganzoo", "run", "-p", str(LEAVE), "--out", out, *device),
    }
    yield from context.compare("time to the first step, digits", contenders)
