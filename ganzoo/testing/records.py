"""Promises of every component: what its record says is complete, true, and costs nothing to read."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import os
import subprocess
import sys
import tomllib
from functools import cache
from typing import Any, Final

from ganzoo import options
from ganzoo.config import FAN_OUT, SECTIONS, STATIC
from ganzoo.data import Dataset
from ganzoo.errors import UsageError, did_you_mean
from ganzoo.launching import Launcher
from ganzoo.nn import Discriminator, Extractor, Generator, Loss, Regularizer, Trainer
from ganzoo.options import Option, options_of
from ganzoo.plugins import loaded
from ganzoo.registry import registry
from ganzoo.testing.subject import SECTION_OF, SPECS, Subject

BASES: Final[dict[str, type[Any]]] = {
    "generator": Generator,
    "discriminator": Discriminator,
    "loss": Loss,
    "regularizer": Regularizer,
    "trainer": Trainer,
    "dataset": Dataset,
    "extractor": Extractor,
    "launcher": Launcher,
}
_HEAVY: Final = ("torch", "torchvision", "torch_fidelity")
_LISTING: Final = """
import json, sys
path, kind, name, values, heavy = json.loads(sys.argv[1])
sys.path[:] = path
from ganzoo.registry import describe, registry
registry().entries()
if kind:
    choice = registry().choose(kind, name, values)
    describe(kind, name)
    if choice.component.spec is not None:
        choice.component.spec(choice.config)
print(json.dumps([module for module in heavy if module in sys.modules]))
"""


def has_a_summary(subject: Subject) -> None:
    """The record has a sentence for listings."""
    summary = subject.entry.component.summary
    subject.expect(summary.strip(), "has no summary", "give its Component summary= one sentence, for 'ganzoo list'")
    subject.expect("\n" not in summary, "has a summary of several lines", "make it one sentence, for a table")


def explains_its_options(subject: Subject) -> None:
    """Every option has a sentence of help."""
    mute = [opt.name for opt in subject.entry.options if not opt.help.strip()]
    subject.expect(not mute, f"does not explain {', '.join(mute)}", "write its fields as option(default, help=...)")


def survives_files_and_the_command_line(subject: Subject) -> None:
    """Its options come back equal from JSON, from TOML and from the command line."""
    config = subject.choice.config
    kind = type(config)
    frozen = dataclasses.is_dataclass(kind) and getattr(kind, "__dataclass_params__").frozen  # noqa: B009
    subject.expect(frozen, f"has the changeable options {kind.__name__}", "decorate them with @dataclass(frozen=True)")
    for each in (config, kind()):
        values = {opt.name: getattr(each, opt.name) for opt in options_of(kind)}
        plain = {name: options.jsonable(value) for name, value in values.items()}
        typed = {name: options.show(value) for name, value in values.items()}
        for place, read, textual in (
            ("JSON", lambda plain=plain: json.loads(json.dumps(plain)), False),
            ("TOML", lambda plain=plain: tomllib.loads(toml(plain)), False),
            ("the command line", lambda typed=typed: typed, True),
        ):
            try:
                back = options.build(kind, read(), where=str(subject), textual=textual)
            except (UsageError, TypeError, ValueError) as err:
                subject.expect(False, f"has options that do not come back from {place} ({err})", _FITTING)
            subject.expect(back == each, f"has options that come back from {place} as {back}, not {each}", _FITTING)


_FITTING: Final = "let every default fit the type and the bounds of its option"


def toml(values: dict[str, Any]) -> str:
    """A flat table as TOML, which has no null: ``"none"`` stands for it."""
    lines = (
        f"{name} = {json.dumps('none' if value is None else value, ensure_ascii=False)}"
        for name, value in values.items()
    )
    return "\n".join(lines)


def names_a_class_that_can_be_imported(subject: Subject) -> None:
    """The target is a class of the kind's contract."""
    target = _target(subject)
    base = BASES.get(subject.kind)
    fits = isinstance(target, type) and (base is None or issubclass(target, base))
    contract = f"{base.__module__.rpartition('.')[0]}.{base.__name__}" if base else "a class"
    subject.expect(
        fits,
        f"has the target {subject.entry.component.target!r}, which is no {contract}",
        f"derive the class from {contract} and name it as 'module:class'",
    )
    missing = sorted(getattr(target, "__abstractmethods__", ()))
    subject.expect(not missing, f"does not implement {', '.join(missing)}", f"write what {contract} leaves abstract")


def has_a_docstring(subject: Subject) -> None:
    """The class says what it is."""
    target = _target(subject)
    said = (vars(target).get("__doc__") or "").strip() if isinstance(target, type) else target.__doc__
    subject.expect(
        said,
        f"has the class {target.__name__} without a docstring",
        "say in a sentence what goes in and what comes out",
    )


