"""After NaN or infinity was seen: which step, which term, which parameter, and what is kept.

While training, only a flag on the device tells that something broke since the last line of metrics. So that a step
costs no more than that, the steps since the last good state are taken once more here, and each is examined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch

from ganzoo.errors import DivergedError, GanzooError
from ganzoo.nn import Batch, Stream
from ganzoo.nn.bundle import Side
from ganzoo.training import advice, checkpoint, state
from ganzoo.training.checkpoint import Snapshot
from ganzoo.training.vitals import broken_names

if TYPE_CHECKING:
    from ganzoo.training.loop import Session

_CAUSES_FIRST: Final = ("d_real", "d_fake")
_TOTALS: Final = ("loss_d", "loss_g")
_WORDS: Final = {
    "d_real": "the critic's logits of reals",
    "d_fake": "the critic's logits of fakes",
    "loss_d": "the critic's loss",
    "loss_g": "the generator's loss",
}


class _Witness:
    """Hands the batches on and notes whether they were finite."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.finite = True

    def next(self) -> Batch:
        batch = self.stream.next()
        self.finite = self.finite and bool(torch.isfinite(batch.x).all())
        return batch


def diverged(session: Session, good: Snapshot) -> DivergedError:
    """What happened since ``good``, which is saved if it is newer than the newest checkpoint."""
    until, run = session.step, session.run
    step, seen, in_data = _replay(session, good, until)
    whole = state.with_others(session, good)
    kept = session.together.from_first(lambda: _kept(session, whole))
    if in_data:
        means, command = "the data are at fault, not the training", f"ganzoo show dataset/{run.config.data.name}"
    else:
        means, command = advice.meaning("non-finite"), advice.to_try("non-finite", run.config, run.spec)
        arithmetic = session.bundle.precision.name
        full = None if arithmetic == "fp32" else advice.changed(run.config, {"run.precision": "fp32"}, run.spec)
        if full:
            means, command = f"{arithmetic} has too few digits for these networks, or {means}", full
    message = f"{seen}; {kept}; usually {means}; try: {command}"
    session.keeper.line({"step": step, "event": "non-finite", "message": message})
    return DivergedError(message)


def _kept(session: Session, good: Snapshot) -> str:
    """Which good state the run leaves behind, in words; ``good`` is saved if it is newer than the newest checkpoint."""
    folder = session.run.checkpoints
    newest = next(iter(checkpoint.list_all(folder)), None)
    kept = f"the last good state is {newest}" if newest else "the start is the last good state"
    if not good.state["step"] or (newest is not None and checkpoint.step_of(newest) >= good.state["step"]):
        return kept
    retention = checkpoint.Retention(session.settings.keep_last + 1, session.settings.keep_every)
    try:
        return f"the last good state is {checkpoint.save(folder, good.state['step'], good, retention)}"
    except GanzooError as err:
        return f"{kept} (a later one could not be saved: {str(err).rstrip('.')})"


def _replay(session: Session, good: Snapshot, until: int) -> tuple[int, str, bool]:
    """The first bad step, what was seen in it, and whether the real samples held it already."""
    bundle, attempt = session.bundle, session.bundle.noise.attempt
    state.put_back(session, good)
    bundle.noise.attempt = attempt
    start: int = good.state["step"]
    for index in range(start, until):
        step = index + 1
        witness = _Witness(session.stream)
        bundle.begin(index)
        metrics = session.trainer.step(witness)
        # Each process has its own samples, and all must see the same: a mean is finite if each of its numbers is.
        means = session.together.means_of({name: float(value) for name, value in metrics.items()})
        if session.together.any(not witness.finite):
            return step, f"Step {step}: real samples hold NaN or infinite values", True
        terms = [name for name, value in means.items() if not math.isfinite(value)]
        places = [place for side in (bundle.disc_side, bundle.gen_side) if (place := _place(side))]
        if terms or places:
            what = _enumerate([_WORDS.get(name, f"the term {name}") for name in sorted(terms, key=_order)])
            hit = [f"{what} became NaN or infinite" if what else "the losses were still finite", *places]
            return step, f"Step {step}: {', '.join(hit)}", False
    return until, f"A loss became NaN or infinite between steps {start} and {until}", False


def _place(side: Side) -> str:
    """Which parameters a side's last gradient, or its step, made NaN or infinite; empty if none."""
    parameters = dict(side.named_parameters())
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    for what, tensors in (("the gradient of", gradients), ("the parameter", parameters)):
        broken = broken_names(tensors.items())
        if broken:
            others = f" (the first of {len(broken)} of its {len(tensors)})" if len(broken) > 1 else ""
            return f"{what} {broken[0]}{others} is NaN or infinite"
    return ""


def _order(name: str) -> int:
    """Causes before what follows from them."""
    return 0 if name in _CAUSES_FIRST else 2 if name in _TOTALS else 1


def _enumerate(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
