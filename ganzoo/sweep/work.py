"""A sweep in its folder: what is done, what is left, and the work on it. Free of torch; the cells are processes.

``DIR/sweep.json`` says what was asked for; ``DIR/<cell>/`` is the run of a cell; ``DIR/.cells/`` holds what the sweep
itself keeps of it: ``<cell>.json`` (the settings), ``.log`` (what the run said), ``.claim.N``, ``.done``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from ganzoo import processes
from ganzoo.errors import UsageError
from ganzoo.files import write_text
from ganzoo.launching import STOPPED, Job, Launcher, Outcome, still_runs
from ganzoo.reading import is_unicode
from ganzoo.sweep.claims import Claims
from ganzoo.sweep.grid import Cell

FORMAT: Final = "ganzoo-sweep/1"
FILE: Final = "sweep.json"
FAILED: Final = "failed.json"
_NO_SWEEPS: Final = {"ganzoo-run": "a run", "ganzoo-export": "an export"}
"""Beginning of the format in a ``config.json`` -> what its folder is."""
_KEPT: Final = ("GANZOO_", "PYTHONPATH", "OMP_NUM_THREADS")
"""How the variables begin that a job takes along, to whatever machine it runs on."""

State = Literal["done", "failed", "started", "new"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How the cells are worked on.

    Attributes:
        cells: those of this process that are not refused.
        request: arguments of the evaluation of each finished run; None for no evaluation.
        retry: whether cells that failed before are run again.
        allow_incompatible: passed on to the runs.
        against: path of the real data in full, whatever the request calls them; empty if they have none.
    """

    cells: Sequence[Cell]
    request: Mapping[str, Any] | None = None
    retry: bool = False
    allow_incompatible: bool = False
    against: str = ""


