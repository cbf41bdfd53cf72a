"""What a plugin author imports. Free of torch, so that listing and documenting a component costs nothing.

A plugin is a light module with one hook that yields records::

    from dataclasses import dataclass
    from ganzoo.api import Component, hookimpl, option

    @dataclass(frozen=True)
    class TinyConfig:
        width: int = option(32, min=1, help="Units in the hidden layer.")

    @hookimpl
    def ganzoo_components():
        yield Component("generator", "tiny", target="my_gan.model:TinyGenerator", config=TinyConfig,
                        summary="One hidden layer.")

The class behind ``target`` is imported only when it is built, as ``TinyGenerator(config, spec)``.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from pluggy import HookimplMarker

from ganzoo.errors import DivergedError, GanzooError, Interrupted, MissingError, UsageError, did_you_mean
from ganzoo.launching import Job, Launcher, Outcome, Work
from ganzoo.options import NoOptions, option

__all__ = [
    "CONDITIONAL",
    "MIXES_SAMPLES",
    "NEEDS_SAMPLE_GRADIENTS",
    "NO_DOUBLE_BACKWARD",
    "SAMPLE_GRADIENT_RULES",
    "Choice",
    "Component",
    "DivergedError",
    "GanzooError",
    "Interrupted",
    "Job",
    "Kind",
    "Launcher",
    "MissingError",
    "NoOptions",
    "Outcome",
    "Plan",
    "Preset",
    "Rule",
    "Spec",
    "UsageError",
    "Work",
    "did_you_mean",
    "hookimpl",
    "option",
]

hookimpl: Final = HookimplMarker("ganzoo")
"""Marks a function of a plugin as the implementation of the hook of the same name."""

Kind = Literal["generator", "discriminator", "loss", "regularizer", "trainer", "dataset", "extractor", "launcher"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]*")
TARGET: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

# Traits: facts about a component that other components' rules ask for.
MIXES_SAMPLES: Final = "mixes-samples"
"""Of a discriminator: one sample's logit depends on the other samples of its batch (batch normalisation)."""
CONDITIONAL: Final = "conditional"
"""Of a generator or discriminator: it uses the class label."""
NEEDS_SAMPLE_GRADIENTS: Final = "needs-sample-gradients"
"""Of a loss, regularizer or trainer: it needs d D(x_i) / d x_i for each sample by itself."""
NO_DOUBLE_BACKWARD: Final = "no-double-backward"
"""Of a discriminator: its gradient cannot be differentiated again."""

_PYRAMID_BASE = range(4, 8)


