"""When a run leaves before its last step, and what it says then: a signal, its time, or its patience with scores."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ganzoo.errors import Interrupted, quoted
from ganzoo.local import local_words
from ganzoo.plugins import loaded
from ganzoo.training.signals import StopSignals

if TYPE_CHECKING:
    from ganzoo.training.loop import Session

_TIME: Final = 31
"""How the processes vote to leave because the time is over: the last number, so that any signal comes first."""
_NEAR: Final = 1.0


def go_on(run: Path) -> str:
    """How the user continues a run, in words."""
    return f"go on with: ganzoo run --resume {quoted(str(run))}{local_words(loaded())}"


class Ending:
    """Whether a run leaves before its last step. Its processes decide alike, by a vote.

    Args:
        session: the run.
        stop: hears signals.
    """

    def __init__(self, session: Session, stop: StopSignals) -> None:
        self._session = session
        self._stop = stop
        self._began = time.monotonic()
        self._late = False

    def begin(self) -> None:
        """The time of this session starts here."""
        self._began = time.monotonic()

    def is_due(self) -> bool:
        """Whether to leave now: a signal came, the time is over, or the scores get no better."""
        return bool(self._agreed() or self._is_exhausted)

    @property
    def signum(self) -> int:
        """The signal on which the run leaves; 0 if there is none."""
        agreed = self._agreed()
        return 0 if agreed == _TIME else agreed

    def tell(self) -> None:
        """Say why, unless this is the last step.

        Raises:
            Interrupted: it is a signal.
        """
        session = self._session
        if session.step >= session.settings.steps:
            return
        how = go_on(session.run.path)
        number = self.signum
        if number:
            name = signal.Signals(number).name
            raise Interrupted(f"{name}: stopped after step {session.step} with everything saved; {how}", number)
        why = "the time is over (--max-time)" if self._agreed() else "the score gets no better (--eval-patience)"
        session.say(f"Stopped after step {session.step}, because {why}; {how}")

    def _agreed(self) -> int:
        late = self._is_late()
        return self._session.together.agree(self._stop.received or (_TIME if late else 0))

    def _is_late(self) -> bool:
        limit = self._session.settings.max_time
        if limit is not None and not self._late:
            left = limit - (time.monotonic() - self._began)
            if 0 < left < _NEAR:
                self._session.bundle.broken.item()  # the device may be behind; wait for it, so that the end is exact
                left = limit - (time.monotonic() - self._began)
            self._late = left <= 0
        return self._late

    @property
    def _is_exhausted(self) -> bool:
        scoring = self._session.scoring
        return scoring is not None and scoring.is_exhausted
