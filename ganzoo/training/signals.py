"""Leaving in good order: the first signal asks the run to save and leave, the second one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Final

from ganzoo.errors import Interrupted

_heard: list[StopSignals] = []


def noted() -> int:
    """The number of a signal that came and was only noted, so that the program is to leave soon; 0 if there is none."""
    return next((each.received for each in _heard if each.received), 0)


_NAMES: Final = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
_PATIENCE: Final = 8.0
"""Seconds that a step may take to its end after a signal."""


class StepAbandoned(Exception):
    """A signal came, and the step would take too long to end."""


class StopSignals:
    """While entered, ``received`` is the number of the first SIGINT, SIGTERM, SIGUSR1 or SIGHUP, or 0.

    Until :meth:`defer`, as long as there is nothing to save, the first signal raises :class:`Interrupted` where the
    program is. After it, it is only noted, and the loop leaves at its next step.

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
        self._before: dict[int, Any] = {}
        self._depth = 0
        self._deferring = False

    def __enter__(self) -> StopSignals:
        self._depth += 1
        if self._depth == 1:
            _heard.append(self)
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            _heard.remove(self)
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before.clear()
            self._deferring = False

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

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received:
            if "TORCHELASTIC_RUN_ID" in os.environ:
                return  # torchrun repeats what a scheduler sent to all; it kills what does not leave in time
            os._exit(128 + number)
        self.received, self._when = number, time.monotonic()
        if not self._deferring:
            name = signal.Signals(number).name
            raise Interrupted(f"{name}: {self._early}.", number)