@dataclass
class Tally:
    """What became of the cells, by name."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    """Neither: interrupted, or in the hands of another process."""


class Sweep:
    """The folder of a sweep, and one process's work on it.

    Args:
        folder: made if missing.
        plan: what to do.
        say: hears a sentence whenever a cell ends.
    """

    def __init__(self, folder: Path, plan: Plan, say: Say) -> None:
        self.folder, self.plan, self.say = folder, plan, say
        self._own = folder / ".cells"
        self._failed_before = {cell.name for cell in plan.cells if self._failure(cell.name).is_file()}
        self._tried: set[str] = set()
        self._taken: dict[str, int] = {}  # steps that runs had taken when they were gone on with

    def run(self, launcher: Launcher, stop: Callable[[], int]) -> Tally:
        """Work until every cell is done, has failed, or is another process's; or until ``stop`` names a signal."""
        with Claims(self._own, lambda name: still_runs(self._own / f"{name}.process")) as claims:
            jobs = (with_threads(job, launcher.threads) for job in self._jobs(claims))
            for outcome in launcher.launch(jobs, stop):
                try:
                    self._record(outcome)
                finally:
                    claims.release(outcome.job.name)
        return self.tally()

    def tally(self) -> Tally:
        """What became of the cells so far, whoever worked on them."""
        found = Tally()
        for cell in self.plan.cells:
            state = self.state(cell)
            if state == "done":
                found.done.append(cell.name)
            elif state == "failed":
                found.failed[cell.name] = _read(self._failure(cell.name)).get("sentence", "")
            else:
                found.left.append(cell.name)
        return found

    def state(self, cell: Cell) -> State:
        """What the folder says of a cell."""
        assert cell.config is not None
        run = self.folder / cell.name
        if self._failure(cell.name).is_file():
            failed = _read(self._failure(cell.name))
            # An evaluation that failed may work when it is asked for otherwise, and a training does not.
            return "started" if "evaluation" in failed and failed["evaluation"] != self._request() else "failed"
        if not (run / "config.json").is_file():
            return "new"
        done = _read(self._own / f"{cell.name}.done")
        enough = done.get("steps", -1) >= cell.config.run.steps
        evaluated = self.plan.request is None or done.get("evaluated") == self._request()
        return "done" if enough and evaluated else "started"

    def longer(self) -> dict[str, tuple[int, int]]:
        """Name -> steps taken, and those asked for, of the runs that have taken more than that."""
        steps = {
            cell.name: (_steps(self.folder / cell.name), cell.config.run.steps)
            for cell in self.plan.cells
            if cell.config is not None
        }
        return {name: (taken, asked) for name, (taken, asked) in steps.items() if taken > asked}

    def _jobs(self, claims: Claims) -> Iterator[Job]:
        """The jobs of all cells that are left, each claimed when it is asked for; the others' are looked at again."""
        progress = True
        while progress:
            progress = False
            for cell in self.plan.cells:
                if cell.name in self._tried or not self._is_left(cell) or not claims.take(cell.name):
                    continue
                if not self._is_left(cell):  # somebody did it between our two looks
                    claims.release(cell.name)
                    continue
                progress = True
                self._tried.add(cell.name)
                try:
                    job = self._job(cell)
                except BaseException:
                    claims.release(cell.name)
                    raise
                yield job

    def _is_left(self, cell: Cell) -> bool:
        state = self.state(cell)
        again = self.plan.retry and cell.name in self._failed_before
        return state in ("new", "started") or (state == "failed" and again)

    def _job(self, cell: Cell) -> Job:
        assert cell.config is not None
        run = self.folder / cell.name
        with suppress(FileNotFoundError):
            self._failure(cell.name).unlink()
        self._taken[cell.name] = _steps(run)
        resumed = any((run / "checkpoints").glob("step-*"))
        if run.is_dir() and not resumed:
            shutil.rmtree(run)  # it came to no checkpoint, so that there is nothing to go on from
        settings = self._own / f"{cell.name}.json"
        config = cell.config.replace(out=self.folder, name=cell.name)
        write_text(settings, json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n", durable=False)
        train = [*processes.python(), "-m", "ganzoo", "run", "--config", str(settings), "--quiet"]
        train += ["--resume", str(run)] if resumed else []
        train += ["--allow-incompatible"] if self.plan.allow_incompatible else []
        commands = [tuple(train)]
        if self.plan.request is not None:
            more = {"against": self.plan.against} if self.plan.against else {}
            request = json.dumps({**self.plan.request, **more})
            commands.append((*processes.python(), "-m", "ganzoo.evaluation.cell", str(run), request))
        env = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
        return Job(cell.name, tuple(commands), self._own / f"{cell.name}.log", Path.cwd(), env)

    def _record(self, outcome: Outcome) -> None:
        name, run = outcome.job.name, self.folder / outcome.job.name
        after = f"after {_duration(outcome.seconds)}"
        cell = next(cell for cell in self.plan.cells if cell.name == name)
        assert cell.config is not None
        steps, request = cell.config.run.steps, self._request()
        if outcome.code == 0 and cell.config.run.max_time is not None and self._taken[name] < _steps(run) < steps:
            # Its time was over, or its patience with its scores; in that case going on takes no step, and it is done.
            self.say(f"{name}: left {after} at step {_steps(run)}, before its last; the same command goes on with it.")
        elif outcome.code == 0:
            note = {"steps": steps, "evaluated": request, "seconds": round(outcome.seconds, 1)}
            write_text(self._own / f"{name}.done", json.dumps(note) + "\n")
            self.say(f"{name}: done {after}.")
        elif outcome.stopped or outcome.code in STOPPED:
            self.say(f"{name}: interrupted {after}; the same command goes on with it.")
        else:
            sentence = _killed(outcome.code) or outcome.sentence
            failure = {"format": FORMAT, "sentence": sentence, "exit_code": outcome.code, "log": str(outcome.job.log)}
            if request is not None and (outcome.done or _steps(run) >= steps):  # it was trained to its end
                failure["evaluation"] = request
            write_text(run / FAILED, json.dumps(failure, indent=2) + "\n")
            self.say(f"{name}: failed {after} with exit code {outcome.code}: {sentence}")

    def _failure(self, name: str) -> Path:
        return self.folder / name / FAILED

    def _request(self) -> dict[str, Any] | None:
        return None if self.plan.request is None else dict(self.plan.request)


def with_threads(job: Job, threads: int | None) -> Job:
    """The job with a number of threads, unless the user has set one."""
    if threads is None or "OMP_NUM_THREADS" in job.env:
        return job
    return replace(job, env={**job.env, "OMP_NUM_THREADS": str(threads)})


def refuse_run(folder: Path) -> None:
    """Keep a sweep out of the folder of a run or an export.

    Raises:
        UsageError: it is one.
    """
    kind = str(_read(folder / "config.json").get("format")).partition("/")[0]
    if kind in _NO_SWEEPS and not (folder / FILE).is_file():
        raise UsageError(f"{folder} is {_NO_SWEEPS[kind]}; choose another folder for the sweep with --out.")


def write_sweep(folder: Path, saved: Mapping[str, Any]) -> None:
    """Write ``sweep.json`` if it says something else than before.

    Raises:
        GanzooError: it cannot be written.
    """
    whole = {"format": FORMAT, **saved}
    if _read(folder / FILE) != whole:
        write_text(folder / FILE, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


def read_sweep(folder: Path) -> dict[str, Any]:
    """What ``sweep.json`` says.

    Raises:
        UsageError: there is none, or it is not one of ours.
    """
    file = folder / FILE
    if not file.is_file():
        raise UsageError(f"There is no sweep in {folder}: it has no {FILE}; say what to sweep, such as --seed 0,1,2.")
    saved = _read(file)
    given = [saved.get("axes"), saved.get("base")]
    if saved.get("format") != FORMAT or not all(isinstance(part, dict) for part in given):
        raise UsageError(f"{file} is not what a sweep writes; that has the format {FORMAT!r}.")
    if not any(given):
        raise UsageError(f"{file} sweeps nothing; say what to sweep, such as --seed 0,1,2.")
    for path, values in {**saved["axes"], **saved["base"]}.items():
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            raise UsageError(f"{file} must have a list of texts for {path!r}, not {values!r:.80}; begin it anew.")
    if not isinstance(saved.get("evaluate"), dict | None):
        raise UsageError(f"{file} must have an object or null for 'evaluate', not {saved['evaluate']!r:.80}.")
    return saved


def seen_from(folder: Path, place: Path) -> list[str]:
    """A place as ``sweep.json`` has it: in full, should the sweep be moved alone, and from it, should both be."""
    texts = [str(place)]
    with suppress(ValueError):  # another drive
        texts.append(os.path.relpath(place, os.path.realpath(folder)))
    return [text for text in texts if is_unicode(text)]


def place_known(folder: Path, key: Literal["folder", "start"]) -> Path:
    """A place that a sweep knows: the folder in which it was last asked for, or in which it was begun.

    Of several it is the one that we are in, or else the first that is there. It is where we are if nothing is known.
    """
    texts, here = _read(folder / FILE).get(key), Path.cwd()
    known = []
    for text in texts if isinstance(texts, list) else ():
        with suppress(ValueError):  # no path that this system takes
            known.append(Path(os.path.realpath(folder / str(text))))
    return here if here in known else next((path for path in known if os.access(path / ".", os.X_OK)), here)


def _steps(run: Path) -> int:
    """The steps that a run has taken, by its newest checkpoint."""
    names = [path.name.removeprefix("step-") for path in (run / "checkpoints").glob("step-*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _read(file: Path) -> dict[str, Any]:
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return saved if isinstance(saved, dict) else {}


def _killed(code: int) -> str:
    """A sentence about a process that a signal ended at once; empty if none did."""
    killing = {128 + getattr(signal, name): name for name in ("SIGKILL", "SIGSEGV", "SIGABRT") if hasattr(signal, name)}
    if code not in killing:
        return ""
    hint = "; the machine may have run out of memory" if killing[code] == "SIGKILL" else ""
    return f"It was killed by {killing[code]}{hint}."


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


__all__ = ["FAILED", "FILE", "FORMAT", "Plan", "Sweep", "Tally", "place_known", "read_sweep", "refuse_run"]
__all__ += ["seen_from", "write_sweep"]
