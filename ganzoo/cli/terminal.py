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

from ganzoo.errors import printable

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
