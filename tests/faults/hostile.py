"""Hostile files by the thousand: whatever a stranger's file holds, it is read or refused in a sentence.

``python tests/faults/hostile.py --configs 10000 --headers 10000 --images 5000`` is the long form; ``test_hostile.py``
runs a few hundred of each. Each case has 5 s of processor time; no case may end in anything but a
:class:`~ganzoo.errors.GanzooError`, take more than 1 GiB over the baseline, or write outside of its folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest import mock

sys.path.append(str(Path(__file__).parents[1]))

from faults.strangers import Trial, bomb_trials, config_trials, image_trials, weight_trials

from ganzoo.errors import GanzooError, printable
from ganzoo.registry import registry

SECONDS: Final = 5.0
MEMORY: Final = 2**30
_WRITES: Final = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_ACTS: Final = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "pickle.find_class"}


class Hang(BaseException):
    """A case took more than its time."""


@dataclass
class Watch:
    """Hears what the process writes and starts while a case runs; an audit hook cannot be taken off again."""

    folder: Path | None = None
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in _ACTS:
            self.seen.append(event)
        writes = event in _WRITES
        if event == "open" and isinstance(args[0], (str, bytes)):
            flags = args[2] if isinstance(args[2], int) else 0
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        if writes:
            for name in (arg for arg in args[:2] if isinstance(arg, (str, bytes, Path))):
                if event == "open" and name is not args[0]:
                    continue
                base = ""
                if event in ("os.remove", "os.rmdir", "os.mkdir") and isinstance(args[-1], int) and args[-1] >= 0:
                    base = os.readlink(f"/proc/self/fd/{args[-1]}")  # noqa: PTH115 - named relative to an open folder
                path = Path(os.path.realpath(os.path.join(base, os.fsdecode(name))))  # noqa: PTH118
                if not path.is_relative_to(self.folder) and path != Path(os.devnull):
                    self.seen.append(f"{event} {path}")


WATCH: Final = Watch()
sys.addaudithook(WATCH)


@dataclass
class Report:
    """What became of the cases of one kind."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    grown: int = 0

    def __str__(self) -> str:
        count = sum(self.outcomes.values())
        words = ", ".join(f"{number} {outcome}" for outcome, number in sorted(self.outcomes.items()))
        return (
            f"{self.kind}: {count} cases, {words}; slowest {self.slowest:.2f} s of processor time, "
            f"{self.grown / 2**20:.0f} MiB over the baseline, {len(self.failures)} failures"
        )


def peak() -> int:
    """The most memory that this process had at any time, in bytes; 0 where nothing tells."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_cases(kind: str, trials: dict[str, Trial], count: int, seed: int, folder: Path, *, base: int) -> Report:
    """``count`` cases, the kinds of trial in turn; what fails is kept with the seed that makes it again."""
    with mock.patch.dict(os.environ, GANZOO_CACHE=str(folder / "cache")):  # the one other place that is written to
        return _run_cases(kind, trials, count, seed, folder, base=base)


def _run_cases(kind: str, trials: dict[str, Trial], count: int, seed: int, folder: Path, *, base: int) -> Report:
    report = Report(kind)
    folder.mkdir(parents=True, exist_ok=True)
    names = list(trials)
    for name in names if count > len(names) else ():  # imports and caches belong to the baseline
        with contextlib.suppress(GanzooError):
            trials[name](Random(0), folder)
    for index in range(count):
        name = names[index % len(names)]
        before = peak()
        outcome, seconds = _one(trials[name], f"{seed}/{kind}/{name}/{index}", folder)
        report.slowest = max(report.slowest, seconds)
        report.grown = max(report.grown, peak() - base)
        if peak() - base > MEMORY and peak() > before:
            outcome = f"failed: {(peak() - base) / 2**20:.0f} MiB over the baseline"
        if outcome.startswith("failed"):
            report.failures.append(f"{kind} {name} {index} (seed {seed}): {outcome}")
        report.outcomes[outcome.partition(":")[0]] += 1
    return report


def _one(trial: Trial, seed: str, folder: Path) -> tuple[str, float]:
    WATCH.folder, WATCH.seen = folder.resolve(), []
    start = time.process_time()
    screen = io.StringIO()
    try:
        with _limited(), warnings.catch_warnings(), contextlib.redirect_stderr(screen):
            warnings.simplefilter("error")
            trial(Random(seed), folder)
        outcome = "read"
    except GanzooError as err:
        text = str(err)
        sound = text.isprintable() or printable(text) == text
        outcome = "refused" if sound and text and len(text) < 3000 else f"failed: no sentence: {text[:200]!r}"
    except Hang:
        outcome = f"failed: more than {SECONDS:g} s\n{traceback.format_exc(limit=-6)}"
    except BaseException as err:
        outcome = f"failed: {type(err).__name__}\n{traceback.format_exc(limit=-8)}"
    finally:
        WATCH.folder = None
    if WATCH.seen:
        outcome = f"failed: it did {', '.join(WATCH.seen[:3])}"
    return outcome, time.process_time() - start


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raises :class:`Hang` when the processor worked too long for us, where there is such a timer."""
    if not hasattr(signal, "ITIMER_PROF"):
        yield
        return

    def stop(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def everything(counts: dict[str, int], seed: int, root: Path) -> Iterator[Report]:
    """A report for each kind of file."""
    registry()
    kinds: dict[str, Callable[[], dict[str, Trial]]] = {
        "configs": config_trials,
        "headers": lambda: weight_trials(root / "sound"),
        "images": image_trials,
        "bombs": bomb_trials,
    }
    for kind, trials in kinds.items():
        if counts[kind]:
            base = peak()
            yield run_cases(kind, trials(), counts[kind], seed, root / kind, base=base)


def main() -> int:
    """Run what is asked for, print the figures, and fail if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    for kind, count in (("configs", 10_000), ("headers", 10_000), ("images", 5_000), ("bombs", 8), ("seed", 0)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    asked = vars(parser.parse_args())
    with contextlib.suppress(ImportError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30,) * 2)  # the machine survives what the figures will tell
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for report in everything(asked, asked["seed"], Path(folder)):
            print(report, flush=True)
            print(*report.failures[:20], sep="\n\n", flush=True)
            failed += len(report.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
