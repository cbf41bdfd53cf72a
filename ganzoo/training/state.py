"""Everything that the next step of a run depends on: taken out of a session, and put back."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from ganzoo.errors import GanzooError, UsageError
from ganzoo.nn.bundle import derive_seed
from ganzoo.training import checkpoint
from ganzoo.training.alike import checksum
from ganzoo.training.checkpoint import Snapshot

if TYPE_CHECKING:
    from ganzoo.data import Dataset
    from ganzoo.training.loop import Session

_GROUP_KEYS: Final = ("gen", "disc")


def capture(session: Session) -> Snapshot:
    """The state after the last step. Noise and data order follow from seed, step and position.

    The tensors are the live ones; :func:`copied` takes them out of the run's hands.
    """
    bundle = session.bundle
    model = {**bundle.gen_side.state_dict(), **bundle.disc_side.state_dict()}
    if session.ema is not None:
        model |= {f"ema.{name}": value for name, value in session.ema.module.state_dict().items()}
    optimizer: dict[str, Tensor] = {f"trainer.{key}": value for key, value in session.trainer.state_dict().items()}
    groups = {}
    for key, side in zip(_GROUP_KEYS, (bundle.gen_side, bundle.disc_side), strict=True):
        tensors, groups[key] = checkpoint.flatten_optimizer(side.optimizer, key)
        optimizer |= tensors
        if side.scaler is not None:
            optimizer[f"scale.{key}"] = side.scaler.state
    state = {
        "step": session.step,
        "position": session.stream.position,
        "samples": None if session.dataset.length is None else int(session.dataset.length),
        "classes": list(session.dataset.classes) if session.bundle.spec.num_classes else [],
        "data": session.dataset.fingerprint,
        "processes": session.together.world,
        "seconds": session.seconds,
        "groups": groups,
        "nonfinite": {"attempt": bundle.noise.attempt, "skipped": int(bundle.guard.skipped) if bundle.guard else 0},
        "random": random_state(),
    }
    if session.scoring is not None:
        state["best"] = session.scoring.state
    return Snapshot(model, optimizer, state)


def with_others(session: Session, snapshot: Snapshot) -> Snapshot:
    """In process 0, the state with what other processes have otherwise than process 0; see :func:`put_back`."""
    together = session.together
    if together.world == 1:
        return snapshot
    own = _own(snapshot)
    sums = together.gather(lambda: {name: checksum([value, _layout(value)]).cpu() for name, value in own.items()})
    wanted = set(json.loads(together.from_first(lambda: json.dumps(_differing(sums)))))
    found = together.gather(lambda: {name: value for name, value in own.items() if name in wanted})
    others = {f"{_of(rank)}{name}": value for rank, each in enumerate(found) if rank for name, value in each.items()}
    missing = {_of(rank): sorted(own.keys() - each.keys()) for rank, each in enumerate(sums)}
    lacking = {process: names for process, names in missing.items() if names}
    state = {**snapshot.state, "lacking": lacking} if lacking else snapshot.state
    return Snapshot(snapshot.model, {**snapshot.optimizer, **others}, state)


def _layout(value: Tensor) -> Tensor:
    """Type and shape as numbers: the same bits may be something else."""
    return torch.frombuffer(bytearray(f"{value.dtype} {list(value.shape)}".encode()), dtype=torch.uint8)


def _differing(sums: Sequence[Mapping[str, Tensor]]) -> list[str]:
    """Names of what is not the same in all processes, by checksums."""
    told = [{name: int(value) for name, value in each.items()} for each in sums]
    names = dict.fromkeys(name for each in told for name in each)
    return [name for name in names if len({each.get(name) for each in told}) > 1]


def _own(snapshot: Snapshot) -> dict[str, Tensor]:
    """What may differ between processes: what a trainer holds, and the states of Python's and NumPy's generators."""
    held = {name: value for name, value in snapshot.optimizer.items() if name.startswith("trainer.")}
    words = torch.frombuffer(bytearray(json.dumps(snapshot.state["random"]).encode()), dtype=torch.uint8)
    return {name: value.detach().cpu().contiguous().clone() for name, value in held.items()} | {"random": words}


def _of(rank: int) -> str:
    return f"process{rank}."


def copied(snapshot: Snapshot) -> Snapshot:
    """The same with tensors of its own, on the CPU: the device has better use for its memory."""
    return Snapshot(
        {name: value.detach().to("cpu", copy=True) for name, value in snapshot.model.items()},
        {name: value.detach().to("cpu", copy=True) for name, value in snapshot.optimizer.items()},
        snapshot.state,
    )


def _refuse_other_classes(saved: Snapshot, dataset: Dataset) -> None:
    """Refuse to go on where labels would mean something else than they did.

    Raises:
        UsageError: the classes have other names now, or another order.
    """
    before, now = saved.state.get("classes") or [], list(dataset.classes)
    changed = [f"{old} is {new} now" for old, new in zip(before, now, strict=False) if old != new]
    if before and now and changed:
        raise UsageError(
            f"The data set has other classes than when the run was saved ({', '.join(changed[:3])}), and labels are "
            "learned by their order: bring the old names back, or begin a new run."
        )


def _tell_of_other_data(saved: Snapshot, session: Session) -> None:
    """Say that there are other samples than there were, in the same number: of another number one has heard."""
    before, now = saved.state.get("data"), session.dataset.fingerprint
    same_number = saved.state.get("samples") == session.dataset.length
    if before and now and before != now and same_number and before.partition(":")[0] == now.partition(":")[0]:
        session.say(
            f"Warning: The data set holds other samples now than when {session.run.path} was saved; the run goes on "
            "with these."
        )


def put_back(session: Session, saved: Snapshot) -> None:
    """Go back to a state. A process that had a part of its own in it takes that, if there are as many as there were.

    Raises:
        GanzooError: it does not fit.
        UsageError: the classes of the data set have changed.
    """
    _refuse_other_classes(saved, session.dataset)
    _tell_of_other_data(saved, session)
    bundle = session.bundle
    checkpoint.restore_module(bundle.gen, "gen", saved.model)
    disc_side = {name: value for name, value in saved.model.items() if not name.startswith(("gen.", "ema."))}
    checkpoint.restore_module(bundle.disc_side, "", disc_side)
    if session.ema is not None:
        checkpoint.restore_module(session.ema.module, "ema", saved.model)
    for key, side in zip(_GROUP_KEYS, (bundle.gen_side, bundle.disc_side), strict=True):
        groups = [dict(group) for group in saved.state["groups"][key]]
        checkpoint.restore_optimizer(side.optimizer, key, saved.optimizer, groups)
        if side.scaler is not None and f"scale.{key}" in saved.optimizer:
            side.scaler.state = saved.optimizer[f"scale.{key}"].to(side.scaler.state.device, copy=True)
    mine = _of(session.together.rank)
    same = saved.state.get("processes") == session.together.world
    own: dict[str, Tensor] = {}
    for begin in ("trainer.", f"{mine}trainer.") if same else ("trainer.",):
        own |= {name.removeprefix(begin): value for name, value in saved.optimizer.items() if name.startswith(begin)}
    lacking = saved.state.get("lacking", {}).get(mine, []) if same else []
    session.trainer.load_state_dict({name: own[name] for name in own if f"trainer.{name}" not in lacking})
    session.stream.position = saved.state["position"]
    session.step = saved.state["step"]
    nonfinite = saved.state.get("nonfinite", {"attempt": 0, "skipped": 0})
    bundle.noise.attempt = nonfinite["attempt"]
    if bundle.guard is not None:
        bundle.guard.skipped.fill_(nonfinite["skipped"])
    if session.scoring is not None and isinstance(saved.state.get("best"), dict):
        session.scoring.resume(saved.state["best"])
    random_words = saved.optimizer.get(f"{mine}random") if same else None
    if random_words is not None:
        restore_random(json.loads(bytes(random_words.cpu().numpy())))
    elif session.together.rank and not same:  # the first one's are not for all: they would draw alike
        seed_random(session.settings.seed, "steps", session.together.rank, session.step)
    else:
        restore_random(saved.state["random"])


def random_state() -> dict[str, Any]:
    """Python's and NumPy's global generators, which a plugin may use; torch's follows from seed and step."""
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {"python": [version, list(words), gauss]}
    if "numpy" in sys.modules:
        import numpy as np

        name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        state["numpy"] = [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)]
    return state


def seed_random(*words: object) -> None:
    """Seed Python's and NumPy's global generators, so that plugins which use them follow from the run's seed, too."""
    seed = derive_seed("python", *words)
    random.seed(seed)
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(seed % 2**32)


@contextmanager
def same_random() -> Iterator[None]:
    """Whatever is drawn within, Python's and NumPy's generators go on as if it had not been."""
    before = random_state()
    try:
        yield
    finally:
        restore_random(before)


def restore_random(state: dict[str, Any]) -> None:
    """Take back what :func:`random_state` gave."""
    try:
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        if "numpy" in state:
            import numpy as np

            name, keys, position, has_gauss, cached = state["numpy"]
            np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    except (KeyError, TypeError, ValueError) as err:
        raise GanzooError(f"The random state of the checkpoint is damaged: {err}.") from None
