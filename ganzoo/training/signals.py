"""Leaving in good order: the first signal asks the run to save and leave, the second one leaves at once."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final

from ganzoo import processes
from ganzoo.errors import Interrupted, UsageError

_heard: list[StopSignals] = []


def noted() -> int:
    """The number of a signal that came and was only noted, so that the program is to leave soon; 0 if there is none."""
    return next((each.received for each in _heard if each.received), 0)


_NAMES: Final = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
_PATIENCE: Final = 8.0
"""Seconds that a step may take to its end after a signal."""
_PAUSE: Final = 0.02
"""Seconds between two looks at whether modules are still imported."""
_IMPORTS: Final = "<frozen importlib._bootstrap>"
"""The file of the frames that stand in each import, as Python names it."""


class StepAbandoned(Exception):
    """A signal came, and the step would take too long to end."""


class StopSignals:
    """While entered, ``received`` is the number of the first SIGINT, SIGTERM, SIGUSR1 or SIGHUP, or 0.

    Until :meth:`defer`, as long as there is nothing to save, the first signal raises :class:`Interrupted` where the
    program is. After it, it is only noted, and the loop leaves at its next step.

    While modules are imported, which takes seconds, nothing is raised until they all are: what others wrote, in C too,
    catches what it does not know there and goes on with half a module, which fails later with words of its own. What
    fails all the same after a signal is taken to be its doing. A second signal leaves at once.

    Entering it again, within, changes nothing. A signal that is ignored (``nohup``) stays ignored, and one whose
    handler another language installed is left to it, since Python could not give it back. Only the main thread can
    catch signals; elsewhere (a notebook's worker) nothing is changed.

    Args:
        early: what has happened when the first signal raises.
    """

    def __init__(self, early: str = "stopped before the first step of training; nothing was changed") -> None:
        self.received = 0
        self._early = early
        self._when = 0.0
        self._ident = threading.get_ident()
        self._before: dict[int, Any] = {}
        self._depth = 0
        self._deferring = False
        self._leaving = False
        self._outside: FrameType | None = None
        self._reminded = False
        self._reminding = threading.Lock()

    def __enter__(self) -> StopSignals:
        self._depth += 1
        if self._depth == 1:
            _heard.append(self)
            self._ident = threading.get_ident()
            self._outside = sys._getframe(1)
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._depth > 1:
            self._depth -= 1
            return
        self._leaving = True  # what comes from here on is noted, so that the handlers are given back
        with self._reminding:
            self._depth = 0
        _heard.remove(self)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        early = self.received and not self._deferring
        around = next((each for each in reversed(_heard) if each._ident == self._ident), None)
        if self.received and around is not None and around._deferring:
            around.received, around._when = self.received, self._when  # it may still be asked for
        self._deferring = self._leaving = False
        self._outside = None
        if early and (error is None or (isinstance(error, Exception) and not isinstance(error, Interrupted))):
            raise self._interrupted() from error

    def defer(self) -> None:
        """From now on, signals are noted and raise nothing, because there is something to save."""
        self._deferring = True

    def check_patience(self) -> None:
        """For the middle of a step.

        Raises:
            StepAbandoned: a signal came, and the step has not ended within some seconds.
        """
        if self.received and time.monotonic() - self._when > _PATIENCE:
            raise StepAbandoned

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._reminded:
            self._reminded = False
        elif self.received:
            if _is_of_several():
                return  # torchrun repeats what a scheduler sent to all; it kills what does not leave in time
            os._exit(128 + number)
        else:
            self.received, self._when = number, time.monotonic()
        if self._deferring or self._leaving:
            return
        if not self._is_importing(frame):
            raise self._interrupted()
        # Not by threading, whose locks the code that was interrupted may hold.
        _thread.start_new_thread(self._remind, (threading.get_ident(),))

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"{signal.Signals(self.received).name}: {self._early}.", self.received)

    def _is_importing(self, frame: FrameType | None) -> bool:
        """Whether a frame stands in an import that began since this was entered; a whole program may be imported."""
        while frame is not None and frame is not self._outside:
            if frame.f_code.co_filename == _IMPORTS:
                return True
            frame = frame.f_back
        return False

    def _remind(self, thread: int) -> None:
        """In a thread: send the signal once more to the main one, ``thread``, when that imports nothing any more."""
        while True:
            time.sleep(_PAUSE)
            with self._reminding:  # else it might come to the handlers that were there before
                if self._deferring or not self._depth:
                    return
                if not self._is_importing(sys._current_frames().get(thread)):
                    self._reminded = True
                    if hasattr(signal, "pthread_kill"):
                        signal.pthread_kill(thread, self.received)  # it ends a wait there, too
                    else:
                        signal.raise_signal(self.received)
                    return


def _is_of_several() -> bool:
    """Whether this process is one of several, whoever started them, or torchrun's only one."""
    with suppress(UsageError):
        return "TORCHELASTIC_RUN_ID" in os.environ or processes.place().world > 1
    return False
