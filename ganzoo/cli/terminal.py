"""Where output goes: data to standard output, status to standard error, JSON past rich.

Names in it may come from strangers, so what a terminal would obey is shown as its escape.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from ganzoo import processes
from ganzoo.errors import GanzooError, UsageError, of_a_path, of_the_machine, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LEGIBLE: Final = 20
"""How narrow text that wraps may become."""
_BETWEEN: Final = 3
"""Blanks between the columns of a table."""
_PIPE_WIDTH: Final = 1000
"""Where nobody looks at a terminal, lines are as long as their content: wrapping would break paths."""


def console(*, stderr: bool = False) -> Console:
    """The one way to get a console; it knows about ``NO_COLOR``, the encoding and pipes."""
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            """Go on in silence where nobody reads what is said about the work: it is worth more than the words."""
            if not stderr:
                super().on_broken_pipe()
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Patient(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, wrap: Collection[str] = ()) -> None:
    """Print a table to standard output; the columns in ``wrap`` make room for the others.

    Where that is not enough, each row becomes a block of lines: a number that is cut off is a wrong one.
    """
    from rich.cells import cell_len

    cells = [[*map(printable, row)] for row in rows]
    screen = console()
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    least = sum(min(width, _LEGIBLE) if name in wrap else width for name, width in zip(columns, widths, strict=True))
    if least + _BETWEEN * (len(columns) - 1) <= screen.width:
        screen.print(_grid(columns, cells, wrap))
    elif len(columns) <= 2:  # which would be a block of its own
        screen.print(_grid(columns, cells, columns))
    else:
        for row in cells:
            block = [(name, value) for name, value in zip(columns, row, strict=True) if value]
            names = max(map(cell_len, columns)) > screen.width // 2
            screen.print(_grid(("name", "value"), block, ("name", "value") if names else ("value",), heads=False))
            screen.print()


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]], wrap: Collection[str], *, heads: bool = True) -> Table:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=heads)
    for column in columns:
        grid.add_column(column, overflow="fold", no_wrap=column not in wrap)
    for row in rows:
        grid.add_row(*row)
    return grid


def say(text: str = "") -> None:
    """A line of data."""
    click.echo(printable(text, keep="\n"))


def status(text: str) -> None:
    """A line about what happens, not part of the result; nobody needs to read it."""
    with suppress(OSError):  # nobody reads it, or its disk is full
        click.echo(printable(text, keep="\n"), err=True)


def remark(text: str) -> None:
    """:func:`status` of what each process of a run may meet: the first one speaks for all."""
    with suppress(UsageError):  # the environment names no process; who asks for its place is told of that
        if processes.place().rank:
            return
    status(text)


def trace(err: BaseException) -> None:
    """Print the traceback of an error where ``GANZOO_DEBUG`` asks for it."""
    if os.environ.get("GANZOO_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(err)


def sentence(err: BaseException) -> str:
    """What the user is told of an error: whose fault it is, if that can be found out."""
    if isinstance(err, GanzooError):
        return str(err)
    blame = of_the_machine(err) or _blame(err) or of_a_path(err)
    if blame is not None:
        return f"{printable(blame)} (set GANZOO_DEBUG=1 to see all of it)."
    text = printable(" ".join(str(err).split()))
    said = f"{type(err).__name__}{': ' if text else ''}{text}"
    return f"this should not have happened: {said} (set GANZOO_DEBUG=1 to see where)."


def _blame(err: BaseException) -> str | None:
    """The sentence of a plugin's fault; None if it is ours, or if even that cannot be found out."""
    try:
        from ganzoo.blame import blamed

        return blamed(err)
    except Exception:
        return None


def dump(value: Any) -> None:
    """One JSON document on standard output; NaN and infinity, which JSON does not know, are null there."""
    click.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _LogHandler(logging.Handler):
    """Hands log records to a function that prints a line, each sentence once: a folder may be looked at repeatedly."""

    def __init__(self, write: Callable[[str], None], said: set[str]) -> None:
        super().__init__(logging.INFO)
        self.said = said
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        text = printable(f"{record.levelname.capitalize()}: {record.getMessage()}")
        if text not in self.said:
            self.said.add(text)
            self._write(text)


@contextmanager
def log_to(write: Callable[[str], None]) -> Iterator[None]:
    """Within, ``write`` prints what ganzoo logs, in place of the function that did so outside, which said what it has.

    Python would print it by itself, with all that a terminal obeys.
    """
    log = logging.getLogger("ganzoo")
    outer = [handler for handler in log.handlers if isinstance(handler, _LogHandler)]
    mine = _LogHandler(write, outer[0].said if outer else set())
    for handler in outer:
        log.removeHandler(handler)
    log.addHandler(mine)
    try:
        yield
    finally:
        log.removeHandler(mine)
        for handler in outer:
            log.addHandler(handler)