@dataclass(frozen=True)
class Spec:
    """What the core tells a component about the task.

    Attributes:
        shape: of one sample: ``(C, H, W)`` for images, ``(D,)`` for points.
        num_classes: how many labels there are (labels are ``0 .. num_classes - 1``), None for unlabelled data.
    """

    shape: tuple[int, ...]
    num_classes: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _whole(self.shape, "The shape of a sample"))
        if self.num_classes is not None:
            object.__setattr__(self, "num_classes", _whole((self.num_classes,), "num_classes")[0])
        if len(self.shape) not in (1, 3) or any(side < 1 for side in self.shape):
            raise UsageError(f"A sample has the shape (C, H, W) or (D,) with positive sizes, not {self.shape}.")
        if self.num_classes is not None and self.num_classes < 1:
            raise UsageError(f"num_classes is at least 1, or None for unlabelled data, not {self.num_classes}.")

    @property
    def is_image(self) -> bool:
        """Whether a sample is an image ``(C, H, W)``; otherwise it is a point ``(D,)``."""
        return len(self.shape) == 3

    @property
    def numel(self) -> int:
        """How many numbers a sample has."""
        return math.prod(self.shape)

    @property
    def pyramid(self) -> tuple[int, tuple[int, int]] | None:
        """``(n, (h, w))`` such that the image is ``2**n`` times a base with a shorter side of 4 to 7; None without one.

        28 is 7 * 2**2 and 64 is 4 * 2**4, so a convolutional network halves them two and four times; 64x48 has the base
        8x6.
        """
        if not self.is_image:
            return None
        _, height, width = self.shape
        for n in range(1, 16):
            scale = 2**n
            if height % scale == 0 and width % scale == 0:
                base = (height // scale, width // scale)
                if min(base) in _PYRAMID_BASE:
                    return n, base
        return None

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + (f", {self.num_classes} classes" if self.num_classes else "")


@dataclass(frozen=True)
class Rule:
    """A sentence owned by the component that imposes it: what cannot be, why, and what to do instead.

    ``broken_by`` gets the :class:`Plan` and says whether it breaks the rule. The three texts may use
    ``{gen} {disc} {loss} {reg} {trainer} {data} {spec}``, which stand for what the plan chose.
    """

    broken_by: Callable[[Plan], bool]
    what: str
    why: str
    instead: str

    def sentence(self, plan: Plan) -> str:
        """The whole sentence for this plan."""
        words = plan.words()
        return f"{self.what.format_map(words)}: {self.why.format_map(words)}; {self.instead.format_map(words)}."


def _whole(values: Iterable[Any], what: str) -> tuple[int, ...]:
    """Whole numbers as Python's own, for those of NumPy's cannot be written as JSON."""
    try:
        return tuple(map(operator.index, values))
    except TypeError:
        raise UsageError(f"{what} must be given in whole numbers, not as {values!r:.80}.") from None


def _are(values: object, kind: type[Any]) -> bool:
    """Whether something holds such values alone; a text, which holds texts, does not count."""
    return isinstance(values, Iterable) and not isinstance(values, str) and all(isinstance(v, kind) for v in values)


Traits = tuple[str, ...] | Callable[[Any, Spec], Iterable[str]]


@dataclass(frozen=True)
class Component:
    """One named part of a kind.

    Attributes:
        kind: which contract of :mod:`ganzoo.nn`, :mod:`ganzoo.data` or this module (launchers) the class fulfils.
        name: short name that users type; lower-case letters, digits, dots and dashes.
        target: ``"module:attribute"`` of the class, imported only to build it as ``Target(config, spec)``.
        config: frozen dataclass whose fields are :func:`option`; they become ``--gen.width`` and the like.
        summary: one sentence for listings.
        paper: where it was published, for example ``"arXiv:1511.06434"``.
        recipe: settings that the paper prescribes, as paths such as ``"gen_optim.lr"``, ``"trainer.critic_steps"``
            or ``"disc.norm"``; ``"gen/dcgan.width"`` speaks of that generator alone. What the chosen components do
            not have is passed over.
        rules: what this component refuses.
        traits: facts that others' rules ask for: a tuple, or a function of ``(config, spec)``.
        aliases: other names for it.
        spec: data sets only: ``config -> Spec``, without importing torch; it may look at the disk.
        extractor: data sets only: name of the extractor that suits its images best; None leaves it to the evaluator,
            whose default for images is ``inception``.
        facts: what else ``ganzoo show`` tells, such as ``{"licence": "MIT"}``. A value may be a function that finds it
            out when it is shown, without importing torch.
    """

    kind: Kind
    name: str
    target: str
    config: type[Any] = NoOptions
    summary: str = ""
    paper: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    traits: Traits = ()
    aliases: tuple[str, ...] = ()
    spec: Callable[[Any], Spec] | None = None
    extractor: str | None = None
    facts: Mapping[str, str | Callable[[], str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise GanzooError(f"Component {self.name!r} has the unknown kind {self.kind!r}; kinds: {', '.join(KINDS)}.")
        for name in (self.name, *(self.aliases if _are(self.aliases, str) else ())):
            if not (_are((name,), str) and NAME.fullmatch(name)):
                raise GanzooError(f"{name!r} is no component name; use lower-case letters, digits, dots and dashes.")
        if not TARGET.fullmatch(self.target):
            raise GanzooError(f"The target of {self.kind}/{self.name} must be 'module:attribute', not {self.target!r}.")
        apart = self.kind in ("extractor", "launcher")  # no run's settings have these
        if not apart and "name" in getattr(self.config, "__dataclass_fields__", {}):
            raise GanzooError(
                f"{self.kind}/{self.name} has an option 'name', which a run's settings need for the component itself; "
                "call it otherwise."
            )
        if not (_are((self.summary,), str) and _are((self.recipe,), Mapping)):
            raise GanzooError(f"{self.kind}/{self.name}: summary must be a text, and recipe a mapping of settings.")
        if not callable(self.traits) and not _are(self.traits, str):
            raise GanzooError(f"The traits of {self.kind}/{self.name} must be a tuple of texts, or a function.")
        if not _are(self.rules, Rule) or not _are(self.aliases, str):
            raise GanzooError(f"The rules and aliases of {self.kind}/{self.name} must be tuples of Rule and of texts.")
        if self.kind == "dataset" and self.spec is None:
            raise GanzooError(f"dataset/{self.name} must tell its spec without torch: pass spec=<function of config>.")
        if self.spec is not None and not isinstance(self.spec, _Told):
            object.__setattr__(self, "spec", _Told(self.spec, self))

    def traits_of(self, config: object, spec: Spec) -> frozenset[str]:
        """The traits it has when built with ``config`` for ``spec``."""
        found: Any = self.traits(config, spec) if callable(self.traits) else self.traits
        found = found if isinstance(found, str) or not isinstance(found, Iterable) else tuple(found)
        if not _are(found, str):
            raise self._faulty("traits", found, "a tuple of texts on every path, () for none, or yield each of them")
        return frozenset(found)

    def _faulty(self, function: str, value: object, wanted: str) -> GanzooError:
        """The error that one of its functions does not keep its contract; what package it is of is not known here."""
        return GanzooError(
            f"The function {function}= of {self.kind}/{self.name} ({self.target}) returns {value!r:.80}; this is for "
            f"the plugin's author to mend: return {wanted}."
        )

    def known_facts(self) -> dict[str, str]:
        """The facts, those found out that are functions; one that fails says so instead."""
        found = {}
        for name, fact in self.facts.items():
            try:
                found[name] = fact() if callable(fact) else fact
            except Exception as err:
                found[name] = f"cannot be found out ({type(err).__name__}: {' '.join(str(err).split())})"
        return found


@dataclass(frozen=True)
class _Told:
    """The function ``spec=`` of a data set; a :class:`Spec` is what it returns to whoever asks."""

    told: Callable[[Any], object]
    part: Component = field(compare=False, repr=False)

    def __call__(self, config: object) -> Spec:
        spec = self.told(config)
        if not isinstance(spec, Spec):
            raise self.part._faulty("spec", spec, "ganzoo.api.Spec(shape, num_classes) from it")
        return spec


@dataclass(frozen=True)
class Preset:
    """A named bundle of settings, applied over the recipes and under the configuration file and the command line."""

    name: str
    summary: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not (_are((self.name,), str) and self.name):
            raise GanzooError(f"{self.name!r} is no name of a preset.")
        if not (_are((self.summary,), str) and _are((self.settings,), Mapping)):
            raise GanzooError(f"preset/{self.name}: summary must be a text, and settings a mapping.")


@dataclass(frozen=True)
class Choice:
    """A component that a run uses, with its options filled in."""

    id: str
    """Qualified id, ``distribution/name``."""
    component: Component
    config: Any

    @property
    def name(self) -> str:
        """The component's short name."""
        return self.component.name


@dataclass(frozen=True)
class Plan:
    """What a run would combine; rules look at it before anything is built."""

    spec: Spec
    gen: Choice
    disc: Choice
    loss: Choice
    regs: tuple[Choice, ...]
    trainer: Choice
    data: Choice
    observed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Traits seen in what was built, by section; they count like declared ones."""
    rules: tuple[Rule, ...] = ()
    """What nobody's component refuses, and ganzoo itself does: labels that only one of the networks uses."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Every component of the plan."""
        return (self.data, self.gen, self.disc, self.trainer, self.loss, *self.regs)

    def has(self, trait: str, *sections: Literal["gen", "disc", "loss", "regs", "trainer", "data"]) -> bool:
        """Whether a component of one of these sections (all when none is named) has the trait."""
        for section in sections or ("gen", "disc", "loss", "regs", "trainer", "data"):
            picked = getattr(self, section)
            for choice in picked if isinstance(picked, tuple) else (picked,):
                if trait in choice.component.traits_of(choice.config, self.spec):
                    return True
            if trait in self.observed.get(section, ()):
                return True
        return False

    def words(self) -> dict[str, str]:
        """Names for the placeholders of a rule's texts."""
        return {
            "gen": self.gen.name,
            "disc": self.disc.name,
            "loss": self.loss.name,
            "reg": " + ".join(reg.name for reg in self.regs),
            "trainer": self.trainer.name,
            "data": self.data.name,
            "spec": str(self.spec),
        }

    def broken_rules(self, **instead: str) -> list[str]:
        """The sentences of all rules that this plan breaks, one for each reason.

        Args:
            instead: words for some placeholders in place of those of :meth:`words`.
        """
        broken: dict[str, list[tuple[str, str]]] = {}
        words = self.words() | instead
        for choice, rules in [*((choice, choice.component.rules) for choice in self.choices), (self.gen, self.rules)]:
            for rule in rules:
                try:
                    if rule.broken_by(self):
                        what, why, remedy = (t.format_map(words) for t in (rule.what, rule.why, rule.instead))
                        broken.setdefault(why, []).append((what, remedy))
                except Exception as err:
                    raise GanzooError(
                        f"A rule of the {choice.component.kind} {choice.id} fails ({type(err).__name__}: {err}); "
                        "this is for the plugin's author to mend."
                    ) from err
        return [_one_sentence(why, *zip(*dict.fromkeys(found), strict=True)) for why, found in broken.items()]


def _one_sentence(why: str, phrases: tuple[str, ...], insteads: tuple[str, ...]) -> str:
    """What several parts refuse for one reason, said once: the first of them, and what to do instead of each."""
    first, *others = dict.fromkeys(insteads)
    return f"{phrases[0]}: {why}; {' and '.join([first, *(other.removeprefix('choose ') for other in others)])}."


SAMPLE_GRADIENT_RULES: Final = (
    Rule(
        lambda plan: plan.has(MIXES_SAMPLES, "disc") and hasattr(plan.disc.config, "norm"),
        what="The discriminator {disc} with batch norm cannot have a gradient penalty",
        why=(
            "the penalty constrains each sample's own gradient, which batch norm makes depend on the other samples "
            "of the batch"
        ),
        instead="choose --disc.norm layer or --disc.norm none, or a loss and regularizers without a gradient penalty",
    ),
    Rule(
        lambda plan: plan.has(MIXES_SAMPLES, "disc") and not hasattr(plan.disc.config, "norm"),
        what="The discriminator {disc}, which mixes the samples of a batch, cannot have a gradient penalty",
        why="the penalty constrains each sample's own gradient, which then depends on the others of the batch",
        instead="choose another discriminator, or a loss and regularizers without a gradient penalty",
    ),
    Rule(
        lambda plan: plan.has(NO_DOUBLE_BACKWARD, "disc"),
        what="The discriminator {disc} cannot have a gradient penalty",
        why="learning from one differentiates the critic twice, and {disc} can be differentiated only once",
        instead="choose another discriminator, or a loss and regularizers without a gradient penalty",
    ),
)
"""What every component with the trait :data:`NEEDS_SAMPLE_GRADIENTS` refuses; it lists them among its rules."""
