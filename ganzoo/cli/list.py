"""``ganzoo list``: what there is."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import click

from ganzoo import options
from ganzoo.cli import terminal
from ganzoo.cli.shared import json_option, plugin_option
from ganzoo.errors import UsageError
from ganzoo.registry import Entry, registry


@click.command("list")
@click.argument("kind", required=False)
@click.argument("glob", default="*")
@click.option("--matrix", is_flag=True, default=False, help="Show which components go together, and which not and why.")
@plugin_option
@json_option
def command(kind: str | None, glob: str, matrix: bool, as_json: bool) -> None:
    """List components and presets.

    KIND is generator, discriminator, loss, regularizer, trainer, dataset, extractor, launcher or preset, or short for
    one: gen, disc, reg, data. GLOB filters by name.

    \b
    ganzoo list
    ganzoo list losses "wgan*"
    ganzoo list --matrix
    """
    if matrix:
        if kind is not None:
            raise UsageError("The matrix shows all components: leave out what stands beside --matrix.")
        _matrix(as_json=as_json)
        return
    if kind is not None and any(sign in kind for sign in "*?["):
        glob = kind
        kind = None
    presets = kind in ("preset", "presets")
    found = [] if presets else [_component(entry) for entry in registry().entries(kind, glob)]
    if presets or kind is None:
        found += [
            {"kind": "preset", "name": preset.name, "summary": preset.summary, "settings": _settings(preset.settings)}
            for preset in registry().presets()
            if fnmatchcase(preset.name, glob)
        ]
    if as_json:
        terminal.dump(found)
    elif found:
        rows = [(item["kind"], item["name"], item["summary"], item.get("paper", ""), _source(item)) for item in found]
        terminal.table(("kind", "name", "summary", "paper", "plugin"), rows, wrap=("summary", "paper"))
    else:
        terminal.status("Nothing has such a name.")


def _matrix(*, as_json: bool) -> None:
    """What goes together: every cell as JSON; for people, what the cells have in common."""
    from ganzoo.matrix import AXES, cells, summarise, verdict

    every = list(cells())
    found = summarise(every)
    if as_json:
        document = {"format": "ganzoo-matrix/1", "axes": AXES, "counts": found.counts}
        terminal.dump({**document, "cells": [cell.to_dict() for cell in every]})
        return
    rows = [(row.gen, row.disc, ", ".join(row.data), verdict(row)) for row in found.rows]
    terminal.table(("generator", "discriminator", "data", "verdict"), rows, wrap=("data", "verdict"))
    for mark, notes in (("a", found.changes), ("r", found.sentences)):
        terminal.say()
        terminal.table(("", "note"), [(f"{mark}{n}", note) for n, note in enumerate(notes, 1)], wrap=("note",))
    counts = ", ".join(f"{number:,} {status}" for status, number in found.counts.items())
    terminal.status(f"With every loss, trainer and regularizer: {counts}; each of them with --json.")


def _component(entry: Entry) -> dict[str, Any]:
    part, plugin = entry.component, entry.plugin
    return {
        "kind": part.kind,
        "name": part.name,
        "id": entry.id,
        "aliases": list(part.aliases),
        "summary": part.summary,
        "paper": part.paper,
        "plugin": {"name": plugin.name, "distribution": plugin.dist, "version": plugin.version},
    }


def _settings(settings: Any) -> dict[str, Any]:
    return {path: options.jsonable(value) for path, value in settings.items()}


def _source(item: dict[str, Any]) -> str:
    plugin = item.get("plugin")
    if plugin is None:
        return ""
    return str(plugin["name"]) if plugin["distribution"] == "ganzoo" else f"{plugin['name']} ({plugin['distribution']})"
