"""Where output goes: data to standard output, status to standard error, JSON past rich.

Names in it may come from strangers, so what a terminal would obey is shown as its escape.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ganzoo.errors import GanzooError, of_a_path, of_the_machine, printable

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH: Final = 1000
"""Where nobody looks at a terminal, lines are as long as their content: wrapping would break paths."""


def console(*, stderr: bool = False) -> Console:
    """The one way to get a console; it knows about ``NO_COLOR``, the encoding and pipes."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, wrap: Collection[str] = ()) -> None:
    """Print a table to standard output; the columns in ``wrap`` make room for the others."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold", no_wrap=column not in wrap)
    for row in rows:
        grid.add_row(*map(printable, row))
    console().print(grid)


def say(text: str = "") -> None:
    """A line of data."""
    click.echo(printable(text, keep="\n"))


def status(text: str) -> None:
    """A line about what happens, not part of the result."""
    click.echo(printable(text, keep="\n"), err=True)


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
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2))


class LogHandler(logging.Handler):
    """Hands the log records of ganzoo to a function that prints a line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(printable(f"{record.levelname.capitalize()}: {record.getMessage()}"))
