"""Processes of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ganzoo.api import Job, Launcher, Outcome, Work

_PAUSE = 0.05
"""Seconds between two looks at what runs."""


class LocalLauncher(Launcher):
    """Keeps ``jobs`` processes going."""

    @property
    def threads(self) -> int | None:
        """An equal share of the cores; one job alone gets what torch chooses."""
        jobs: int = self.config.jobs
        return None if jobs == 1 else self.share_of_cores(jobs)

    def launch(self, jobs: Iterator[Job], stop: Callable[[], int]) -> Iterator[Outcome]:
        """See :class:`ganzoo.api.Launcher`."""
        running: list[Work] = []
        try:
            yield from self._launch(running, jobs, stop)
        finally:  # what ends this before its time must not leave them without anybody who hears signals
            for work in running:
                work.stop()
            while any(work.poll() is None for work in running):
                time.sleep(_PAUSE)

    def _launch(self, running: list[Work], jobs: Iterator[Job], stop: Callable[[], int]) -> Iterator[Outcome]:
        more = True
        while more or running:
            if stop():
                more = False
                for work in running:
                    work.stop()
            while more and len(running) < self.config.jobs and not stop():
                job = next(jobs, None)
                if job is None:
                    more = False
                else:
                    running.append(Work(job))
            time.sleep(_PAUSE)
            for work in list(running):
                outcome = work.poll()
                if outcome is not None:
                    running.remove(work)
                    yield outcome
