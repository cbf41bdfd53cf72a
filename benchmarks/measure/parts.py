"""The parts of the bench, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from measure.context import Context
from measure.growth import sizes, unrolling
from measure.loops import overhead, precision, tutorial, zoo
from measure.memory import memory
from measure.peak import peak, pipeline
from measure.processes import processes
from measure.startup import first_step, start_up
from measure.timing import Result

PARTS: Final[dict[str, Callable[[Context], Iterator[Result]]]] = {
    "start-up": start_up,
    "first-step": first_step,
    "overhead": overhead,
    "tutorial": tutorial,
    "pipeline": pipeline,
    "peak": peak,
    "precision": precision,
    "zoo": zoo,
    "unrolled": unrolling,
    "sizes": sizes,
    "processes": processes,
    "memory": memory,
}
