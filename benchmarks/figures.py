"""Tables of what was measured, as lines of Markdown, and whether it is what the project promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tutorials.names import SCRIPT_NAMES

Row = Mapping[str, Any]
Cell = Callable[[Row], str]


def number(key: str, digits: int = 2, factor: float = 1.0) -> Cell:
    """A cell of a row's own value or, after ``figures.``, of one of its further figures."""

    def cell(row: Row) -> str:
        source, name = (row["figures"], key.removeprefix("figures.")) if key.startswith("figures.") else (row, key)
        value = source.get(name)
        return "" if value is None else f"{factor * value:,.{digits}f}"

    return cell


def quartiles(row: Row) -> str:
    """The spread of the ratio over the rounds."""
    return "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"


def speed_up(row: Row) -> str:
    """How many times faster than the base."""
    return "" if not row["ratio"] else f"{1 / row['ratio']:.2f}x"


def speed_ups(row: Row) -> str:
    """The spread of how many times faster over the rounds."""
    return "" if not row["low"] else f"{1 / row['high']:.2f}x to {1 / row['low']:.2f}x"


MS: Final = ("ms", number("milliseconds", 3))
RATIO: Final = ("time by the first's", number("ratio", 3))
SPREAD: Final = ("quartiles", quartiles)
SPEED_UP: Final = (("speed-up", speed_up), ("quartiles", speed_ups))
COLUMNS: Final[dict[str, tuple[tuple[str, Cell], ...]]] = {
    "tutorial": (
        ("ms a step", MS[1]),
        ("images/s", number("figures.images_per_s", 0)),
        *SPEED_UP,
    ),
    "peak": (
        ("ms", MS[1]),
        ("GFLOP", number("figures.gflop")),
        ("GFLOP/s", number("figures.gflop_per_s", 1)),
        ("share of the peak, %", number("figures.share_of_peak", 1, 100)),
        ("time in products, %", number("figures.products_share", 1, 100)),
        ("share of the peak within them, %", number("figures.products_of_peak", 1, 100)),
    ),
    "precision": (("ms a step", MS[1]), *SPEED_UP),
    "critic": (("ms a step", MS[1]), *SPEED_UP),
    "convolutions": (MS, RATIO, SPREAD, ("products by matrices", number("figures.products", 0))),
    "unrolled": (("ms a step", MS[1]), RATIO, ("peak memory, MB", number("figures.peak_mb"))),
    "sizes": (
        ("ms a step", MS[1]),
        ("GFLOP by formula", number("figures.formula_gflop", 3)),
        ("GFLOP counted", number("figures.gflop", 3)),
        ("operations by the first's", number("figures.times_the_operations")),
        ("time by the first's", number("ratio")),
        ("GFLOP/s", number("figures.gflop_per_s", 1)),
    ),
    "processes": (
        ("ms a step", MS[1]),
        ("images/s", number("figures.images_per_s", 0)),
        ("throughput by the first's", number("figures.gain")),
    ),
    "images": (
        MS,
        RATIO,
        ("peak memory, MB", number("figures.peak_mb", 0)),
        ("images/s", number("figures.images_per_s", 0)),
    ),
    "memory": (
        ("peak over the imports, MB", number("figures.peak_over_imports_mb", 0)),
        ("imports, MB", number("figures.imports_mb", 0)),
        ("on the device, MB", number("figures.peak_on_device_mb", 0)),
    ),
}
"""What a part's tables tell beside the contender; others tell time, ratio and spread."""


def name_of(machine: Mapping[str, Any]) -> str:
    """A machine in words."""
    if "device_name" in machine:
        return f"{machine['device_name']}, torch {machine['torch']}"
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return f"{machine['cpu']} ({machine['capability']}), {threads}, torch {machine['torch']}"


