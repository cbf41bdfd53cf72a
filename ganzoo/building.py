"""From a component's record to the thing itself: its module is imported, its class called, its contract looked for."""

from __future__ import annotations

import importlib
from typing import Any, Final

from ganzoo.api import Choice, Kind, Spec
from ganzoo.errors import GanzooError, of_the_machine
from ganzoo.hooks import one_line

_CONTRACTS: Final[dict[Kind, str]] = {
    "generator": "ganzoo.nn:Generator",
    "discriminator": "ganzoo.nn:Discriminator",
    "loss": "ganzoo.nn:Loss",
    "regularizer": "ganzoo.nn:Regularizer",
    "trainer": "ganzoo.nn:Trainer",
    "dataset": "ganzoo.data:Dataset",
    "extractor": "ganzoo.nn:Extractor",
    "launcher": "ganzoo.api:Launcher",
}
"""The base class of each kind, as a target is written: to name it imports nothing."""


def build(choice: Choice, spec: Spec | None) -> Any:
    """The component itself: imports its module and calls ``Target(config, spec)``; a launcher has no spec.

    Raises:
        GanzooError: the target cannot be imported, or does not build what its kind promises; the message names it and
            its id.
    """
    try:
        target = _named(choice.component.target)
    except Exception as err:  # a module may raise anything while it is imported
        if isinstance(err, GanzooError) or of_the_machine(err):
            raise
        raise GanzooError(
            f"{choice.component.kind} {choice.id} cannot be built: its target {choice.component.target!r} "
            f"does not import ({one_line(err)}); this is for the plugin's author to mend."
        ) from err
    built = target(choice.config, spec)
    # What only looks like one may train, and is refused by whoever opens the run.
    contract = _CONTRACTS[choice.component.kind]
    if not isinstance(built, _named(contract)):
        from ganzoo.blame import faulty

        base = contract.replace(":", ".")
        raise faulty(choice, f"builds a {type(built).__name__}, which is no {base}", f"derive its class from {base}")
    return built


def _named(place: str) -> Any:
    """What ``module:attribute`` names."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
