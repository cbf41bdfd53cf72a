"""Promises of losses and regularizers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final

import torch
from torch import Tensor, nn

from ganzoo.api import NEEDS_SAMPLE_GRADIENTS, Spec
from ganzoo.nn import Batch, Bundle, CriticPass, Loss, Regularizer
from ganzoo.nn.objectives import learned
from ganzoo.testing.networks import check_safetensors, equal
from ganzoo.testing.subject import SPECS, Subject
from ganzoo.testing.training import Session, noise

POINTS: Final = Spec((2,))
IMAGES: Final = Spec((1, 8, 8), 3)
_BATCH: Final = 8
_HUGE: Final = 1e4
_LAZY: Final = 64
"""Passes that a regularizer may leave out between two penalties."""
_SCALES: Final = (1.0, 4.0, 16.0, 64.0)
_OF_MODULES: Final = frozenset(vars(nn.Module()))


def _logits(center: float, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (center + 0.1 * torch.randn(_BATCH, generator=rng)).requires_grad_()


def uses_real_unsaid(loss: Loss) -> bool:
    """Whether it looks at the logits of reals in ``generator()`` without ``uses_real``; told once, by a promise."""
    if loss.uses_real:
        return False
    try:
        loss.generator(_logits(-0.5, 2), None)
    except Exception:
        try:
            loss.generator(_logits(-0.5, 2), _logits(0.5, 1))
        except Exception:
            return False
        return True
    return False


def _generator(loss: Loss, fake: Tensor, real: Tensor) -> Tensor:
    return loss.generator(fake, real if loss.uses_real or uses_real_unsaid(loss) else None)


_MEAN: Final = "take the mean over the batch"


def is_scalar(value: object) -> bool:
    """Whether it is a tensor of no dimensions."""
    return isinstance(value, Tensor) and value.dim() == 0


def _what(value: object) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def says_whether_it_uses_reals(subject: Subject) -> None:
    """With ``uses_real`` the generator's term gets the logits of reals, and None otherwise."""
    subject.expect(
        not uses_real_unsaid(subject.build(task_of(subject))),
        "looks at the logits of reals in generator(), and gets None",
        "set uses_real = True in its class",
    )


def returns_scalars(subject: Subject) -> None:
    """Both objectives are scalars in the graph of the logits."""
    loss: Loss = subject.build(task_of(subject))
    real, fake = _logits(0.5, 1), _logits(-0.5, 2)
    for name, term in (("discriminator", loss.discriminator(real, fake)), ("generator", _generator(loss, fake, real))):
        subject.expect(is_scalar(term), f"returns from {name}() {_what(term)}, not a scalar", _MEAN)
        subject.expect(
            term.dtype == torch.float32, f"returns {term.dtype} from {name}()", "keep the type of the logits"
        )
        subject.expect(
            term.requires_grad, f"returns from {name}() what no gradient leads through", "do not detach the logits"
        )


def pulls_logits_the_right_way(subject: Subject) -> None:
    """The discriminator raises real logits and lowers those of fakes; the generator raises those of fakes."""
    loss: Loss = subject.build(task_of(subject))
    real, fake = _logits(-0.5, 1), _logits(0.5, 2)
    on_real, on_fake = _gradients(loss.discriminator(real, fake), real, fake)
    subject.expect(
        on_real.sum() < 0 < on_fake.sum(),
        "does not teach the discriminator to be high on reals and low on fakes",
        "turn the sign of its discriminator term: logits are high on real for every loss",
    )
    real, fake = _logits(0.5, 1), _logits(-0.5, 2)
    (on_fake,) = _gradients(_generator(loss, fake, real), fake)
    subject.expect(
        on_fake.sum() < 0,
        "does not teach the generator to raise the logits of its samples",
        "turn the sign of its generator term, which is minimised",
    )