def tables(part: str, measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The tables of a part, for each machine that measured it."""
    found = [each for each in measured if any(row["part"] == part for row in each["results"])]
    if not found:
        yield "Not measured yet."
    for i, each in enumerate(found):
        yield from ["", f"On {name_of(each['machine'])}:"] if i else [f"On {name_of(each['machine'])}:"]
        rows = [row for row in each["results"] if row["part"] == part]
        for title in dict.fromkeys(row["comparison"] for row in rows):
            yield ""
            yield from table(title, [row for row in rows if row["comparison"] == title], part)


def table(title: str, rows: Sequence[Row], part: str) -> Iterator[str]:
    """One comparison; what has no numbers stands below it."""
    columns = COLUMNS.get(part, (MS, RATIO, SPREAD))
    shown = [row for row in rows if row["milliseconds"] is not None or part == "memory"]
    columns = tuple(column for column in columns if any(column[1](row) for row in shown))
    if shown:
        yield f"| {title} | " + " | ".join(head for head, _ in columns) + " |"
        yield "| --- |" + " ---: |" * len(columns)
        for row in shown:
            yield f"| {row['contender']} | " + " | ".join(cell(row) for _, cell in columns) + " |"
    for row in rows:
        if row not in shown:
            yield from ["", f"{title}, {row['contender']}: {row['note']}."]
    notes = list(dict.fromkeys(note for row in shown for note in row["note"].split("; ") if note))
    if notes:
        yield from ["", f"({'; '.join(notes)})"]


def quality_tables(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Scores after some time, for each file of ``quality.py``."""
    if not found:
        yield "Not measured yet."
    for each in found:
        asked = each["asked"]
        yield f"{asked['data']}, {asked['seconds']:g} s of training, on {name_of(each['machine'])}:"
        yield ""
        yield "| contender | FID[digit-cnn] | std | by the best script's | steps | seeds |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: |"
        for row in each["table"]:
            deviation = "" if row["std"] is None else f"{row['std']:.3f}"
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
            cells = (f"{row['contender']}: {row['what']}", f"{row['mean']:.3f}", deviation, ratio)
            yield "| " + " | ".join(cells) + f" | {row['steps']:,} | {row['seeds']} |"
        yield ""
        yield from _elsewhere(each["table"])


def _elsewhere(table: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Which seeds of which contenders another machine trained."""
    which: dict[str, list[str]] = {}
    for row in table:
        for seed, machine in row["elsewhere"]:
            which.setdefault(name_of(machine), []).append(f"{row['contender']} with seed {seed}")
    for name, those in which.items():
        yield from [f"Trained on another machine, {name}: {', '.join(those)}.", ""]


@dataclass(frozen=True)
class Goal:
    """Something promised, and where the number is found.

    Attributes:
        words: the promise.
        part, comparison, contender: the row; a comparison is found by how it begins.
        value: the number of that row.
        limit: that it may reach.
        least: whether the limit is the least it must be, else the most.
        unit: after the number.
    """

    words: str
    part: str
    comparison: str
    contender: str
    value: Callable[[Row], float | None]
    limit: float
    least: bool
    unit: str = "x"


def _speed(row: Row) -> float | None:
    return 1 / row["ratio"] if row["ratio"] else None


def _figure(name: str, factor: float = 1.0) -> Callable[[Row], float | None]:
    return lambda row: factor * row["figures"][name] if name in row["figures"] else None


def _own(name: str, factor: float = 1.0) -> Callable[[Row], float | None]:
    return lambda row: None if row[name] is None else factor * row[name]


_PEAK, _DATA = _figure("share_of_peak", 100), _figure("share_of_step", 100)
_D64, _MLP, _D28 = "DCGAN 64x64x3", "script's MLP 28x28", "DCGAN 28x28"
_NETS = f"{_D64}, width 64, networks"
GOALS: Final = (
    Goal(
        "DCGAN 64x64x3, fp32, by the tutorial's networks",
        "tutorial",
        _NETS,
        "ganzoo fp32",
        _speed,
        1.1,
        True,
    ),
    Goal(
        "DCGAN 64x64x3, bf16, by the tutorial's networks",
        "tutorial",
        _NETS,
        "ganzoo bf16",
        _speed,
        2.1,
        True,
    ),
    Goal(
        "DCGAN 64x64x3, fp32, share of the peak",
        "peak",
        "share of the peak, fp32",
        _D64,
        _PEAK,
        85,
        True,
        " %",
    ),
    Goal(
        "DCGAN 64x64x3, bf16, share of the peak",
        "peak",
        "share of the peak, bf16",
        _D64,
        _PEAK,
        85,
        True,
        " %",
    ),
    Goal("MLP GAN 28x28, fp32, end to end", "tutorial", f"{_MLP}, end", "ganzoo fp32", _speed, 2.3, True),
    Goal("MLP GAN 28x28, bf16, end to end", "tutorial", f"{_MLP}, end", "ganzoo bf16", _speed, 3.2, True),
    Goal("DCGAN 28x28, fp32, end to end", "tutorial", f"{_D28}, width 32, end", "ganzoo fp32", _speed, 1.3, True),
    Goal("DCGAN 28x28, bf16, end to end", "tutorial", f"{_D28}, width 32, end", "ganzoo bf16", _speed, 1.7, True),
    Goal(
        "Data of DCGAN 64x64x3, share of a step",
        "pipeline",
        f"data of {_D64}",
        "its data",
        _DATA,
        3,
        False,
        " %",
    ),
    Goal(
        "Data of MLP 28x28, share of a step",
        "pipeline",
        f"data of {_MLP}",
        "its data",
        _DATA,
        3,
        False,
        " %",
    ),
    Goal(
        "Data of DCGAN 28x28, share of a step",
        "pipeline",
        f"data of {_D28}",
        "its data",
        _DATA,
        3,
        False,
        " %",
    ),
    Goal("DCGAN 32x32 by a bare loop", "overhead", "DCGAN 32x32", "ganzoo", _own("ratio"), 1.03, False),
    Goal("MLP on the ring by a bare loop", "overhead", "MLP on the ring", "ganzoo", _own("ratio"), 1.1, False),
    Goal("`ganzoo --help`", "start-up", "start-up", "ganzoo --help", _own("milliseconds"), 150, False, " ms"),
    Goal("`ganzoo --help` by a bare import of click", "start-up", "start-up", "ganzoo --help", _own("ratio"), 4, False),
    Goal("Second start on many images", "images", "in memory", "second start", _own("ratio"), 0.1, False),
    Goal("Second start on many images, streamed", "images", "streamed,", "second start", _own("ratio"), 0.1, False),
    Goal("Second start, streamed from a zip", "images", "streamed from", "second start", _own("ratio"), 0.1, False),
    Goal("Opening a copy of them", "images", "opening", "in one", _own("milliseconds"), 10, False, " ms"),
    Goal("First step on digits", "first-step", "time to", "ganzoo run", _own("milliseconds", 1e-3), 5, False, " s"),
)
"""What must hold on the machine that measures. The goals of quality are told by :func:`goals_of_quality`."""


def goals(measured: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Promise, limit, number and verdict, for one machine and what it measured."""
    parts = {row["part"] for row in measured["results"]}
    for goal in GOALS:
        if goal.part not in parts:
            continue
        row = next(
            (
                row
                for row in measured["results"]
                if row["part"] == goal.part
                and row["comparison"].startswith(goal.comparison)
                and row["contender"].startswith(goal.contender)
                and (goal.contender != "ganzoo" or row["contender"] == "ganzoo")
            ),
            None,
        )
        value = None if row is None else goal.value(row)
        limit = f"at {'least' if goal.least else 'most'} {goal.limit:g}{goal.unit}"
        if value is None:
            yield goal.words, limit, "", "not measured"
        else:
            met = value >= goal.limit if goal.least else value <= goal.limit
            yield goal.words, limit, f"{value:.3g}{goal.unit}", "met" if met else "missed"


def goals_of_quality(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """The same for scores: ours against the best script's."""
    asked = found["asked"]
    for row in found["table"]:
        if row["contender"] not in SCRIPT_NAMES and row["ratio"] is not None:
            words = f"FID of {asked['data']} after {asked['seconds']:g} s, {row['contender']}, by the best script's"
            yield words, "at most 0.333", f"{row['ratio']:.3f}", "met" if row["ratio"] <= 1 / 3 else "missed"


def goal_tables(measured: Sequence[Mapping[str, Any]], quality: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """All promises with their verdicts."""
    if not measured and not quality:
        yield "Not measured yet."
    for machine, rows in [
        *((each["machine"], list(goals(each))) for each in measured),
        *((each["machine"], list(goals_of_quality(each))) for each in quality),
    ]:
        if not rows:
            continue
        yield f"On {name_of(machine)}:"
        yield ""
        yield "| | promised | measured | |"
        yield "| --- | ---: | ---: | --- |"
        yield from (f"| {words} | {limit} | {value} | {verdict} |" for words, limit, value, verdict in rows)
        yield ""
