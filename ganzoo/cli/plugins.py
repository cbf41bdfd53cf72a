"""``ganzoo plugins``: where components come from."""

from __future__ import annotations

import importlib
from dataclasses import replace

import click

from ganzoo.api import Component
from ganzoo.cli import terminal
from ganzoo.cli.shared import json_option, plugin_option
from ganzoo.plugins import Plugin, loaded


@click.command("plugins")
@click.option(
    "--check", is_flag=True, default=False, help="Import every component too, and exit with 1 if anything is broken."
)
@plugin_option
@json_option
def command(check: bool, as_json: bool) -> None:
    """Show which plugins there are, and which are broken.

    A plugin is a Python package, and its code runs with your rights: install only what you trust. To leave plugins out,
    set GANZOO_DISABLE_PLUGINS to their names (or * for all that do not ship with ganzoo), or say ganzoo --no-plugins.
    """
    found = [_checked(plugin) if check else plugin for plugin in loaded()]
    if as_json:
        terminal.dump(
            [
                {
                    "name": plugin.name,
                    "distribution": plugin.dist,
                    "version": plugin.version,
                    "status": plugin.status,
                    "reason": plugin.reason,
                    "components": _names(plugin),
                }
                for plugin in found
            ]
        )
    else:
        rows = [(p.name, p.dist, p.version, p.status, p.reason or ", ".join(_names(p))) for p in found]
        columns = ("plugin", "distribution", "version", "status", "components or reason")
        terminal.table(columns, rows, wrap=columns[-1:])
    broken = sum(plugin.status == "broken" for plugin in found)
    if check and broken:
        terminal.status(f"{broken} of {len(found)} plugins {'is' if broken == 1 else 'are'} broken.")
        raise click.exceptions.Exit(1)


def _names(plugin: Plugin) -> list[str]:
    parts = [f"{part.kind}/{part.name}" for part in plugin.components]
    return parts + [f"preset/{preset.name}" for preset in plugin.presets]


def _checked(plugin: Plugin) -> Plugin:
    """The plugin, called broken if one of its classes does not import."""
    reasons = [reason for part in plugin.components if (reason := _import_error(part))]
    return replace(plugin, status="broken", reason="; ".join(reasons)) if reasons else plugin


def _import_error(part: Component) -> str:
    module, _, attribute = part.target.partition(":")
    try:
        getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as err:
        return f"{part.kind}/{part.name}: {type(err).__name__}: {' '.join(str(err).split())}"
    return ""
