"""Leaving in good order: the first signal asks the run to save and leave, the second one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Final

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGUSR1")


class StopSignals:
    """While entered, ``received`` is the number of the first SIGINT, SIGTERM or SIGUSR1, or 0.

    Only the main thread can catch signals; elsewhere (a notebook's worker, a test) nothing is changed.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received:
            if "TORCHELASTIC_RUN_ID" in os.environ:
                return  # torchrun repeats what a scheduler sent to all; it kills what does not leave in time
            os._exit(128 + number)
        self.received = number
