"""Calling the lifecycle hooks of plugins without letting one of them end a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ganzoo.errors import UsageError
from ganzoo.plugins import loaded

_log = logging.getLogger("ganzoo")
_LIFECYCLE: Final = ("run_start", "step_end", "samples", "checkpoint_saved", "eval_end", "run_end")


class Shown(Mapping[str, Any]):
    """The metrics of a step for those who watch: each look at one is at a copy, so that nobody changes the run's."""

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        self._metrics = metrics

    def __getitem__(self, name: str) -> Any:
        return self._metrics[name].detach().clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)


class Observers:
    """The observers of one run: those of the active plugins, and ``extra`` objects with hook implementations.

    ``observers.call("step_end", run=run, ...)`` calls each implementation of ``ganzoo_step_end`` with the arguments it
    takes. One that raises is named once and left out from then on. ``silent`` ones are not called at all.

    Raises:
        UsageError: ``extra`` is no list, or one of its objects has no hook implementation.
    """

    def __init__(self, extra: Sequence[object] = (), *, silent: bool = False) -> None:
        if not isinstance(extra, Sequence):
            raise UsageError(f"observers must be a list of objects, not {extra!r}.")
        self._silent = silent
        manager = loaded().manager
        registered = []
        try:
            for observer in extra:
                manager.register(observer)
                registered.append(observer)
                if not manager.get_hookcallers(observer):
                    raise UsageError(
                        f"The observer {observer!r} hears of nothing: mark its methods, such as ganzoo_step_end, with "
                        "@ganzoo.api.hookimpl."
                    )
            self._calls = {
                event: [
                    (impl.plugin_name, impl.function, impl.argnames)
                    for impl in reversed(getattr(manager.hook, f"ganzoo_{event}").get_hookimpls())
                ]
                for event in _LIFECYCLE
            }
        finally:
            for observer in registered:
                manager.unregister(observer)
        self._strict = os.environ.get("GANZOO_STRICT_PLUGINS", "") not in ("", "0")
        self._gone: set[str] = set()

    def call(self, event: str, **arguments: Any) -> None:
        """Tell every observer."""
        if self._silent:
            return
        for name, function, wanted in self._calls[event]:
            if name in self._gone:
                continue
            try:
                function(*(arguments[key] for key in wanted))
            except (Exception, SystemExit) as err:
                if self._strict:
                    raise
                self._gone.add(name)
                _log.warning("Observer %s failed in ganzoo_%s and is left out from here on: %r", name, event, err)
