"""Writing while the disk may fail: training goes on, says so once, and tries again at the next turn."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from typing import Any, Final

from ganzoo.errors import GanzooError
from ganzoo.training import checkpoint
from ganzoo.training.checkpoint import Retention, Snapshot
from ganzoo.training.run import Run

_MARGIN: Final = 16 * 2**20
"""Bytes for grids, metrics and the rest."""
_WAITING: Final = 10_000


class Keeper:
    """Writes what a run leaves behind. A failure of the disk ends no run.

    Args:
        run: where to.
        say: hears when writing fails, and when it works again.
        silent: whether it writes nothing, because another process of the run does.
    """

    def __init__(self, run: Run, say: Callable[[str], None], *, silent: bool = False) -> None:
        self.run, self.say, self._silent = run, say, silent
        self._failing: dict[str, str] = {}
        self._waiting: list[dict[str, Any]] = []

    def close(self, step: int, failed: str) -> None:
        """At the end of a run: see that all was written.

        Args:
            step: the last one.
            failed: why its state could not be saved; empty if it was.

        Raises:
            GanzooError: the state, or another file, could not be written.
        """
        if failed:
            whole = next((p for p in checkpoint.list_all(self.run.checkpoints) if not checkpoint.problem(p)), None)
            raise GanzooError(
                f"The run ends after step {step}, but that state could not be saved. {failed} "
                + (f"The newest whole checkpoint is {whole}." if whole else "There is no whole checkpoint.")
            )
        if self._failing:
            raise GanzooError(
                f"The run ends after step {step}, whose state is saved, but other files could not be written. "
                + " ".join(self._failing.values())
            )

    def line(self, line: dict[str, Any]) -> None:
        """Add a line to the metrics; one that cannot be written waits for the next.

        A number that is not finite is written as null: JSON has no other, and strict readers refuse the whole line.
        """
        if self._silent:
            return
        line = {key: None if isinstance(of, float) and not math.isfinite(of) else of for key, of in line.items()}
        self._waiting = [*self._waiting, line][-_WAITING:]

        def write() -> None:
            while self._waiting:
                self.run.append_metrics(self._waiting[0])
                self._waiting.pop(0)

        self.tried("Metrics", write)

    def checkpoint(self, step: int, snapshot: Snapshot, *, pinned: int | None = None) -> GanzooError | None:
        """Save a checkpoint; returns why it could not be saved.

        Raises:
            GanzooError: another process has taken the run over.
        """
        if self.run.lock is not None and not self.run.lock.held:
            raise GanzooError(
                f"Another process has taken {self.run.path} over, perhaps because this one stood still for long; "
                "this one leaves without writing."
            )
        settings = self.run.config.run
        retention = Retention(settings.keep_last, settings.keep_every, () if pinned is None else (pinned,))
        return self.tried(
            "A checkpoint", lambda: checkpoint.save(self.run.checkpoints, step, snapshot, retention), step
        )

    def tried(self, what: str, write: Callable[[], object], step: int | None = None) -> GanzooError | None:
        """Call ``write``; a failure of the disk is said once and returned.

        Raises:
            GanzooError: it failed for another reason.
        """
        if self._silent:
            return None
        try:
            write()
        except GanzooError as err:
            if not isinstance(err.__cause__ or err.__context__, OSError):
                raise
            known = what in self._failing
            self._failing[what] = str(err)
            if not known:
                message = f"{what} could not be saved. {err} Training goes on, and it is tried again at its next turn."
                self.say(f"Warning: {message}")
                if step is not None:
                    self.line({"step": step, "event": "unsaved", "message": message})
            return err
        if what in self._failing:
            del self._failing[what]
            self.say(f"{what} could be saved again.")
        return None


def check_room(run: Run, snapshot: Snapshot) -> None:
    """See that the disk has room for the checkpoints of a run.

    Raises:
        GanzooError: it has not.
    """
    settings = run.config.run
    # Adam's two moments come with the first step.
    size = max(snapshot.size, 3 * sum(v.numel() * v.element_size() for v in snapshot.model.values()))
    there = len(checkpoint.list_all(run.checkpoints))
    count = settings.keep_last + 1
    if settings.keep_every:
        count += max(settings.steps - int(snapshot.state["step"]), 0) // settings.keep_every
    needed = size * max(count - there, 1) + _MARGIN
    try:
        usage = shutil.disk_usage(run.path)
    except OSError:
        return
    if usage.total and usage.free < needed:
        raise GanzooError(
            f"The disk of {run.path} has {_size(usage.free)} left, but this run needs about {_size(needed)}: a "
            f"checkpoint takes {_size(size)}, and {count} of them must fit beside each other; free some space, choose "
            "another --out, or keep fewer (--keep-last, --keep-every)."
        )


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
