"""Finding, guarding, disabling and describing plugins.

Our own loop over the entry points, because pluggy's lets one broken plugin end every command and silently drops a
second one of the same name. A plugin that fails is recorded with its reason and never stands in another's way.

Environment: ``GANZOO_DISABLE_PLUGINS=name,dist,...`` (``*`` is every third party), ``GANZOO_PLUGINS=module,file.py``
adds unpackaged ones (``-p`` on the command line), ``GANZOO_STRICT_PLUGINS=1`` raises what would only be recorded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import Distribution, entry_points
from pathlib import Path
from typing import Any, Final, Literal

from pluggy import PluginManager

from ganzoo import hookspecs
from ganzoo.api import Component, Preset
from ganzoo.errors import GanzooError, UsageError
from ganzoo.hooks import REGISTRATION, check_hooks, nothing_brought, one_line, sentence
from ganzoo.local import check_targets, import_plugin, look_here, place_of, plain_id, words
from ganzoo.options import options_of

GROUP: Final = "ganzoo.plugins"
HOME: Final = "ganzoo"
"""The distribution that brings the built-ins, and the first half of their qualified ids."""


@dataclass(frozen=True)
class Plugin:
    """One plugin: where it came from, whether it works, and what it brings."""

    name: str
    dist: str
    version: str
    status: Literal["active", "disabled", "broken"]
    reason: str = ""
    components: tuple[Component, ...] = ()
    presets: tuple[Preset, ...] = ()
    hooks: tuple[str, ...] = ()
    source: str = ""  # its module, or the path of its file

    @property
    def builtin(self) -> bool:
        """Whether it ships with ganzoo."""
        return self.dist == HOME

    @property
    def namespace(self) -> str:
        """The first half of its components' ids: the distribution without the prefix ``ganzoo-``."""
        return self.dist.removeprefix("ganzoo-")


@dataclass(frozen=True)
class _Candidate:
    name: str
    dist: str
    version: str
    value: str  # module, or path of a file, or module:attribute


class Plugins(Sequence[Plugin]):
    """All plugins that were found, built-ins first, and the hooks of those that work."""

    def __init__(self, candidates: Iterable[_Candidate], disabled: frozenset[str], *, strict: bool = False) -> None:
        self._manager = PluginManager("ganzoo")
        self._manager.add_hookspecs(hookspecs)
        ordered = sorted(candidates, key=lambda c: (c.dist != HOME, c.dist, c.name))
        self._plugins = tuple(self._load(candidate, disabled, strict=strict) for candidate in ordered)

    def __getitem__(self, index: Any) -> Any:
        return self._plugins[index]

    def __len__(self) -> int:
        return len(self._plugins)

    @property
    def hook(self) -> Any:
        """pluggy's relay: calling ``hook.ganzoo_run_end(...)`` calls every implementation."""
        return self._manager.hook

    @property
    def manager(self) -> PluginManager:
        """pluggy's manager, for those who add observers of their own."""
        return self._manager

    def broken(self) -> Iterator[Plugin]:
        """Those that could not be loaded."""
        return (plugin for plugin in self if plugin.status == "broken")

    def _load(self, found: _Candidate, disabled: frozenset[str], *, strict: bool) -> Plugin:
        plugin = Plugin(found.name, found.dist, found.version, "active", source=found.value)
        if {found.name, found.dist} & disabled or ("*" in disabled and found.dist != HOME):
            return replace(plugin, status="disabled", reason="switched off by GANZOO_DISABLE_PLUGINS")
        key = f"{found.dist}:{found.name}"
        taken = f"another one has the name {found.name} too; rename its file" if self._manager.has_plugin(key) else ""
        if not plugin.builtin and plain_id(f"{found.dist}/") == f"{HOME}/":
            taken = f"as {found.dist} it would have the ids of ganzoo's own components; it must be renamed"
        if taken:
            return replace(plugin, status="broken", reason=taken)
        try:
            module = import_plugin(found.value)
            hooks = check_hooks(module, self._manager)
            self._manager.register(module, name=key)
            components = self._collect(key, "ganzoo_components", Component)
            presets = self._collect(key, "ganzoo_presets", Preset)
            check_targets(module, components)
            watches = set(hooks) - set(REGISTRATION)
            reason = "" if components or presets or watches else nothing_brought(hooks)
            return replace(plugin, reason=reason, components=components, presets=presets, hooks=hooks)
        except (Exception, SystemExit) as err:
            if strict:
                raise
            if self._manager.has_plugin(key):
                self._manager.unregister(name=key)
            return replace(plugin, status="broken", reason=one_line(err))

    def _collect(self, key: str, hook: str, record: type[Any]) -> tuple[Any, ...]:
        """What this one plugin yields through a registration hook, each record checked."""
        others = [plug for name, plug in self._manager.list_name_plugin() if name != key and plug is not None]
        records = tuple(item for result in self._manager.subset_hook_caller(hook, others)() for item in result)
        for item in records:
            if not isinstance(item, record):
                raise GanzooError(f"{hook} must yield {record.__name__} records, not {type(item).__name__}")
            if isinstance(item, Component):
                _check_defaults(item)
        return records


