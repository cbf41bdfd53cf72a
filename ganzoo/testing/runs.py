"""Promises about training: of trainers, and of everything that is trained."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Final

import torch

from ganzoo.api import Spec
from ganzoo.config import RunConfig
from ganzoo.data import Dataset
from ganzoo.errors import MissingError
from ganzoo.registry import build
from ganzoo.testing.networks import equal
from ganzoo.testing.objectives import is_scalar, task_of, tasks_of, uses_real_unsaid
from ganzoo.testing.subject import SECTION_OF, Subject
from ganzoo.testing.training import Session, noise

_STEPS: Final = 2
_LAZY_STEPS: Final = (5, 15)
"""Steps before a run is saved and after it is resumed, together more than the usual 16 between two lazy penalties."""
_REQUIRED: Final = ("loss_d", "loss_g")


def trains_with_every_loss_and_trainer(subject: Subject) -> None:
    """Two steps with each built-in loss and trainer (and those of its own package) that no rule refuses."""
    if subject.kind == "loss" and uses_real_unsaid(subject.build(task_of(subject))):
        return  # told by a promise of its own
    configs = list(_configurations(subject))
    alone = False  # whether it has trained with ganzoo's own components, which come first
    for spec, config in sorted(configs, key=lambda each: len(subject.partners(each[1]))):
        try:
            _train(subject, config, spec)
        except MissingError:
            raise
        except AssertionError as err:
            _blame(subject, config, alone, err)
            raise
        except Exception as err:
            _blame(subject, config, alone, err)
            subject.expect(
                False,
                f"fails when it trains with {_words(config)} on {spec} ({_what(err)})",
                "mend it, or refuse the combination by a Rule of the component",
            )
        alone = alone or not subject.partners(config)
    subject.expect(configs, "is refused in every combination", "loosen its rules, or say specs= to checks_for()")


def _configurations(subject: Subject) -> Iterator[tuple[Spec, RunConfig]]:
    """The tasks, and the runs that no rule refuses: with ganzoo's own networks, and with those of its own recipe."""
    for spec, settings in itertools.product(_tasks(subject), _mixes(subject)):
        config = subject.configuration(spec, **settings)
        if config is None:
            continue
        yield spec, config
        usual = next(subject.configurations(**settings))
        if _words(usual) != _words(config) and not usual.plan(spec).broken_rules():
            yield spec, usual


def _blame(subject: Subject, config: RunConfig, alone: bool, err: Exception) -> None:
    """Tell of a partner that does not ship with ganzoo, if the component trains well ``alone`` with those that do."""
    partners = " and ".join(subject.partners(config))
    subject.expect(
        not (partners and alone),
        f"trains with ganzoo's own components, but not beside the {partners} ({_what(err)})",
        f"check the {partners} first, by itself",
    )


def _what(err: Exception) -> str:
    return f"{type(err).__name__}: {' '.join(str(err).split())}"


def _train(subject: Subject, config: RunConfig, spec: Spec) -> None:
    data: Dataset = build(config.data, config.spec()) if subject.kind == "dataset" else noise(spec)
    session = Session(config, data)
    sides = (session.bundle.gen_side, session.bundle.disc_side)
    before = [{name: value.clone() for name, value in side.state_dict().items()} for side in sides]
    where = f"with {_words(config)} on {spec}"
    for metrics in session.take(_STEPS):
        missing = [name for name in _REQUIRED if name not in metrics]
        subject.expect(
            not missing,
            f"reports no {' and no '.join(missing)} {where}",
            "return them from step(), as every trainer does",
        )
        odd = [name for name, value in metrics.items() if not math.isfinite(value)]
        subject.expect(
            not odd, f"comes to {', '.join(odd)} that is not finite {where}", "lower its default learning rate"
        )
    for word, side, old in zip(("generator", "discriminator"), sides, before, strict=True):
        fine = all(torch.isfinite(value).all() for value in side.state_dict().values())
        subject.expect(fine, f"leaves a {word} that is not finite {where}", "look at its gradients")
        subject.expect(
            not equal(old, side.state_dict()), f"leaves the {word} as it was {where}", "let both sides take a step"
        )


