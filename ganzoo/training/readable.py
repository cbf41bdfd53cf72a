"""Whether what a run is about to save can be read back: found out before it is written, not when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ganzoo.api import Choice
from ganzoo.blame import faulty
from ganzoo.nn.guard import are_finite
from ganzoo.nn.weights import Layout, can_be_saved, layouts_of
from ganzoo.training.probe import check_nothing_came_late, check_state, comes_back, not_finite, parts_of, saved_names

if TYPE_CHECKING:
    from ganzoo.training.loop import Session


class Readable:
    """Compares what the parts of a run save with what they saved when it began.

    Args:
        session: the run, before its first step.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names = saved_names(session.run.config, session.bundle)
        self._begun = self._layouts()
        check_state(session.run.config.trainer, session.trainer.state_dict())

    def look(self) -> None:
        """At a line of metrics: what is cheap to see, once the weights are known to be finite.

        Raises:
            GanzooError: a component saves more than it did, or numbers that are not finite.
        """
        session = self._session
        self._names = check_nothing_came_late(session.run.config, session.bundle, self._names)
        if self._may_be_broken():
            for error in not_finite(session.run.config, session.bundle, session.trainer).values():
                raise error

    def check(self) -> None:
        """Before a checkpoint; what one process alone finds is raised in all.

        Raises:
            GanzooError: it could not be read back.
        """
        self._session.together.gather(self._checked)

    def _checked(self) -> dict[str, Tensor]:
        self.look()
        session, now = self._session, self._layouts()
        for (choice, module), before, after in zip(self._parts(), self._begun, now, strict=True):
            other = [name for name, layout in after.items() if before.get(name, layout) != layout]
            if other and not comes_back(choice, module, session.run.spec, exactly=True):
                name = other[0]
                does = f"changes {name!r} from {before[name]} to {after[name]}, which no checkpoint could give back"
                raise faulty(choice, does, "let it keep the type and the shape that it has after __init__")
        self._begun = now
        kept = session.trainer.state_dict()
        check_state(session.run.config.trainer, kept)
        for name, value in kept.items():
            if not can_be_saved(value):
                does = f"saves {name!r} as {value.dtype}, {value.layout}, which no checkpoint holds"
                raise faulty(session.run.config.trainer, does, "give it another type, or leave it out of state_dict()")
        return {}

    def _parts(self) -> list[tuple[Choice, nn.Module]]:
        return list(parts_of(self._session.run.config, self._session.bundle))

    def _layouts(self) -> list[dict[str, Layout]]:
        return [layouts_of(module.state_dict()) for _, module in self._parts()]

    def _may_be_broken(self) -> bool:
        """Whether to look closer for what is not finite; each device is waited for once."""
        held: dict[torch.device, list[Tensor]] = {}
        of_trainer: tuple[Mapping[str, Any], frozenset[str]] = (self._session.trainer.state_dict(), frozenset())
        of_modules = ((module.state_dict(), dict(module.named_parameters())) for _, module in self._parts())
        for tensors, learned in (*of_modules, of_trainer):
            for name, value in tensors.items():
                if name not in learned and isinstance(value, Tensor) and value.is_floating_point():
                    held.setdefault(value.device, []).append(value.detach())
        return not all(bool(are_finite(each).all()) for each in held.values())
