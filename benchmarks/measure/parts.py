"""The parts of the bench, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from measure.choices import convolutions, critic
from measure.context import Context
from measure.growth import sizes, unrolling
from measure.images import images
from measure.loops import overhead, precision, tutorial, zoo
from measure.memory import memory
from measure.names import PART_NAMES
from measure.peak import peak, pipeline
from measure.processes import processes
from measure.startup import first_step, start_up
from measure.timing import Result

_ALL = (
    start_up,
    first_step,
    overhead,
    tutorial,
    pipeline,
    peak,
    precision,
    critic,
    convolutions,
    zoo,
    unrolling,
    sizes,
    processes,
    memory,
    images,
)
PARTS: Final[dict[str, Callable[[Context], Iterator[Result]]]] = dict(zip(PART_NAMES, _ALL, strict=True))
