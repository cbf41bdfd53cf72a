"""Many images: the second start beside the first, a prepared copy, and what streaming costs.

The caches and the copies are the bench's own. What a first start does is done once only, so it is measured once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from ganzoo.data import DataStream
from ganzoo.registry import build, registry
from measure.context import Context
from measure.startup import LEAVE
from measure.timing import Result, Turn, Work

COUNT: Final = 100_000
SIDE: Final = 64
BATCH: Final = 64
ROUNDS: Final = 3
_CACHE: Final = "GANZOO_CACHE"
_WATCH: Final = """
import subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
if sys.platform != "win32":
    import resource
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A small process in between: what a process has used counts for those that it starts."""
_SHARD: Final = 16
"""Megabytes of a file of the copy in many."""


def images(context: Context) -> Iterator[Result]:
    """Starts of runs on a folder, on its copy, and streamed; then batches, and opening, side by side."""
    count = 300 if context.small else COUNT
    source = context.folder / "images"
    make(source, count)
    title, rounds = f"{count:,} PNGs of {SIDE}x{SIDE}, to the first step", 1 if context.small else ROUNDS
    with _cache(context, "stream"):
        yield from _starts(f"streamed, {title}", _run(context, source, "stream"), rounds)
        packed = pack(source)
        yield from _starts(f"streamed from a zip, {title}", _run(context, packed, "stream"), rounds)
        packed.unlink()
    with _cache(context, "hold"):
        yield from _starts(f"in memory, {title}", _run(context, source, "hold"), rounds)
        copies = {"in one file": context.folder / "one", "in many files": context.folder / "many"}
        rows = [
            _once(f"ganzoo data prepare, {name}", "whole command", ("data", "prepare", str(source), str(out), *more))
            for (name, out), more in zip(copies.items(), ((), ("--shard-size", str(_SHARD))), strict=True)
        ]
        for row in rows:
            row.figures["images_per_s"] = count / row.figures["s"]
        yield from rows
        yield from context.compare("opening", {name: _opening(path) for name, path in copies.items()})
        batches: dict[str, Work | Turn] = {"in memory": _batches(context, "folder", path=str(source), memory="hold")}
        batches |= {f"a copy {name}": _batches(context, "prepared", path=str(path)) for name, path in copies.items()}
        for workers in (0, 1, 2):
            stream = _batches(context, "folder", path=str(source), memory="stream", workers=workers)
            batches[f"streamed by {workers} processes" if workers else "streamed by threads"] = stream
        yield from context.compare(f"a batch of {BATCH}", batches)


@contextmanager
def _cache(context: Context, name: str) -> Iterator[None]:
    """A cache of its own, so that a first start is one."""
    before = os.environ.get(_CACHE)
    os.environ[_CACHE] = str(context.folder / "caches" / name)
    try:
        yield
    finally:
        del os.environ[_CACHE]
        if before is not None:
            os.environ[_CACHE] = before


def make(folder: Path, count: int) -> None:
    """PNGs in ten folders, with some structure, as pictures have."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / str(number % 10) / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)


def pack(folder: Path) -> Path:
    """A zip of the images, beside their folder; they are packed by themselves already."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


def _run(context: Context, source: Path, memory: str) -> tuple[str, ...]:
    """The words of a run that leaves after its first step; narrow networks, so that it is the data that count."""
    narrow = ("--gen.width", "8", "--disc.width", "8", "--device", str(context.device))
    out = ("--out", str(context.folder / "started"), "-p", str(LEAVE))
    return "run", "--data", str(source), "--data.memory", memory, *narrow, *out


def _starts(title: str, words: tuple[str, ...], rounds: int) -> Iterator[Result]:
    """The first start, and the median of some that follow it."""
    first = _once(title, "first start", words)
    seconds = sorted((_once(title, "second start", words) for _ in range(rounds)), key=lambda row: row.figures["s"])
    yield first
    low, second, high = seconds[0], seconds[rounds // 2], seconds[-1]
    second.low, second.ratio, second.high = (row.figures["s"] / first.figures["s"] for row in (low, second, high))
    second.base, second.rounds = first.contender, rounds
    yield second


def _once(title: str, name: str, words: tuple[str, ...]) -> Result:
    """One process of the command line, with its peak of memory where the system tells it.

    What the one before has written is on the disk by then: a second start is no race with the end of the first.
    """
    if hasattr(os, "sync"):
        os.sync()
    begun = time.perf_counter()
    figures: dict[str, float] = {}
    command = [sys.executable, "-m", "ganzoo", *words]
    done = subprocess.run([sys.executable, "-I", "-c", _WATCH, *command], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"ganzoo {' '.join(words)} failed with {done.returncode}: {done.stderr[-2000:]}")
    if done.stdout.strip():
        figures["peak_mb"] = int(done.stdout) / (1024 if sys.platform == "linux" else 1024**2)
    return Result(title, name, name, 1e3 * seconds, 1.0, 1.0, 1.0, 1, {"s": seconds, **figures})


def _dataset(name: str, **options: Any) -> Any:
    choice = registry().choose("dataset", name, options)
    spec = choice.component.spec
    assert spec is not None
    return build(choice, spec(choice.config))


def _opening(copy: Path) -> Work:
    """To open a copy, again and again."""

    def work(n: int) -> None:
        for _ in range(n):
            _dataset("prepared", path=str(copy))

    return work


def _batches(context: Context, name: str, **options: Any) -> Work:
    """Batches of a data set, one after the other; none are decoded ahead in the turns of others.

    Of images in memory and of copies, the first epoch is not timed: it is then that pages are mapped.
    """
    dataset = _dataset(name, **options)
    stream = DataStream(dataset, BATCH, 0)
    decoders = getattr(dataset, "decoders", None)
    if decoders is None:
        for _ in range(dataset.length // BATCH):
            stream.next()
    else:
        context.at_close.append(decoders.close)

    def work(n: int) -> None:
        for _ in range(n):
            stream.next()
        stream._give_up()

    return work
