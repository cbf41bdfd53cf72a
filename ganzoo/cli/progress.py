"""What a person sees of long work: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ganzoo.evaluation.progress import Advance, Stage

_QUIET_SECONDS: Final = 20.0


@contextmanager
def progress_for(console: Console) -> Iterator[Stage]:
    """Stages shown on ``console`` for as long as the context lasts."""
    if not console.is_terminal:
        yield lambda name, total: _lines(console, name, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:

        def begin(name: str, total: int) -> Advance:
            task = bars.add_task(name, total=total)
            return lambda more: bars.advance(task, more)

        yield begin


def _lines(console: Console, name: str, total: int) -> Advance:
    begun = said = time.monotonic()
    done = 0

    def advance(more: int) -> None:
        nonlocal done, said
        done += more
        now = time.monotonic()
        if done and done < total and now - said >= _QUIET_SECONDS:
            said = now
            left = (now - begun) * (total - done) / done
            console.print(f"{name}: {done} of {total}, about {left:.0f} s left.", soft_wrap=True)

    return advance
