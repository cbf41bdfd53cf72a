"""Which promises each kind of component makes, and how to check them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ganzoo.api import Spec
from ganzoo.testing import critics, datasets, extractors, launchers, networks, objectives, records, runs
from ganzoo.testing.subject import Check, subject_for

Promises = tuple[Callable[..., None], ...]

OF_ALL: Final[Promises] = (
    records.has_a_summary,
    records.explains_its_options,
    records.survives_files_and_the_command_line,
    records.names_a_class_that_can_be_imported,
    records.has_a_docstring,
    records.is_listed_without_torch,
    records.has_a_recipe_that_exists,
    records.has_rules_that_speak,
)
OF_KIND: Final[dict[str, Promises]] = {
    "loss": (*objectives.OF_LOSSES, runs.resumes_exactly),
    "regularizer": (*objectives.OF_REGULARIZERS, runs.resumes_exactly),
    "trainer": runs.OF_TRAINERS,
    "dataset": datasets.OF_DATASETS,
    "extractor": extractors.OF_EXTRACTORS,
    "launcher": launchers.OF_LAUNCHERS,
}
ON_EXAMPLES: Final[dict[str, Promises]] = {
    "generator": (*networks.OF_GENERATORS, *networks.OF_BOTH),
    "discriminator": (*critics.OF_DISCRIMINATORS, *networks.OF_BOTH),
}
"""Promises of networks, tried with one task of images and one of points."""
TRAINED: Final = ("generator", "discriminator", "loss", "regularizer", "trainer", "dataset")


def checks_for(kind: str, name: str, /, *, specs: Sequence[Spec] | None = None, **options: Any) -> list[Check]:
    """Every promise of one component, for ``pytest.mark.parametrize("check", checks_for(...), ids=str)``.

    The lists of several components can be added; as text each check names its component.

    Args:
        kind: ``generator``, ``loss`` ..., or short: ``gen``, ``disc``, ``reg``, ``data``.
        name: the component's name or id.
        specs: for networks and extractors, the tasks to try; unless given, for networks those of
            :data:`~ganzoo.testing.SPECS` that its rules allow.
        options: of the component, as to ``ganzoo.create``.

    Raises:
        UsageError: there is no such component or option, or a value does not fit.
    """
    subject = subject_for(kind, name, options, specs)
    found = [Check(_words(promise), subject, promise) for promise in (*OF_ALL, *OF_KIND.get(subject.kind, ()))]
    if subject.kind in ON_EXAMPLES:
        found.append(Check(_words(serves_some_task), subject, serves_some_task))
        shapes = networks.has_the_right_shapes
        found += [Check(_words(shapes), subject, shapes, spec) for spec in subject.specs]
        for promise in ON_EXAMPLES[subject.kind]:
            found += [Check(_words(promise), subject, promise, spec) for spec in runs.examples(subject.specs)]
    if subject.kind in TRAINED:
        promise = runs.trains_with_every_loss_and_trainer
        found.append(Check(_words(promise), subject, promise))
    return found


def check_component(kind: str, name: str, /, *, specs: Sequence[Spec] | None = None, **options: Any) -> None:
    """Make every check of one component; arguments as for :func:`checks_for`.

    Raises:
        AssertionError: with a sentence for every promise that is not kept.
        MissingError: something that the component needs is not on this machine.
    """
    broken = []
    for check in checks_for(kind, name, specs=specs, **options):
        try:
            check()
        except AssertionError as err:
            broken.append(f"{check.promise}: {err}")
    if broken:
        raise AssertionError("\n".join(broken))


def serves_some_task(subject: Any) -> None:
    """Its rules leave at least one task to try."""
    subject.expect(
        subject.specs,
        "refuses every task that is tried",
        "say specs= to checks_for(), or look at what its rules ask for",
    )


def _words(promise: Callable[..., None]) -> str:
    return promise.__name__.replace("_", "-")
