"""Versions of everything that results depend on: of packages, and of the plugins that a run's components come from."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from ganzoo.api import Choice
from ganzoo.config import RunConfig
from ganzoo.plugins import Plugin
from ganzoo.registry import registry

_PACKAGES: Final = ("ganzoo", "torch", "torchvision", "safetensors", "numpy", "pillow")
_SHOWN: Final = 16


@cache
def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def versions_of_plugins(config: RunConfig) -> dict[str, str]:
    """Version of each third party's distribution that brings a component of a run.

    A file or module of one's own has none: the first digits of the SHA-256 of its source stand for it.
    """
    return {plugin.dist: plugin.version or _digest(_source(plugin)) for _, plugin in _foreign(config)}


def code_of(config: RunConfig) -> dict[str, str]:
    """For each third party's component of a run, the hash of the source that builds it, which its author may edit."""
    targets = ((choice.id, choice.component.target) for choice, _ in _foreign(config))
    return {name: _digest(_source_of_module(target.partition(":")[0])) for name, target in targets}


def _foreign(config: RunConfig) -> Iterator[tuple[Choice, Plugin]]:
    """The components of a run that ganzoo does not bring, each with the plugin that does."""
    for _, choice, _ in config.sections():
        if choice is not None:
            plugin = registry().get(choice.component.kind, choice.id).plugin
            if not plugin.builtin:
                yield choice, plugin


def _source(plugin: Plugin) -> Path | None:
    return Path(plugin.source) if plugin.source.endswith(".py") else _source_of_module(plugin.source.partition(":")[0])


def _source_of_module(name: str) -> Path | None:
    with suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    return None


def _digest(source: Path | None) -> str:
    with suppress(OSError):
        if source is not None:
            return f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()[:_SHOWN]}"
    return "unknown"
