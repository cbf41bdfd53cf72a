"""Who uses the class labels, and that both players do or neither does. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Literal

from ganzoo.api import CONDITIONAL, Choice, Plan, Rule
from ganzoo.registry import registry

Section = Literal["gen", "disc"]
_KINDS: Final = {"gen": "generator", "disc": "discriminator"}
_OTHER: Final[dict[Section, Section]] = {"gen": "disc", "disc": "gen"}
_WHAT: Final = {
    "gen": "The generator {gen} cannot learn from the discriminator {disc}",
    "disc": "The discriminator {disc} cannot judge the generator {gen}",
}
_WHY: Final = {
    "gen": "a discriminator that does not see the label cannot tell whether a sample is of the wanted class",
    "disc": "it asks whether a sample fits its label, which this generator never gets to know",
}


def label_rules(plan: Plan) -> tuple[Rule, ...]:
    """The rule that networks which use labels have partners that do, whoever brings them; () where it is kept.

    Without labels in the spec there is nothing to disagree about.
    """
    if plan.spec.num_classes is None or plan.has(CONDITIONAL, "gen") == plan.has(CONDITIONAL, "disc"):
        return ()
    section: Section = "gen" if plan.has(CONDITIONAL, "gen") else "disc"
    return (Rule(lambda _: True, what=_WHAT[section], why=_WHY[section], instead=_instead(plan, section)),)


def users_of_labels(plan: Plan, section: Section) -> list[str]:
    """Flags that choose each network of a section which uses labels and serves the plan's task: ``--gen cgan``."""
    return [f"--{section} {name}" for name in _suiting(plan, section, uses_labels=True)]


def _instead(plan: Plan, section: Section) -> str:
    """What to choose: a partner that uses labels too, or in place of this network one that does not."""
    offers = [" or ".join(users_of_labels(plan, _OTHER[section]))]
    plain = next(_suiting(plan, section, uses_labels=False), None)
    if plain is not None:
        offers.append(f"a {_KINDS[section]} that does not use labels, such as --{section} {plain}")
    return f"choose {', or '.join(filter(None, offers)) or '--cond off'}"


def _suiting(plan: Plan, section: Section, *, uses_labels: bool) -> Iterator[str]:
    """Names of the networks that use labels or not, and that do not refuse the task themselves."""
    for entry in registry().entries(_KINDS[section]):
        part = entry.component
        try:
            choice = Choice(entry.id, part, part.config())
            if (CONDITIONAL in part.traits_of(choice.config, plan.spec)) is not uses_labels:
                continue
            wanted = replace(plan, gen=choice) if section == "gen" else replace(plan, disc=choice)
            refused = any(rule.broken_by(wanted) for rule in part.rules)
        except Exception:  # a plugin's fault is told where that plugin is used
            continue
        if not refused:
            yield part.name if entry.plugin.builtin else entry.id
