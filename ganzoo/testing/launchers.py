"""Promises of launchers: every job is run, and how it ended is told."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ganzoo.launching import Job, Launcher, Outcome
from ganzoo.registry import build
from ganzoo.testing.subject import Subject

_GOOD: Final = "print('good')"
_BAD: Final = "import sys; print('Error: no such thing.', file=sys.stderr); sys.exit(4)"
_LONG: Final = "import time; print('begun', flush=True); time.sleep(60)"
_REMEDY: Final = "start jobs with ganzoo.api.Work, and yield what its poll() returns"


def runs_jobs_and_tells_how_they_end(subject: Subject) -> None:
    """A job of several commands goes on to the next after a 0 alone; the others tell their code and last sentence."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [_job(folder, "two", _GOOD, _GOOD), _job(folder, "bad", _BAD, _GOOD), _job(folder, "one", _GOOD)]
        ended = {outcome.job.name: outcome for outcome in _launched(subject, iter(jobs), lambda: 0)}
        subject.expect(set(ended) == {"two", "bad", "one"}, f"tells of the jobs {sorted(ended)} of three", _REMEDY)
        told = {name: (outcome.code, outcome.sentence) for name, outcome in ended.items()}
        wanted = {"two": (0, ""), "bad": (4, "no such thing."), "one": (0, "")}
        subject.expect(told == wanted, f"tells {told}, not {wanted}", _REMEDY)
        said = (folder / "two.log").read_text(encoding="utf-8").split()
        subject.expect(said == ["good", "good"], f"wrote the log {said}, not of both commands", _REMEDY)


def stops_when_it_is_asked(subject: Subject) -> None:
    """A job that runs is asked to leave, no other is begun, and the outcome says that it was stopped."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = folder / "first.log"
        taken: list[str] = []

        def jobs() -> Iterator[Job]:
            for each in ("first", "second", "third"):
                taken.append(each)
                yield _job(folder, each, _LONG)

        def stop() -> int:
            return 15 if begun.is_file() and begun.stat().st_size else 0

        ended = list(_launched(subject, jobs(), stop))
        names = sorted(outcome.job.name for outcome in ended)
        subject.expect(sorted(taken) == names, f"took {taken} and tells of {names}", "yield an outcome for each job")
        going_on = [outcome.job.name for outcome in ended if not outcome.stopped]
        subject.expect(not going_on, f"does not say of {going_on} that it was stopped", _REMEDY)


OF_LAUNCHERS: Final[tuple[Callable[..., None], ...]] = (runs_jobs_and_tells_how_they_end, stops_when_it_is_asked)


def _launched(subject: Subject, jobs: Iterator[Job], stop: Callable[[], int]) -> Iterator[Outcome]:
    launcher: Launcher = build(subject.choice, None)
    return launcher.launch(jobs, stop)


def _job(folder: Path, name: str, *programs: str) -> Job:
    commands = tuple((sys.executable, "-S", "-c", program) for program in programs)
    return Job(name, commands, folder / f"{name}.log", folder)