def _check_defaults(part: Component) -> None:
    """A default must be what a user may give: it is saved with a run, and read back as a user's value is."""
    for opt in options_of(part.config):
        try:
            opt.parse(opt.default, textual=False)
        except UsageError as err:
            raise GanzooError(f"the default of the option {opt.name!r} of {part.kind}/{part.name} {err}") from None


def find(extra: Iterable[str] = ()) -> Iterator[_Candidate]:
    """Entry points of the group, then ``extra`` modules and files."""
    there = set()
    for entry in entry_points(group=GROUP):
        there |= {entry.value, entry.value.partition(":")[0]}
        yield _Candidate(entry.name, *_origin(entry.dist), entry.value)
    for value in extra:
        path = Path(value).expanduser().absolute()
        if place_of(value) in there:
            continue  # it is installed by now, or named twice
        there.add(place_of(value))
        if value.endswith(".py"):
            yield _Candidate(path.stem, path.stem, "", str(path))
        else:
            yield _Candidate(value, value.partition(".")[0], "", value)


@cache
def _origin(dist: Distribution | None) -> tuple[str, str]:
    """Name, as the package index writes it, and version; an uninstall that stopped halfway leaves neither behind."""
    name, version = ((dist.metadata.get_all(key) or [""])[0] if dist else "" for key in ("Name", "Version"))
    return re.sub(r"[-_.]+", "-", name or "unknown").lower(), version


@cache
def loaded() -> Plugins:
    """The plugins of this process, found and loaded once."""
    named = words("GANZOO_PLUGINS")
    if named:
        look_here()
    return Plugins(
        find(named),
        frozenset(words("GANZOO_DISABLE_PLUGINS")),
        strict=os.environ.get("GANZOO_STRICT_PLUGINS", "") not in ("", "0"),
    )


def add_local(modules_or_files: Sequence[str]) -> None:
    """Load these unpackaged plugins too: module names, or paths that end in ``.py``.

    Raises:
        UsageError: one of them cannot be loaded, or brings nothing; somebody who names a plugin wants it.
    """
    for value in modules_or_files:
        if "," in value:
            raise UsageError(
                f"The plugin {value!r} has a comma, which separates plugins: say -p for each, or rename it."
            )
    known = [*words("GANZOO_PLUGINS"), *modules_or_files]
    os.environ["GANZOO_PLUGINS"] = ",".join(dict.fromkeys(known))
    loaded.cache_clear()
    wanted = {place_of(value) for value in modules_or_files}
    for plugin in loaded():
        if place_of(plugin.source) in wanted and plugin.reason and plugin.status != "disabled":
            what = "could not be loaded: " if plugin.status == "broken" else ""
            raise UsageError(f"The plugin {plugin.name!r} {what}{sentence(plugin.reason)}")
