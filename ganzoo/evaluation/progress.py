"""How an evaluation tells how far it is, to whoever looks."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int], None]
"""Called with how many more samples are done."""
Stage = Callable[[str, int], Advance]
"""Begins a stage of the work: its name and how many samples it has."""


def silent(_name: str, _total: int) -> Advance:
    """Nobody looks."""
    return lambda _: None