def _target(subject: Subject) -> Any:
    module, _, attribute = subject.entry.component.target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as err:
        raise AssertionError(
            f"{subject} has the target {subject.entry.component.target!r}, which does not import ({err}); name the "
            "class as 'module:class', in a module of the package."
        ) from err


def is_listed_without_torch(subject: Subject) -> None:
    """Finding, listing and describing it imports no torch: help pages of everybody stay quick."""
    own = subject.entry.plugin.dist
    others = ",".join(sorted({plugin.dist for plugin in loaded() if not plugin.builtin} - {own}))
    values = {name: options.jsonable(value) for name, value in _given(subject).items()}
    local = os.environ.get("GANZOO_PLUGINS", "")
    if subject.kind == "dataset":
        heavy = _heavy_modules(local, others, subject.kind, subject.choice.id, json.dumps(values))
    else:
        heavy = _heavy_modules(local, others)
    subject.expect(
        not heavy,
        f"makes every 'ganzoo --help' import {', '.join(heavy)}",
        "keep the record and its options in a module without torch, and the class in another that target= names",
    )


def _given(subject: Subject) -> dict[str, Any]:
    return {name: getattr(subject.choice.config, name) for name in subject.options}


@cache
def _heavy_modules(local: str, disabled: str, kind: str = "", name: str = "", values: str = "{}") -> list[str]:
    """What a fresh Python has imported of the heavy modules after listing everything; one process a plugin."""
    path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109
    off = ",".join(filter(None, (os.environ.get("GANZOO_DISABLE_PLUGINS", ""), disabled)))
    done = subprocess.run(
        [sys.executable, "-P", "-c", _LISTING, json.dumps([path, kind, name, json.loads(values), _HEAVY])],
        env={
            **os.environ,
            "GANZOO_PLUGINS": local,
            "GANZOO_DISABLE_PLUGINS": off,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"Listing fails in a fresh Python: {done.stderr.strip().splitlines()[-1]}")
    found: list[str] = json.loads(done.stdout)
    return found


def has_a_recipe_that_exists(subject: Subject) -> None:
    """Every path of its recipe is a setting of something, and every value fits one of those that have it."""
    settings = _settings_by_path()
    known = {*SECTIONS, *settings}
    for path, value in subject.entry.component.recipe.items():
        full = f"run.{path}" if f"run.{path}" in settings else path
        subject.expect(
            full in known,
            f"has the unknown setting {path!r} in its recipe, which would be passed over",
            f"name a setting as 'ganzoo run --dry-run' shows them.{did_you_mean(path, known)}".rstrip("."),
        )
        wrong = [sentence for opt in settings.get(full, ()) if (sentence := _misfit(opt, value))]
        subject.expect(
            full not in settings or len(wrong) < len(settings[full]),
            f"has a recipe with a value that does not fit, which would be passed over ({path} {''.join(wrong[:1])})",
            "make it one that does",
        )


def _settings_by_path() -> dict[str, list[Option]]:
    """Every path that can be set, with the options that it may mean: that of whichever component is chosen."""
    found: dict[str, list[Option]] = {}
    for section, config in STATIC.items():
        heads = [section, *(wide for wide, to in FAN_OUT.items() if section in to)]
        for head, opt in itertools.product(heads, options_of(config)):
            found.setdefault(f"{head}.{opt.name}", []).append(opt)
    for entry in registry().entries():
        section = SECTION_OF.get(entry.component.kind, "")
        head = f"reg.{entry.component.name}" if section == "reg" else section
        for place, opt in itertools.product((head, f"{section}/{entry.component.name}"), entry.options):
            found.setdefault(f"{place}.{opt.name}", []).append(opt)
    return found


def _misfit(opt: Option, value: object) -> str | None:
    """Why ``value`` does not fit the option; None if it does. ``auto`` leaves it to the layer below."""
    try:
        if value != "auto":
            opt.parse(value, textual=False)
    except UsageError as err:
        return str(err)
    return None


def has_rules_that_speak(subject: Subject) -> None:
    """Its rules and traits can be asked about any task, and each rule has a whole sentence."""
    part = subject.entry.component
    for spec in SPECS:
        part.traits_of(subject.choice.config, spec)
    if not part.rules:
        return
    for config in subject.configurations():
        for spec in SPECS:
            plan = config.plan(spec)
            for rule in part.rules:
                rule.broken_by(plan)
                try:
                    sentence = rule.sentence(plan)
                except (KeyError, IndexError, ValueError) as err:
                    subject.expect(
                        False,
                        f"has a rule whose texts use the unknown placeholder {err} ({rule.what!r})",
                        "use {gen} {disc} {loss} {reg} {trainer} {data} {spec}, and double other braces",
                    )
                whole = all(text.strip() for text in (rule.what, rule.why, rule.instead)) and ".;" not in sentence
                subject.expect(
                    whole and not sentence.endswith(".."),
                    f"has a rule that is no sentence ({sentence!r})",
                    "say what cannot be, why, and what to do instead, each without a full stop",
                )
