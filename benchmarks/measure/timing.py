"""Contenders that take turns, and what comes out of it.

Machines are shared and clocks drift, so contenders take turns in short rounds, in an order that changes from round to
round; what is reported is the median of the rounds' ratios and the quartiles around it.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

ROUND: Final = 0.25
"""Seconds that a contender's turn should last."""
LEAST: Final = 5
"""Rounds that every comparison has, however slow its contenders are."""

Work = Callable[[int], None]
"""Does ``n`` units of work."""


@dataclass(frozen=True)
class Turn:
    """A contender with something to do before its clock starts.

    Attributes:
        work: does ``n`` units of work, which are timed.
        before: prepares them; not timed.
        seconds: that a turn should last.
    """

    work: Work
    before: Work = lambda _: None
    seconds: float = ROUND


@dataclass
class Result:
    """How one contender compares with the base of its comparison.

    Attributes:
        comparison, contender, base: their names.
        milliseconds: of one unit of work, the median over the rounds; None where nothing was timed.
        ratio: of its time and the base's in the same round, the median; 1 is equal, more is slower.
        low, high: quartiles of that ratio.
        rounds: how many.
        figures: further numbers, by name.
        note: what a reader must know, such as why it was left out.
        part: of the bench; set by who runs the parts.
    """

    comparison: str
    contender: str
    base: str = ""
    milliseconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    note: str = ""
    part: str = ""


def take_turns(contenders: Mapping[str, Work | Turn], seconds: float, least: int = LEAST) -> dict[str, list[float]]:
    """Seconds of one unit of each contender's work, round by round.

    Args:
        contenders: by name.
        seconds: that the rounds may take, once everything is warm.
        least: rounds that there are in any case.
    """
    turns = {key: as_turn(each) for key, each in contenders.items()}
    repeats = {key: _repeats(turn) for key, turn in turns.items()}
    times: dict[str, list[float]] = {key: [] for key in turns}
    order, until = list(turns), time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[order[0]]) < least:
        random.shuffle(order)
        for key in order:
            times[key].append(_timed(turns[key], repeats[key]))
    return times


def as_turn(each: Work | Turn) -> Turn:
    """A contender with nothing to prepare, unless it says so."""
    return each if isinstance(each, Turn) else Turn(each)


def against(name: str, times: Mapping[str, Sequence[float]], base: str | None = None) -> list[Result]:
    """Results of the contenders by the ratio of their times to the base's in the same round; the first is the base."""
    base = base or next(iter(times))
    results = []
    for key, found in times.items():
        ratios = [mine / its for mine, its in zip(found, times[base], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        results.append(Result(name, key, base, 1e3 * statistics.median(found), middle, low, high, len(ratios)))
    return results


def process(*arguments: str, env: Mapping[str, str] | None = None) -> Turn:
    """A contender whose unit of work is a process of this Python from start to end."""

    def work(n: int) -> None:
        for _ in range(n):
            done = subprocess.run(
                [sys.executable, *arguments], capture_output=True, text=True, encoding="utf-8", env=env, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{' '.join(arguments)} failed with {done.returncode}: {done.stderr[-2000:]}")

    return Turn(work, seconds=0.0)


def _timed(turn: Turn, n: int) -> float:
    turn.before(n)
    started = time.perf_counter()
    turn.work(n)
    return (time.perf_counter() - started) / n


def _repeats(turn: Turn) -> int:
    """Warm a contender up, and tell how many units make a turn; slow ones are warm after two."""
    _timed(turn, 1)
    once = _timed(turn, 1)
    if once < turn.seconds / 3:
        _timed(turn, 3)
        once = _timed(turn, 3)
    return max(1, round(turn.seconds / once))