def _gradients(term: Tensor, *wrt: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(term, wrt, allow_unused=True, materialize_grads=True)


def stays_finite_for_huge_logits(subject: Subject) -> None:
    """Values and gradients are finite for logits as large as an unbounded critic gives."""
    loss: Loss = subject.build(task_of(subject))
    for a in (-_HUGE, 0.0, _HUGE):
        for b in (-_HUGE, 0.0, _HUGE):
            real, fake = (torch.full((_BATCH,), value).requires_grad_() for value in (a, b))
            terms: dict[str, Tensor] = {
                "discriminator": loss.discriminator(real, fake),
                "generator": _generator(loss, fake, real),
            }
            for name, term in terms.items():
                fine = torch.isfinite(term) and all(torch.isfinite(grad).all() for grad in _gradients(term, real, fake))
                subject.expect(
                    fine,
                    f"is not finite in {name}() for logits of {a:g} (reals) and {b:g} (fakes)",
                    "use softplus, logsigmoid or logsumexp instead of log, exp and sigmoid",
                )


def is_zero_sum_as_declared(subject: Subject) -> None:
    """With ``zero_sum`` the generator's gradient is minus the discriminator's."""
    loss: Loss = subject.build(task_of(subject))
    if not loss.zero_sum:
        return
    real, fake = _logits(0.3, 1), _logits(-0.2, 2)
    (ours,) = _gradients(_generator(loss, fake, real), fake)
    (theirs,) = _gradients(loss.discriminator(real, fake), fake)
    subject.expect(
        torch.allclose(ours, -theirs, atol=1e-6),
        "declares zero_sum, and its generator term is not minus its discriminator term",
        "leave zero_sum at False, which trainers take as it is",
    )


def keeps_its_state(subject: Subject) -> None:
    """Parameters and buffers are built from the seed and survive a safetensors file."""
    first, second, fresh = (subject.build(task_of(subject), seed) for seed in (0, 0, 1))
    subject.expect(
        equal(first.state_dict(), second.state_dict()),
        "has other initial values for the same seed",
        "draw them with torch's default generator",
    )
    check_safetensors(subject, first, fresh)


def tasks_of(subject: Subject) -> list[Spec]:
    """The first task of images that no rule refuses and the first one of points, as far as there are such."""
    tasks = (*subject.specs, IMAGES, POINTS, Spec(IMAGES.shape), *SPECS)
    firsts = (
        next((task for task in tasks if task.is_image == images and subject.configuration(task) is not None), None)
        for images in (True, False)
    )
    return [task for task in firsts if task is not None]


def task_of(subject: Subject) -> Spec:
    """A task that the component can be tried with: images with labels, unless its rules refuse them."""
    tasks = tasks_of(subject)
    subject.expect(tasks, "is refused with every task that is tried and every pair of networks", "loosen its rules")
    return tasks[0]


@dataclass
class _Watched(CriticPass):
    """A look of the critic that remembers which gradients it was asked for."""

    asked: list[str] = field(default_factory=list)

    def real_gradient(self) -> Tensor:
        self.asked.append("real_gradient()")
        return super().real_gradient()

    def fake_gradient(self) -> Tensor:
        self.asked.append("fake_gradient()")
        return super().fake_gradient()

    def gradient_at(self, x: Tensor, y: Tensor | None) -> Tensor:
        self.asked.append("gradient_at()")
        return super().gradient_at(x, y)


def _watched(seen: CriticPass) -> _Watched:
    return _Watched(**{part.name: getattr(seen, part.name) for part in fields(seen)})


def _critic_pass(subject: Subject, spec: Spec, scale: float = 1.0) -> tuple[Bundle, _Watched]:
    """New networks and a look of the critic, whose parameters are ``scale`` times as large as they are built."""
    config = subject.configuration(spec)
    if config is None:
        raise AssertionError(f"{subject} is refused with every pair of networks for {spec}; loosen its rules.")
    session = Session(config, noise(spec))
    bundle = session.bundle
    bundle.begin(0)
    real = session.stream.next()
    with torch.no_grad():
        fake = bundle.generate(len(real.x), real.y)
        for parameter in learned(bundle.disc).values():
            parameter.mul_(scale)
    return bundle, _watched(bundle.critic_pass(real, Batch(fake.x.detach(), fake.y)))


def _next_penalty(reg: Regularizer, critic_pass: CriticPass) -> Tensor | None:
    """Its next penalty, for which a lazy one counts some passes."""
    for _ in range(_LAZY):
        before = _memory(reg, critic_pass)
        found = reg.penalty(critic_pass)
        if found is not None or _memory(reg, critic_pass) == before:
            return found
    return None


def _memory(reg: Regularizer, critic_pass: CriticPass) -> dict[str, object]:
    """All that it may count with, or leave to chance."""
    plain = {name: repr(value) for name, value in vars(reg).items() if name not in _OF_MODULES}
    rng = None if critic_pass.rng is None else critic_pass.rng.get_state().tolist()
    return {**plain, **{name: value.tolist() for name, value in reg.state_dict().items()}, "rng": rng}


def does_something(subject: Subject) -> None:
    """It has a penalty, a constraint, or both."""
    task = task_of(subject)
    target = type(subject.build(task))
    own = [name for name in ("penalty", "project", "after_step") if _overrides(target, name)]
    subject.expect(own, "has neither a penalty nor a constraint", "write penalty(critic_pass) or project(parameters)")
    if own != ["penalty"]:
        return
    for scale in _SCALES:
        bundle, critic_pass = _critic_pass(subject, task, scale)
        reg = bundle.regularizers[-1]
        before = _memory(reg, critic_pass)
        if _next_penalty(reg, critic_pass) is not None or _memory(reg, critic_pass) != before:
            return
    subject.expect(False, "returns None from penalty() every time", "end penalty() in return; did you forget it?")


def _overrides(target: type[Regularizer], name: str) -> bool:
    return getattr(target, name) is not getattr(Regularizer, name)


def asks_for_gradients_as_declared(subject: Subject) -> None:
    """What takes the critic's gradient at samples has the trait NEEDS_SAMPLE_GRADIENTS."""
    task = task_of(subject)
    bundle, critic_pass = _critic_pass(subject, task)
    if subject.kind == "loss":
        if uses_real_unsaid(bundle.loss):
            return  # told by a promise of its own
        parts = bundle.regularizers[: len(bundle.loss.regularizers())]
        bundle.loss.discriminator_terms(critic_pass)
        bundle.loss.generator_terms(critic_pass)
    else:
        parts = bundle.regularizers[-1:]
    for reg in parts:
        _next_penalty(reg, critic_pass)
    wanted = [*critic_pass.asked, *(f"the gradient at the {where}s" for reg in parts for where in reg.differentiates)]
    declared = NEEDS_SAMPLE_GRADIENTS in subject.entry.component.traits_of(subject.choice.config, task)
    subject.expect(
        declared or not wanted,
        f"uses {' and '.join(wanted[:1])} and does not declare the trait NEEDS_SAMPLE_GRADIENTS",
        "add traits=(NEEDS_SAMPLE_GRADIENTS,) and rules=SAMPLE_GRADIENT_RULES, which refuse critics without such ones",
    )


def has_a_finite_penalty(subject: Subject) -> None:
    """The penalty is a finite scalar, a gradient leads from it to the critic, and its random numbers are the run's."""
    for spec in tasks_of(subject):
        teaches = True
        for scale in _SCALES:  # one that starts at a limit is 0 for a small critic, and rightly teaches it nothing
            penalty, grads = _penalty(subject, spec, scale)
            if penalty is not None:
                teaches = any(grad.count_nonzero() for grad in grads)
                if teaches or penalty.count_nonzero():
                    break
        subject.expect(
            teaches,
            "has a penalty that teaches the critic nothing",
            "compute it from critic_pass's logits, or from critic_pass.gradient_at()",
        )


def _penalty(subject: Subject, spec: Spec, scale: float) -> tuple[Tensor | None, tuple[Tensor, ...]]:
    """A penalty of a critic of this scale and its gradients, all of them finite; None without one."""
    values: list[Tensor] = []
    for _ in range(2):
        bundle, critic_pass = _critic_pass(subject, spec, scale)
        torch.manual_seed(len(values))  # the run's random numbers are critic_pass.rng
        found = _next_penalty(bundle.regularizers[-1], critic_pass)
        if found is None:
            return None, ()
        values.append(found)
    penalty = values[-1]
    subject.expect(is_scalar(penalty), f"returns a penalty of {_what(penalty)}, not a scalar", _MEAN)
    subject.expect(torch.isfinite(penalty), f"has the penalty {penalty.item():g}", "look for a square root at zero")
    subject.expect(
        torch.equal(values[0], values[1]),
        "has another penalty for the same seed",
        "draw random numbers with generator=critic_pass.rng",
    )
    grads = _gradients(penalty, *learned(bundle.disc).values())
    finite = all(torch.isfinite(grad).all() for grad in grads)
    subject.expect(finite, "has a penalty whose gradient is not finite", "use sample_norms(), which has no sqrt at 0")
    return penalty, grads


def keeps_names_and_shapes(subject: Subject) -> None:
    """The constraint gives new tensors of the same names, shapes and types, and ``after_step`` puts them in place."""
    bundle, _ = _critic_pass(subject, task_of(subject))
    reg = bundle.regularizers[-1]
    parameters = learned(bundle.disc)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    project: Callable[[Any], dict[str, Tensor] | None] = reg.project
    projected = project({name: 3 * value for name, value in parameters.items()})
    if projected is None:
        return
    unknown = projected.keys() - parameters.keys()
    subject.expect(not unknown, f"constrains the unknown {', '.join(sorted(unknown))}", "return names it was given")
    for name, value in projected.items():
        layout = (value.shape, value.dtype)
        fits = layout == (before[name].shape, before[name].dtype) and torch.isfinite(value).all()
        subject.expect(
            fits, f"makes another shape or type of {name}, or no number", "return a tensor like the one given"
        )
    subject.expect(
        equal(before, {name: value.detach() for name, value in parameters.items()}),
        "changes the parameters it is given",
        "return new tensors from project(): the unrolled trainer differentiates it",
    )
    wanted = {**before, **{name: value.detach() for name, value in (project(parameters) or {}).items()}}
    reg.after_step(bundle.disc)
    now = {name: value.detach() for name, value in learned(bundle.disc).items()}
    subject.expect(
        all(torch.allclose(value, wanted[name]) for name, value in now.items()),
        "puts something else on the discriminator in after_step() than project() gives",
        "leave after_step() as it is inherited, or make it the same in place",
    )


OF_LOSSES: Final = (
    says_whether_it_uses_reals,
    returns_scalars,
    pulls_logits_the_right_way,
    stays_finite_for_huge_logits,
    is_zero_sum_as_declared,
    asks_for_gradients_as_declared,
    keeps_its_state,
)
OF_REGULARIZERS: Final = (
    does_something,
    has_a_finite_penalty,
    asks_for_gradients_as_declared,
    keeps_names_and_shapes,
    keeps_its_state,
)
