"""The four verbs over everything that plugins bring: list, describe, config, create.

Names: every component has a qualified id ``distribution/name`` (``ganzoo/dcgan``, ``acme/dcgan`` for the distribution
``ganzoo-acme``). A bare name that ganzoo provides always means ganzoo's, so that installing a package never changes
what a command does; one that two others provide is an error that names both.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, cast

from ganzoo import building, options
from ganzoo.api import KINDS, Choice, Component, Kind, Preset, Spec
from ganzoo.errors import UsageError, did_you_mean
from ganzoo.local import plain_id
from ganzoo.options import Option, options_of
from ganzoo.plugins import HOME, Plugin, Plugins, loaded

_NOT_LOADED = " Its plugin is not loaded: install the package or, if it is a file of yours, add -p FILE."
build = building.build  # which others look for here, beside the choice that it takes
SHORT_KINDS = {"gen": "generator", "disc": "discriminator", "reg": "regularizer", "data": "dataset"}


@dataclass(frozen=True)
class Entry:
    """A component and the plugin that brings it."""

    component: Component
    plugin: Plugin

    @property
    def id(self) -> str:
        """The qualified id."""
        return f"{self.plugin.namespace}/{self.component.name}"

    @property
    def options(self) -> tuple[Option, ...]:
        """Its options."""
        return options_of(self.component.config)


class Registry:
    """The components and presets of the active plugins."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._entries = [Entry(component, plugin) for plugin in plugins for component in plugin.components]
        self._presets = [preset for plugin in plugins for preset in plugin.presets]

    def entries(self, kind: str | None = None, glob: str = "*") -> list[Entry]:
        """Components of a kind (or all) whose name or id matches ``glob``, sorted by kind and name."""
        wanted = kind_named(kind) if kind else None
        found = [
            entry
            for entry in self._entries
            if wanted in (None, entry.component.kind)
            and any(fnmatchcase(name, glob) for name in (entry.component.name, entry.id, *entry.component.aliases))
        ]
        return sorted(found, key=lambda e: (KINDS.index(e.component.kind), e.component.name, e.id))

    def get(self, kind: str, name: str, *, asked_by: str = "") -> Entry:
        """The component called ``name``: an id, a name or an alias; ``asked_by`` says in an error who wants it.

        Raises:
            UsageError: nothing has that name (with close matches), or several third parties have.
        """
        kind, by = kind_named(kind), f" ({asked_by})" if asked_by else ""
        of_kind = [entry for entry in self._entries if entry.component.kind == kind]
        ours = [e for e in of_kind if e.plugin.builtin]
        for matches in (
            [e for e in ours if e.id == name] or [e for e in of_kind if e.id == name],
            [e for e in of_kind if plain_id(e.id) == plain_id(name)],
            [e for e in ours if e.component.name == name] or [e for e in ours if name in e.component.aliases],
            [e for e in of_kind if e.component.name == name] or [e for e in of_kind if name in e.component.aliases],
        ):
            if len(matches) == 1:
                return matches[0]
            if matches:
                ids = " or ".join(f"{e.id} (of {e.plugin.dist} {e.plugin.version})" for e in matches)
                raise UsageError(f"Several plugins bring a {kind} {name!r}{by}: say {ids}.")
        known = {alias for e in of_kind for alias in (e.component.name, *e.component.aliases)}
        hint = _NOT_LOADED if "/" in name and not name.startswith(f"{HOME}/") else did_you_mean(name, known)
        raise UsageError(f"There is no {kind} {name!r}{by}.{hint}{self._suspects()}")

    def presets(self) -> list[Preset]:
        """All presets, sorted by name."""
        return sorted(self._presets, key=lambda preset: preset.name)

    def preset(self, name: str) -> Preset:
        """The preset called ``name``.

        Raises:
            UsageError: nothing has that name, or several third parties have.
        """
        found = [preset for preset in self._presets if preset.name == name]  # ganzoo's own come first
        if not found:
            raise UsageError(f"There is no preset {name!r}.{did_you_mean(name, [p.name for p in self._presets])}")
        if len(found) > 1 and not any(found[0] in plugin.presets for plugin in self._plugins if plugin.builtin):
            raise UsageError(f"Several plugins bring a preset {name!r}: switch one off with GANZOO_DISABLE_PLUGINS.")
        return found[0]

    def choose(self, kind: str, name: str, values: dict[str, Any] | None = None) -> Choice:
        """The component with its options filled in from ``values`` (Python or JSON values)."""
        entry = self.get(kind, name)
        config = options.build(entry.component.config, values or {}, where=f"{entry.component.kind} {name!r}")
        return Choice(entry.id, entry.component, config)

    def _suspects(self) -> str:
        broken = [f"{p.dist} {p.version}".strip() for p in self._plugins.broken()]
        return f" Plugins that failed to load may have it: {', '.join(broken)}; see 'ganzoo plugins'." if broken else ""


_registry_of = cache(Registry)


def registry() -> Registry:
    """The registry over the plugins of this process."""
    return _registry_of(loaded())


def kind_named(word: str) -> Kind:
    """The kind that ``word`` names: ``generator``, ``generators`` or ``gen``.

    Raises:
        UsageError: there is no such kind.
    """
    singular = "loss" if word in ("loss", "losses") else word.removesuffix("s")
    kind = SHORT_KINDS.get(singular, singular)
    if kind not in KINDS:
        raise UsageError(f"There is no kind {word!r}.{did_you_mean(word, (*KINDS, *SHORT_KINDS))}")
    return cast("Kind", kind)


def list_components(kind: str | None = None, glob: str = "*") -> list[str]:
    """Names of the components of a kind; third parties' by their id where the bare name is not theirs alone.

    >>> list_components("generator", "*gan")
    ['cgan', 'dcgan']
    """
    found = registry().entries(kind, glob)
    taken = [(e.component.kind, e.component.name) for e in found]
    taken += [(e.component.kind, name) for e in found if e.plugin.builtin for name in e.component.aliases]
    alone = [e.plugin.builtin or taken.count((e.component.kind, e.component.name)) == 1 for e in found]
    return [e.component.name if bare else e.id for e, bare in zip(found, alone, strict=True)]


def describe(kind: str, name: str) -> dict[str, Any]:
    """All that is known of a component without building it, as plain JSON values."""
    entry = registry().get(kind, name)
    part, plugin = entry.component, entry.plugin
    return {
        "id": entry.id,
        **{name: getattr(part, name) for name in ("kind", "name", "summary", "paper", "target")},
        "aliases": list(part.aliases),
        "facts": part.known_facts(),
        "plugin": {"name": plugin.name, "distribution": plugin.dist, "version": plugin.version},
        "recipe": {path: options.jsonable(value) for path, value in part.recipe.items()},
        "rules": [{"what": rule.what, "why": rule.why, "instead": rule.instead} for rule in part.rules],
        "options": [
            {"name": opt.name, "type": opt.type_name, "default": options.jsonable(opt.default), "help": opt.help}
            for opt in entry.options
        ],
    }


def config_for(kind: str, name: str, /, **values: Any) -> Any:
    """The configuration object of a component, with ``values`` checked and filled in.

    Raises:
        UsageError: an unknown component or option, or a value that does not fit.
    """
    return registry().choose(kind, name, values).config


def create(kind: str, name: str, spec: Spec, /, **values: Any) -> Any:
    """Build one component by itself, with options as keywords.

    >>> create("generator", "dcgan", Spec((3, 64, 64)), width=64)   # doctest: +SKIP
    """
    return build(registry().choose(kind, name, values), spec)
