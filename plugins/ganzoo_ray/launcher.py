"""Tasks of a Ray cluster. Every machine of it must see the sweep's folder and the working folder under one path."""

from __future__ import annotations

import importlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from ganzoo.api import Job, Launcher, MissingError, Outcome, Work

_PAUSE: Final = 0.2
"""Seconds between two looks at what runs."""
_STOP: Final = ".stop"
_LOST: Final = 1


class RayLauncher(Launcher):
    """Keeps as many tasks going as the cluster has cores for."""

    @property
    def threads(self) -> int | None:
        """As many as cores are reserved."""
        return max(1, int(self.config.num_cpus))

    def launch(self, jobs: Iterator[Job], stop: Callable[[], int]) -> Iterator[Outcome]:
        """See :class:`ganzoo.api.Launcher`.

        Raises:
            MissingError: Ray is not installed, or there is no cluster at the address.
        """
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, self.config.address)
        try:
            yield from self._launch(ray, jobs, stop)
        finally:
            if ours:
                ray.shutdown()

    def _launch(self, ray: Any, jobs: Iterator[Job], stop: Callable[[], int]) -> Iterator[Outcome]:
        config = self.config
        task = ray.remote(num_cpus=config.num_cpus, num_gpus=config.num_gpus, max_retries=0)(_work)
        most = config.jobs or max(1, int(ray.cluster_resources().get("CPU", 1) / config.num_cpus))
        running: dict[Any, tuple[Job, float]] = {}
        more, asked = True, False
        while more or running:
            if stop() and not asked:
                more, asked = False, True
                for ref, (job, _) in running.items():
                    _stop_file(job).touch()
                    if not job.process_file.exists():
                        ray.cancel(ref)  # it waits for cores, which may last
            while more and len(running) < most and not stop():
                taken = next(jobs, None)
                if taken is None:
                    more = False
                else:
                    _stop_file(taken).unlink(missing_ok=True)
                    running[task.remote(taken)] = (taken, time.monotonic())
            done, _ = ray.wait(list(running), timeout=_PAUSE) if running else ([], [])
            for ref in done:
                job, since = running.pop(ref)
                _stop_file(job).unlink(missing_ok=True)
                yield _outcome(ray, ref, job, time.monotonic() - since)


def _work(job: Job) -> Outcome:
    """The task: runs on a machine of the cluster, and leaves in good order when the file to stop appears."""
    work = Work(job)
    while True:
        try:
            if _stop_file(job).exists():
                work.stop()
            outcome = work.poll()
            if outcome is not None:
                return outcome
            time.sleep(_PAUSE)
        except KeyboardInterrupt:  # it was cancelled at the moment when it began
            work.stop()


def _outcome(ray: Any, ref: Any, job: Job, seconds: float) -> Outcome:
    """What the task returned; a task that the cluster lost has failed."""
    try:
        outcome: Outcome = ray.get(ref)
    except ray.exceptions.TaskCancelledError:
        return Outcome(job, 128 + signal.SIGINT, seconds, "It was cancelled before it began.", stopped=True)
    except ray.exceptions.RayError as err:
        words = " ".join(str(err).split())
        return Outcome(job, _LOST, seconds, f"Ray lost it ({type(err).__name__}): {words[:300]}")
    return outcome


def _stop_file(job: Job) -> Path:
    return job.log.with_suffix(_STOP)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as err:
        raise MissingError(
            f"The launcher ray needs the package ray, which cannot be imported ({err}): pip install 'ganzoo[ray]'."
        ) from None


def _connect(ray: Any, address: str) -> None:
    # Ray puts in a handler of its own that ends this process at once; ours asks the runs to save first.
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as err:
        raise MissingError(f"There is no Ray cluster at {address!r}: {' '.join(str(err).split())[:200]}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
