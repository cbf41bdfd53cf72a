"""``ganzoo show``: all about one component."""

from __future__ import annotations

from typing import Any, Final

import click

from ganzoo import options
from ganzoo.api import KINDS, Preset
from ganzoo.cli import terminal
from ganzoo.cli.shared import json_option, plugin_option
from ganzoo.errors import UsageError, did_you_mean
from ganzoo.registry import SHORT_KINDS, describe, kind_named, registry

_WORDS: Final = {word: word.upper() for word in ("gen", "disc", "loss", "reg", "trainer", "data", "spec")}
"""Stand for what a run will choose, where a rule is shown by itself."""


@click.command("show")
@click.argument("name", metavar="[KIND/]NAME")
@plugin_option
@json_option
def command(name: str, as_json: bool) -> None:
    """Show all about one component: its options, paper and recipe.

    With KIND/NAME, --json prints one object; a NAME by itself may stand in several kinds, and --json prints a list.

    \b
    ganzoo show gen/dcgan
    ganzoo show wgan-gp
    ganzoo show preset/quick
    """
    kind, short = _split(name)
    found = [_describe(kind, short)] if kind else _search(short)
    if as_json:
        terminal.dump(found[0] if kind else found)
        return
    for number, facts in enumerate(found):
        if number:
            terminal.say()
        _print(facts)


def _split(name: str) -> tuple[str | None, str]:
    """``gen/dcgan`` has a kind; ``acme/dcgan`` is an id and has none."""
    first, slash, rest = name.partition("/")
    if not slash:
        return None, name
    if first in ("preset", "presets"):
        return "preset", rest
    try:
        return kind_named(first), rest
    except UsageError:
        if "/" in rest or all(first != entry.plugin.namespace for entry in registry().entries()):
            raise
        return None, name


def _describe(kind: str, name: str) -> dict[str, Any]:
    return _preset(registry().preset(name)) if kind == "preset" else describe(kind, name)


def _search(name: str) -> list[dict[str, Any]]:
    known = registry().entries()
    kinds = {e.component.kind for e in known if name in (e.id, e.component.name, *e.component.aliases)}
    found = [describe(kind, name) for kind in KINDS if kind in kinds]
    found += [_preset(preset) for preset in registry().presets() if preset.name == name]
    if not found:
        names = [e.component.name for e in known] + [p.name for p in registry().presets()]
        raise UsageError(f"There is no component or preset {name!r}.{did_you_mean(name, names)}")
    return found


def _preset(preset: Preset) -> dict[str, Any]:
    settings = {path: options.jsonable(value) for path, value in preset.settings.items()}
    return {"kind": "preset", "name": preset.name, "summary": preset.summary, "settings": settings}


def _print(facts: dict[str, Any]) -> None:
    terminal.say(f"{facts['kind']}/{facts['name']}")
    terminal.say(f"  {facts['summary']}")
    if facts["kind"] == "preset":
        _settings("Settings", facts["settings"])
        return
    plugin = facts["plugin"]
    lines = {word.capitalize(): text for word, text in facts["facts"].items()}
    lines |= {
        "Paper": facts["paper"],
        "Aliases": ", ".join(facts["aliases"]),
        "Id": facts["id"],
        "Plugin": f"{plugin['name']}, of {plugin['distribution']} {plugin['version']}".rstrip(),
        "Class": facts["target"],
    }
    for word, text in lines.items():
        if text:
            terminal.say(f"  {word + ':':<{1 + max(map(len, lines))}} {text}")
    if facts["options"]:
        terminal.say()
        rows = [(_flag(facts, o["name"]), o["type"], _text(o["default"]), o["help"]) for o in facts["options"]]
        terminal.table(("option", "type", "default", "help"), rows, wrap=("type", "help"))
    _settings("Recipe", facts["recipe"])
    for rule in facts["rules"]:
        sentence = f"{rule['what']}: {rule['why']}; {rule['instead']}."
        terminal.say(f"\nRule: {sentence.format_map(_WORDS)}")


def _settings(title: str, settings: dict[str, Any]) -> None:
    if settings:
        terminal.say(f"\n{title}")
        for path, value in settings.items():
            terminal.say(f"  {path} = {_text(value)}")


def _flag(facts: dict[str, Any], option: str) -> str:
    section = {long: short for short, long in SHORT_KINDS.items()}.get(facts["kind"], facts["kind"])
    if section == "extractor":
        section = "features"
    if section == "reg":
        section += f".{facts['name']}"
    return f"--{section}.{option.replace('_', '-')}"


def _text(value: Any) -> str:
    return options.show(value) or "empty"
