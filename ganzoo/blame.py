"""Whose fault an unexpected error is: the plugin of a third party in whose code it happened. Free of torch."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Final

from ganzoo.api import Choice, Component
from ganzoo.errors import GanzooError, of_the_machine
from ganzoo.plugins import Plugin, loaded
from ganzoo.registry import build, registry

TO_MEND: Final = "this is for the plugin's author to mend"


def named(choice: Choice) -> str:
    """A component with the package that brings it: ``loss acme/quartic (of ganzoo-acme 1.2)``."""
    part = choice.component
    return _named(part, registry().get(part.kind, choice.id).plugin)


def faulty(choice: Choice, does: str, remedy: str) -> GanzooError:
    """The error that a component does not keep its contract.

    Args:
        choice: the component.
        does: what it does wrong, after its name.
        remedy: what its author should do.
    """
    return GanzooError(f"The {named(choice)} {does}; {TO_MEND}: {remedy}.")


def blamed(err: BaseException) -> str | None:
    """A sentence that names the component in whose code ``err`` happened, or its plugin; None for code of ganzoo's own.

    The innermost frame that is any plugin's counts: what happens in a library, it asked for.
    """
    if isinstance(err, GanzooError) or of_the_machine(err):
        return None
    frames = [(frame, line) for frame, line in traceback.walk_tb(err.__traceback__)]
    what = ": ".join(filter(None, (type(err).__name__, " ".join(str(err).split()))))
    if frames and frames[-1][0].f_code is build.__code__:  # its class does not take what it is called with
        choice: Choice = frames[-1][0].f_locals["choice"]
        if registry().get(choice.component.kind, choice.id).plugin.builtin:
            return None
        return f"The {named(choice)} cannot be built as {choice.component.target}(config, spec): {what}; {TO_MEND}"
    owners = [(frame, line, plugin) for frame, line in frames if (plugin := _owner(frame))]
    if not owners or owners[-1][2].builtin:
        return None
    frame, line, plugin = owners[-1]
    where = f"{Path(frame.f_code.co_filename).name}, line {line}"
    part = _component([frame for frame, _, owner in reversed(owners) if owner is plugin], plugin)
    who = f"plugin {plugin.name}{_of(plugin)}" if part is None else _named(part, plugin)
    return f"The {who} failed in {frame.f_code.co_name}() ({where}): {what}; {TO_MEND}"


def _named(part: Component, plugin: Plugin) -> str:
    return f"{part.kind} {plugin.namespace}/{part.name}{_of(plugin)}"


def _of(plugin: Plugin) -> str:
    return f" (of {plugin.dist} {plugin.version})" if plugin.version else f" (of {plugin.source or plugin.dist})"


def _owner(frame: FrameType) -> Plugin | None:
    """The plugin whose code a frame runs."""
    name = str(frame.f_globals.get("__name__", ""))
    return next((plugin for plugin in loaded() if any(_within(name, module) for module in _modules(plugin))), None)


def _modules(plugin: Plugin) -> set[str]:
    own = Path(plugin.source).stem if plugin.source.endswith(".py") else plugin.source.partition(":")[0]
    return {own, *(part.target.partition(":")[0] for part in plugin.components)}


def _within(name: str, module: str) -> bool:
    """Whether a module is the one given, below it, or beside it in its package."""
    package = module.rpartition(".")[0]
    return name == module or name.startswith(f"{module}.") or bool(package and name.startswith(f"{package}."))


def _component(frames: Iterable[FrameType], plugin: Plugin) -> Component | None:
    """The component whose class runs in one of the frames, the innermost first; else the only one of the module."""
    frames = list(frames)
    for frame in frames:
        mine = frame.f_locals.get("self")
        names = {f"{kind.__module__}:{kind.__qualname__}" for kind in type(mine).__mro__}
        found = [part for part in plugin.components if part.target in names]
        if found:
            return found[0]
    module = str(frames[0].f_globals.get("__name__", ""))
    found = [part for part in plugin.components if part.target.partition(":")[0] == module]
    return found[0] if len(found) == 1 else None