def _tasks(subject: Subject) -> list[Spec]:
    if subject.kind == "dataset":
        return [next(subject.configurations()).spec()]  # its own recipe may set its options
    return examples(subject.specs or tuple(tasks_of(subject)))


def examples(specs: tuple[Spec, ...]) -> list[Spec]:
    """The first task of images and the first of points, with labels where there are such."""
    found = []
    for images in (True, False):
        of_kind = sorted((s for s in specs if s.is_image == images), key=lambda s: (s.num_classes is None, s.numel))
        found += of_kind[:1]
    return found


def _mixes(subject: Subject) -> Iterator[dict[str, Any]]:
    if subject.kind == "dataset":
        yield {}
        return
    losses = [None] if subject.kind == "loss" else subject.others("loss")
    trainers = [None] if subject.kind == "trainer" else subject.others("trainer")
    for loss, trainer in itertools.product(losses, trainers):
        yield {key: value for key, value in (("loss", loss), ("trainer", trainer)) if value is not None}


def _words(config: RunConfig) -> str:
    parts = {name: getattr(config, name).id for name in SECTION_OF.values() if name not in ("reg", "data")}
    return ", ".join(f"{section} {name}" for section, name in parts.items())


def _session(subject: Subject, spec: Spec) -> Session:
    config = subject.configuration(spec)
    if config is None:
        raise AssertionError(f"{subject} is refused with every pair of networks for {spec}; loosen its rules.")
    return Session(config, noise(spec))


def reports_metrics(subject: Subject) -> None:
    """A step returns detached scalars, ``loss_d`` and ``loss_g`` among them."""
    session = _session(subject, task_of(subject))
    session.bundle.begin(0)
    metrics = session.trainer.step(session.stream)
    missing = [name for name in _REQUIRED if name not in metrics]
    subject.expect(not missing, f"reports no {' and no '.join(missing)}", "return both totals from step()")
    for name, value in metrics.items():
        subject.expect(
            is_scalar(value), f"reports {name} as what is no scalar tensor", "take its mean, and leave it on the device"
        )
        subject.expect(
            not value.requires_grad, f"reports {name} with its graph", "detach it: the graph keeps all memory"
        )


def repeats_itself(subject: Subject) -> None:
    """The same seed gives the same weights, bit by bit."""
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        session = _session(subject, task_of(subject))
        session.take(_STEPS)
        states.append(session.state()["modules"])
    same = all(equal(one, other) for one, other in zip(*states, strict=True))
    subject.expect(
        same, "trains to other weights with the same seed", "draw random numbers with self.bundle.noise.rng alone"
    )


def resumes_exactly(subject: Subject) -> None:
    """A run that is saved and resumed goes on bit by bit as if nothing had happened."""
    if subject.kind == "loss" and uses_real_unsaid(subject.build(task_of(subject))):
        return  # told by a promise of its own
    before, after = _LAZY_STEPS if subject.kind == "regularizer" else (1, 2)
    straight, begun, resumed = (_session(subject, task_of(subject)) for _ in range(3))
    straight.take(before + after)
    begun.take(before)
    state = begun.state()
    odd = [name for name, value in state["trainer"].items() if not isinstance(value, torch.Tensor)]
    subject.expect(not odd, f"keeps what is no tensor in its state_dict ({', '.join(odd)})", "return tensors alone")
    resumed.restore(state)
    resumed.take(after)
    same = all(
        equal(one, other) for one, other in zip(straight.state()["modules"], resumed.state()["modules"], strict=True)
    )
    remedy = (
        "return every tensor that the next step depends on from state_dict(), and take it back in load_state_dict()"
        if subject.kind == "trainer"
        else "keep what it counts or remembers in a buffer (register_buffer), which is saved with the run"
    )
    subject.expect(same, "does not go on as if nothing had happened after a run is resumed", remedy)


OF_TRAINERS: Final = (reports_metrics, repeats_itself, resumes_exactly)
