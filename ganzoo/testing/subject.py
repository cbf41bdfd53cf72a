"""What is checked: a component with its options, the tasks it serves, and the partners it may have."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from ganzoo.api import Choice, Rule, Spec
from ganzoo.config import SECTIONS, Layer, RunConfig, resolve
from ganzoo.errors import MissingError, UsageError
from ganzoo.options import Option, options_of
from ganzoo.plugins import HOME
from ganzoo.registry import Entry, build, registry

SPECS: Final = (
    *(
        Spec((channels, *sides), classes)
        for sides in ((8, 8), (28, 28), (32, 32), (64, 48))
        for channels in (1, 3)
        for classes in (None, 4)
    ),
    Spec((2,)),
    Spec((2,), 4),
)
"""The tasks that are tried: images of several sizes, grey and coloured, and points, each with labels and without."""
SECTION_OF: Final = {kind: section for section, kind in SECTIONS.items()}
_TINY: Final[Mapping[str, Any]] = {"width": 4, "latent_dim": 6, "steps": 1, "model": "shufflenet_v2_x0_5"}
"""Options of the partners, where they have such ones: a check is about one component, and quick."""
_BATCH: Final = 4


@dataclass(frozen=True)
class Subject:
    """A component under test.

    Attributes:
        entry: its record and plugin.
        choice: the component with its options.
        options: those that were given.
        specs: the tasks to try that none of its own rules refuses.
    """

    entry: Entry
    choice: Choice
    options: Mapping[str, Any]
    specs: tuple[Spec, ...] = ()

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.entry.component.kind

    def __str__(self) -> str:
        return f"{self.kind} {self.choice.id}"

    def expect(self, holds: object, wrong: str, remedy: str) -> None:
        """Raise a sentence that names the component, unless it ``holds``."""
        if not holds:
            raise AssertionError(f"{self} {wrong}; {remedy}.")

    def build(self, spec: Spec, seed: int = 0) -> Any:
        """The component itself, from the random numbers of ``seed``."""
        torch.manual_seed(seed)
        return build(self.choice, spec)

    def configurations(self, **settings: Any) -> Iterator[RunConfig]:
        """Runs with this component, over all networks it could have; the usual ones come first."""
        own = {SECTION_OF[self.kind]: (self.choice.id,) if self.kind == "regularizer" else self.choice.id}
        section = f"reg.{self.choice.name}" if self.kind == "regularizer" else SECTION_OF[self.kind]
        own |= {f"{section}.{name}": value for name, value in self.options.items()}
        usual = resolve([Layer("kit", own | settings)])
        names = [[getattr(usual, section).id, *self.others(kind)] for section, kind in _NETWORKS.items()]
        for gen, disc in dict.fromkeys(itertools.product(*names)):
            if (self.kind == "generator" and gen != self.choice.id) or (
                self.kind == "discriminator" and disc != self.choice.id
            ):
                continue
            chosen = {"gen": gen, "disc": disc, **own, **settings, "run.batch_size": _BATCH}
            yield resolve([Layer("tiny", self._tiny(resolve([Layer("kit", chosen)]))), Layer("kit", chosen)])

    def others(self, kind: str) -> list[str]:
        """Ids of the built-in components of a kind, then of those of the same distribution."""
        found = sorted(registry().entries(kind), key=lambda entry: not entry.plugin.builtin)
        return [entry.id for entry in found if entry.plugin.builtin or entry.plugin.dist == self.entry.plugin.dist]

    def configuration(self, spec: Spec, **settings: Any) -> RunConfig | None:
        """The first run with this component for ``spec`` that no rule refuses, with ganzoo's own partners if it can.

        A partner of the same distribution may be faulty itself.
        """
        allowed = (c for c in self.configurations(**settings) if not c.plan(spec).broken_rules())
        first = next(allowed, None)
        if first is None or not self.partners(first):
            return first
        return next((config for config in allowed if not self.partners(config)), first)

    def partners(self, config: RunConfig) -> list[str]:
        """What ``config`` has beside this component that does not ship with ganzoo: ``generator acme/tiny``."""
        chosen = (choice for _, choice, _ in config.sections() if choice is not None)
        return [
            f"{choice.component.kind} {choice.id}"
            for choice in chosen
            if choice.id.partition("/")[0] != HOME and choice.component != self.choice.component
        ]

    def _tiny(self, config: RunConfig) -> dict[str, Any]:
        return {
            f"{section}.{opt.name}": _TINY[opt.name]
            for section, choice, _ in config.sections()
            if choice is not None and choice.id != self.choice.id
            for opt in options_of(choice.component.config)
            if opt.name in _TINY and _accepts(opt, _TINY[opt.name])
        }


_NETWORKS: Final = {"gen": "generator", "disc": "discriminator"}


def _accepts(opt: Option, value: Any) -> bool:
    try:
        opt.parse(value, textual=False)
    except UsageError:
        return False
    return True


def subject_for(kind: str, name: str, options: Mapping[str, Any], specs: Sequence[Spec] | None) -> Subject:
    """The component called ``name`` and the tasks that it serves.

    Raises:
        UsageError: there is no such component or option, or a value does not fit.
    """
    entry = registry().get(kind, name)
    subject = Subject(entry, registry().choose(kind, entry.id, dict(options)), options)
    if subject.kind not in _NETWORKS.values():
        return Subject(entry, subject.choice, options, tuple(specs or ()))
    served = tuple(spec for spec in SPECS if _serves(subject, spec)) if specs is None else tuple(specs)
    return Subject(entry, subject.choice, options, served)


def _serves(subject: Subject, spec: Spec) -> bool:
    """Whether with some partner none of its own rules refuses the task; a rule that fails is told elsewhere."""
    rules = subject.entry.component.rules
    if not rules:
        return True
    return any(not any(_broken(rule, config, spec) for rule in rules) for config in subject.configurations())


def _broken(rule: Rule, config: RunConfig, spec: Spec) -> bool:
    try:
        return bool(rule.broken_by(config.plan(spec)))
    except Exception:
        return False


@dataclass(frozen=True)
class Check:
    """One promise of one component, ready to be called.

    As text it is a good id for a parametrised test, also beside other components: ``loss/ns:returns-scalars``.

    Attributes:
        name: the promise, in words with dashes.
        subject: the component.
        spec: the task it is tried with, where that matters.
    """

    name: str
    subject: Subject
    function: Callable[..., None]
    spec: Spec | None = None

    def __call__(self) -> None:
        """Check it.

        Raises:
            AssertionError: the promise is not kept; the sentence says what is wrong and what to do.
            MissingError: something that the component needs is not on this machine, such as a data set.
        """
        arguments = (self.subject,) if self.spec is None else (self.subject, self.spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                self.function(*arguments)
            except (AssertionError, MissingError):
                raise
            except Exception as err:
                at = "" if self.spec is None else f" with {self.spec}"
                raise AssertionError(
                    f"{self.subject} fails while it is checked that it {self.name.replace('-', ' ')}{at}: "
                    f"{type(err).__name__}: {' '.join(str(err).split())}; the error above this one tells where."
                ) from err

    @property
    def promise(self) -> str:
        """Its name, with the task it is tried with."""
        return self.name if self.spec is None else f"{self.name}[{str(self.spec).replace(', ', '-').replace(' ', '-')}]"

    def __str__(self) -> str:
        return f"{self.subject.kind}/{self.subject.choice.name}:{self.promise}"
