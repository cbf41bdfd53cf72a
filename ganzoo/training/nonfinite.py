"""What a run does when a number becomes NaN or infinite: stop, leave the update out, or go back and try again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganzoo.errors import DivergedError
from ganzoo.nn.guard import Guard
from ganzoo.training import checkpoint, state
from ganzoo.training.checkpoint import Snapshot
from ganzoo.training.diverged import diverged
from ganzoo.training.vitals import broken_names

if TYPE_CHECKING:
    from ganzoo.training.loop import Session


class Policy:
    """One run's answer to numbers that are not finite (``--on-nonfinite``), up to its limit, the same in all processes.

    While steps are taken, the device counts for itself; :meth:`check` waits for it.

    Attributes:
        good: the last good state, on the CPU. When rolling back, it is that of the last step at which a checkpoint is
            due, so that a resumed run goes back to the same one as a run that was never stopped.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.mode = session.settings.on_nonfinite
        bundle = session.bundle
        if self.mode != "stop":
            bundle.guard = Guard(bundle.noise.rng.device)
        self.good = state.copied(session.snapshot())
        self._seen = 0

    def check(self, *, thorough: bool) -> bool:
        """Wait for the device and see whether all was finite; ``thorough``: also whether the weights are now.

        Returns:
            whether the run went back, so that the present step is an earlier one.

        Raises:
            DivergedError: the run must stop.
        """
        session, bundle = self.session, self.session.bundle
        sides = (bundle.gen_side, bundle.disc_side)
        broken = bundle.broken.item() or (thorough and any(broken_names(side.named_parameters()) for side in sides))
        if session.together.any(bool(broken)):
            raise diverged(session, self.good)
        if bundle.guard is None:
            return False
        count = int(bundle.guard.skipped)
        new, self._seen = count - self._seen, count
        if not new:
            return False
        if self.mode == "rollback":
            self._roll_back()
            return True
        limit = session.settings.nonfinite_limit
        if count > limit:
            raise self._too_often(f"{count} updates were skipped, and {limit} are allowed")
        self._tell(
            "skipped",
            f"{new} update{'s were' if new > 1 else ' was'} skipped until step {session.step}, because a loss or a "
            f"gradient was NaN or infinite; that makes {count} of the {limit} allowed",
        )
        return False

    def keep(self, snapshot: Snapshot | None = None) -> None:
        """The present state is a good one; a snapshot of it may be given."""
        self.good = state.copied(snapshot or self.session.snapshot())

    @property
    def pinned(self) -> int | None:
        """The step whose checkpoint must stay, because the run may have to go back to it."""
        return int(self.good.state["step"]) if self.mode == "rollback" else None

    def restored(self, saved: Snapshot) -> None:
        """The run has gone back to ``saved``, to be resumed."""
        session = self.session
        self._seen = int(saved.state.get("nonfinite", {}).get("skipped", 0)) if session.bundle.guard else 0
        step, every = int(saved.state["step"]), session.settings.checkpoint_every
        due = step - step % every if every else 0
        if self.mode != "rollback" or due == step:
            self.good = saved
        elif due:
            path = session.run.checkpoints / checkpoint.name_of(due)
            if not session.together.from_first(lambda: checkpoint.problem(path)):
                self.good = checkpoint.load(path)
            else:
                self.good = saved
                session.say(f"The checkpoint of step {due} is gone, so the run would go back to step {step} instead.")
        # Else the start, which is how the session was built.

    def _roll_back(self) -> None:
        session = self.session
        step, attempt = session.step, session.bundle.noise.attempt + 1
        if attempt > session.settings.nonfinite_limit:
            raise self._too_often(f"the run went back {attempt - 1} times, which is all that is allowed")
        session.go_back(self.good)
        session.bundle.noise.attempt = attempt
        self._seen = int(self.good.state["nonfinite"]["skipped"])
        self._tell(
            "rollback",
            f"back to step {session.step}, because a loss or a gradient was NaN or infinite until step {step}; from "
            f"here with new noise, attempt {attempt} of the {session.settings.nonfinite_limit} allowed",
        )

    def _too_often(self, words: str) -> DivergedError:
        limit = self.session.settings.nonfinite_limit
        return DivergedError(f"{diverged(self.session, self.good)}; {words} (--nonfinite-limit {limit})")

    def _tell(self, kind: str, words: str) -> None:
        session = self.session
        attempt = session.bundle.noise.attempt
        session.keeper.line({"step": session.step, "event": kind, "message": words, "attempt": attempt})
        session.say(f"Warning: {words[0].upper()}{words[1:]}.")
