"""Where the runs of a sweep are computed: jobs, and the contract of launchers. Free of torch.

A job is a few commands, one after the other, that write into a folder which every machine that takes part can see. A
launcher only starts them, hands a request to stop on to them, and tells how each ended.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from ganzoo import processes
from ganzoo.alive import lives, started
from ganzoo.errors import GanzooError
from ganzoo.files import write_text

STOPPED: Final = frozenset({128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM})
"""Exit codes of a command that left because it was asked to."""
_KEPT: Final = 8192
"""Bytes of the end of a log in which the last word of a command is looked for."""


@dataclass(frozen=True)
class Job:
    """What a launcher runs.

    Attributes:
        name: of the job, unique in its sweep.
        commands: each a program with its arguments; the next one is started if the one before ended with 0.
        log: file that gets all they print.
        cwd: folder in which they run.
        env: variables over those of the process that starts them.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    log: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def process_file(self) -> Path:
        """Tells which process on which machine works on the job, as long as one does."""
        return self.log.with_suffix(".process")


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: the job.
        code: exit code of the last command that was started; 0 only if all of them ended with it.
        seconds: from the start of the first command.
        sentence: the last that was heard of it, if the code is not 0.
        stopped: whether it left because it was asked to, so that it can be continued.
        done: how many of the commands ended with 0.
    """

    job: Job
    code: int
    seconds: float
    sentence: str = ""
    stopped: bool = False
    done: int = 0


class Launcher(ABC):
    """Runs jobs somewhere. Built as ``Target(config, None)``: a launcher has no task.

    Args:
        config: its options.
        spec: always None.
    """

    def __init__(self, config: Any, spec: None = None) -> None:
        self.config = config

    @property
    @abstractmethod
    def threads(self) -> int | None:
        """How many threads a job should use, or None to leave it to torch."""

    @staticmethod
    def share_of_cores(jobs: int) -> int:
        """Threads of each of so many jobs on this machine: an equal share of the cores that they may use, or one."""
        return processes.threads_each(jobs)

    @abstractmethod
    def launch(self, jobs: Iterator[Job], stop: Callable[[], int]) -> Iterator[Outcome]:
        """Run all jobs and yield the outcome of each as it ends.

        Take the next job only when it can start at once: taking it claims it, and others work on the same sweep.

        Args:
            jobs: what to run.
            stop: asked several times a second; once it is the number of a signal, take no more jobs, ask those that
                run to save and leave, wait for them, and yield their outcomes.

        Raises:
            MissingError: what it needs is not on this machine.
        """


class Work:
    """A job in progress on this machine; a launcher asks it now and then with :meth:`poll`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._left = list(job.commands)
        self._started = time.monotonic()
        self._asked = False
        with suppress(OSError):
            job.log.unlink(missing_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._failed = self._next()

    def poll(self) -> Outcome | None:
        """How it ended, or None while it runs. Call it again only as long as it is None."""
        if self._failed:
            return self._outcome(1, self._failed)
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return None
        if code == 0 and self._left and not self._asked:
            self._failed = self._next()
            return None
        if code == 0 and self._left:
            return self._outcome(128 + signal.SIGTERM, "Stopped between two of its commands.")
        return self._outcome(code, "" if code == 0 else last_word(self.job.log))

    def stop(self) -> None:
        """Ask it to save and leave; asking again changes nothing."""
        if not self._asked and self._process is not None:
            self._asked = True
            with suppress(OSError):
                self._process.terminate()

    def _next(self) -> str:
        """Start the next command; what went wrong in a sentence, empty if nothing."""
        command = self._left.pop(0)
        try:
            self.job.log.parent.mkdir(parents=True, exist_ok=True)
            with self.job.log.open("ab") as log:
                # A group of its own: Ctrl-C at the terminal must reach it once, through us, because a run that hears
                # a second signal leaves without saving.
                self._process = subprocess.Popen(
                    command,
                    cwd=self.job.cwd,
                    env={**processes.apart(), **self.job.env},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    **_APART,
                )
        except OSError as err:
            return f"{command[0]} cannot be started with the log {self.job.log}: {err.strerror or err}."
        pid = self._process.pid
        note = json.dumps({"pid": pid, "started": started(pid), "host": platform.node()})
        with suppress(GanzooError):  # without the note it runs as well
            write_text(self.job.process_file, note, durable=False)
        return ""

    def _outcome(self, code: int, sentence: str) -> Outcome:
        with suppress(OSError):
            self.job.process_file.unlink(missing_ok=True)
        stopped = self._asked and (code in STOPPED or code > 128)
        seconds, done = time.monotonic() - self._started, len(self.job.commands) - len(self._left) - bool(code)
        return Outcome(self.job, code if code >= 0 else 128 - code, seconds, sentence, stopped, done)


_Flags = Literal["start_new_session", "creationflags"]
_APART: Final[dict[_Flags, Any]] = (
    {"creationflags": 0x00000200} if os.name == "nt" else {"start_new_session": True}  # CREATE_NEW_PROCESS_GROUP
)


def last_word(log: Path) -> str:
    """The sentence with which a command of ours failed, or the last line that it printed."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _KEPT))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "It left no log."
    said = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix("Error: ") for line in said if line.startswith("Error: ")]
    return (errors or said or ["It said nothing."])[-1]


def still_runs(process_file: Path) -> bool:
    """Whether the process that a file tells of is alive on this machine; of other machines nothing is known."""
    try:
        note = json.loads(process_file.read_text(encoding="utf-8"))
        return bool(note["host"] == platform.node()) and lives(int(note["pid"]), note.get("started"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


__all__ = ["Job", "Launcher", "Outcome", "Work", "last_word", "still_runs"]
