"""What of a plugin are hooks, and whether they are ones that there are. Free of torch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

from pluggy import PluginManager

from ganzoo import hookspecs
from ganzoo.errors import GanzooError, did_you_mean

HOOKS: Final = {
    name: tuple(inspect.signature(function).parameters)
    for name, function in vars(hookspecs).items()
    if name.startswith("ganzoo_")
}
"""Name of each hook -> the arguments that it may take."""
REGISTRATION: Final = ("ganzoo_components", "ganzoo_presets")
"""Those that bring something; the others observe."""


def check_hooks(plugin: object, manager: PluginManager) -> tuple[str, ...]:
    """The hooks that a plugin implements, in the order of :data:`HOOKS`.

    Raises:
        GanzooError: one of them does not exist, or takes an argument that the hook does not have.
    """
    found = dict(_implemented(plugin, manager))
    for name, taken in found.items():
        if name not in HOOKS:
            raise GanzooError(f"it implements the unknown hook {name!r}.{did_you_mean(name, HOOKS)}")
        odd = [argument for argument in taken if argument not in HOOKS[name]]
        if odd:
            allowed = f"it may take {', '.join(HOOKS[name])}" if HOOKS[name] else "it takes none"
            raise GanzooError(f"the hook {name} has no argument {', '.join(odd)}: {allowed}")
    return tuple(name for name in HOOKS if name in found)


def _implemented(plugin: object, manager: PluginManager) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each function that is marked as a hook: the hook's name, and the arguments it cannot do without."""
    for attribute in dir(plugin):
        options: Any = manager.parse_hookimpl_opts(plugin, attribute)
        if options is not None:
            parameters = inspect.signature(getattr(plugin, attribute)).parameters.values()
            plain = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
            yield options.get("specname") or attribute, tuple(plain)


def nothing_brought(hooks: tuple[str, ...]) -> str:
    """Why a plugin that has no component, no preset and no observer is as good as none."""
    if hooks:
        return f"brings nothing: its {' and '.join(hooks)} yields nothing"
    return "brings nothing: no component, no preset, no hook; did you forget @hookimpl?"


def one_line(err: BaseException) -> str:
    """What went wrong, without the full stop at its end, so that it can stand within a sentence."""
    text = " ".join(str(err).split())
    text = text if text and isinstance(err, GanzooError) else ": ".join(filter(None, (type(err).__name__, text)))
    return text.removesuffix(".")


def sentence(text: str) -> str:
    """``text`` with a full stop, unless it asks something."""
    return text if text.endswith("?") else f"{text}."
