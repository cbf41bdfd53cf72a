"""One small batch through everything before the first step: what a plugin gets wrong is told in its author's words.

The shapes that a contract asks for are cheap to check once and costly to guess from what happens later: logits
``[B, 1]`` broadcast, and train something else without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo import processes
from ganzoo.api import Choice, Spec
from ganzoo.blame import faulty
from ganzoo.config import RunConfig
from ganzoo.data import Dataset, DataStream
from ganzoo.errors import GanzooError, UsageError
from ganzoo.nn import Batch, Bundle, Trainer
from ganzoo.nn.buffers import unchanged_buffers
from ganzoo.nn.bundle import derive_seed
from ganzoo.nn.weights import can_be_saved, layouts_of
from ganzoo.registry import build

_BATCH = 4
_DRAWN = 16
"""Batches of an endless data set whose labels are looked at."""
_TAKEN = frozenset({"loss", "loss_d", "loss_g", "d_real", "d_fake", "step", "images", "seconds", "steps_per_second"})
"""Names in the metrics of a run that no term may have."""


def check_contracts(config: RunConfig, bundle: Bundle, dataset: Dataset, device: torch.device) -> None:
    """Refuse a run whose data, networks or objectives do not give what their contracts say.

    Nothing of the run changes: networks are looked at in evaluation mode, buffers are put back, and all random numbers
    are seeded anew at each step anyway.

    Raises:
        GanzooError: one of them does; the sentence names the component and its package.
        UsageError: a network cannot be trained on as few samples as a batch has.
    """
    bundle.noise.begin(0)
    batch = DataStream(dataset, _BATCH, derive_seed(config.run.seed, "probe"), device).next()
    _check_batch(config.data, batch, dataset, bundle.spec)
    modules = [bundle.gen_side, bundle.disc_side]
    _check_what_is_saved(config, bundle)
    names = saved_names(config, bundle)
    with undisturbed(modules):
        with torch.no_grad(), bundle.precision.autocast():
            z = bundle.gen.latent(_BATCH, bundle.noise.rng)
            x = bundle.gen(z, batch.y)
            _check(config.gen, x, (_BATCH, *bundle.spec.shape), "samples [B, *spec.shape]")
            _check(config.disc, bundle.disc(x.float(), batch.y), (_BATCH,), "logits [B]: end forward() in .squeeze(1)")
        _check_objectives(config, bundle, batch, Batch(x.float(), batch.y))
        check_nothing_came_late(config, bundle, names)
        if config.run.batch_size == processes.place().world:
            _check_one_alone(config, bundle, z, Batch(x.float(), batch.y))


def not_finite(config: RunConfig, bundle: Bundle, trainer: Trainer) -> dict[str, GanzooError]:
    """What a checkpoint could not give back, as it takes numbers that are not finite for a run that diverged.

    Returns:
        place -> the error that its component saves such numbers, which are none that it learns.
    """
    parts = parts_of(config, bundle)
    held = [(choice, module.state_dict(), dict(module.named_parameters())) for choice, module in parts]
    found = {}
    for choice, tensors, learned in (*held, (config.trainer, trainer.state_dict(), dict[str, Any]())):
        for name, value in tensors.items():
            if name not in learned and value.is_floating_point() and not torch.isfinite(value).all():
                remedy = "leave it out of state_dict() (a buffer: persistent=False), or make it finite"
                found[f"{choice.id}/{name}"] = faulty(choice, f"saves numbers that are not finite in {name!r}", remedy)
    return found


def _check_what_is_saved(config: RunConfig, bundle: Bundle) -> None:
    """Refuse what no checkpoint can hold."""
    for choice, module in parts_of(config, bundle):
        for name, value in module.state_dict().items():
            if not isinstance(value, Tensor):
                remedy = "keep it in a buffer, or let get_extra_state() return a tensor"
                raise faulty(choice, f"saves {name!r}, a {type(value).__name__} and no tensor", remedy)
            if not can_be_saved(value):
                remedy = "give it another type, or leave it out of state_dict() (a buffer: persistent=False)"
                kind = value.dtype if value.layout == torch.strided else value.layout
                raise faulty(choice, f"saves {name!r} as {kind}, which no checkpoint holds", remedy)


def checked_metrics(trainer: Choice, metrics: object) -> dict[str, Tensor]:
    """What a trainer's step returned, if lines of metrics can be made of it; the device is not waited for.

    Raises:
        GanzooError: they cannot.
    """
    if not isinstance(metrics, dict):
        remedy = "return a dict of detached scalars, at least loss_d and loss_g"
        raise faulty(trainer, f"returns {_said(metrics)} from step()", remedy)
    for name, value in metrics.items():
        if not isinstance(value, Tensor) or value.dim():
            does = f"returns {_said(value)} from step() as {name!r}, not a scalar"
            raise faulty(trainer, does, "return its mean, detached, and leave it on the device: .item() waits for that")
    return metrics


def check_state(trainer: Choice, state: object) -> None:
    """Refuse what no checkpoint holds of a trainer.

    Raises:
        GanzooError: it saves something else than tensors.
    """
    if not isinstance(state, Mapping):
        raise faulty(trainer, f"returns {_said(state)} from state_dict()", "return a dict of tensors")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            remedy = "make it one in state_dict(), and take it back in load_state_dict()"
            raise faulty(trainer, f"saves {name!r}, {_said(value)} and no tensor", remedy)


def saved_names(config: RunConfig, bundle: Bundle) -> list[frozenset[str]]:
    """What each module of a run saves, by name."""
    return [frozenset(module.state_dict()) for _, module in parts_of(config, bundle)]


def check_nothing_came_late(
    config: RunConfig, bundle: Bundle, before: Sequence[frozenset[str]]
) -> list[frozenset[str]]:
    """Refuse a module that has begun to save more than :func:`saved_names` told before its first step.

    Returns:
        What they save now.

    Raises:
        GanzooError: one does, and a new one does not take it back.
    """
    for (choice, module), names in zip(parts_of(config, bundle), before, strict=True):
        late = sorted(module.state_dict().keys() - names)
        if late and not comes_back(choice, module, bundle.spec):
            does = f"makes {late[0]!r} in forward(), and no checkpoint with it could be read back"
            raise faulty(choice, does, "make it in __init__, with persistent=False if it need not be kept")
    return saved_names(config, bundle)


def comes_back(choice: Choice, module: nn.Module, spec: Spec, *, exactly: bool = False) -> bool:
    """Whether a new module of the kind reads the state of one, as it may do in a way of its own.

    Args:
        choice: what builds it.
        module: whose state it is.
        spec: the task.
        exactly: whether the new one must hold it in the same types and shapes, too, which can only be seen of what the
            component builds by itself; a part of one counts as read otherwise.
    """
    with torch.random.fork_rng(devices=[]):
        fresh: nn.Module = build(choice, spec)
    if type(fresh) is not type(module):
        return not exactly
    saved = module.state_dict()
    try:
        fresh.load_state_dict(saved)
    except RuntimeError:
        return False
    return not exactly or layouts_of(fresh.state_dict()) == layouts_of(saved)


def parts_of(config: RunConfig, bundle: Bundle) -> Iterator[tuple[Choice, nn.Module]]:
    """Every module of a run, with the component that brings it."""
    own = len(bundle.regularizers) - len(config.regs)
    of_regs = [*[config.loss] * own, *config.regs]
    yield from ((config.gen, bundle.gen), (config.disc, bundle.disc), (config.loss, bundle.loss))
    yield from zip(of_regs, bundle.regularizers, strict=True)


def _check_batch(data: Choice, batch: object, dataset: Dataset, spec: Spec) -> None:
    method = "draw" if dataset.length is None else "fetch"
    if not isinstance(batch, Batch):
        wanted = "return ganzoo.data.Batch(x, y), where y is None without labels"
        raise faulty(data, f"returns {_said(batch)} from {method}(), not a Batch", wanted)
    wanted = "samples [B, *spec.shape], as spec= of its Component says"
    _check(data, batch.x, (_BATCH, *spec.shape), wanted, f"{method}()")
    if batch.x.dtype != torch.float32:
        raise faulty(
            data, f"returns samples of {batch.x.dtype} from {method}()", "convert them to float32; see to_unit()"
        )
    if (batch.y is None) is not (spec.num_classes is None):
        said = "no labels" if batch.y is None else "labels"
        raise faulty(
            data,
            f"returns {said} from {method}() where its spec has num_classes={spec.num_classes}",
            "leave labels out if and only if self.spec.num_classes is None",
        )
    if batch.y is not None:
        _check(data, batch.y, (_BATCH,), "labels [B] of torch.int64", f"{method}()")
        if batch.y.dtype != torch.int64:
            raise faulty(data, f"returns labels of {batch.y.dtype} from {method}()", "make them torch.int64")
        labels = _many_labels(dataset, batch.x.device) if dataset.length is None else batch.y
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= (spec.num_classes or 0):
            does = f"returns labels from {low} to {high} from {method}() where its spec has {spec.num_classes} classes"
            raise faulty(data, does, "count them from 0, and let num_classes be their number")


def _many_labels(dataset: Dataset, device: torch.device) -> Tensor:
    """Of an endless data set, all of which nobody has looked at: enough that a class too many is hardly missed."""
    rng = torch.Generator(device).manual_seed(derive_seed("labels"))
    drawn = [dataset.draw(_BATCH, rng).y for _ in range(_DRAWN)]
    return torch.cat([y for y in drawn if y is not None])


def _check_objectives(config: RunConfig, bundle: Bundle, real: Batch, fake: Batch) -> None:
    loss, critic_pass = bundle.loss, bundle.critic_pass(real, fake)
    bundle.critic_steps(1)  # asked at the start of every step, so a loss may look at the step there
    _check_terms(config.loss, loss.discriminator_terms(critic_pass), "discriminator")
    own = len(loss.regularizers())
    for at, regularizer in enumerate(bundle.regularizers):
        choice = config.loss if at < own else config.regs[at - own]
        if regularizer.name in _TAKEN:
            raise faulty(choice, f"has the name {regularizer.name!r} of another metric", "give it a name of its own")
        penalty = regularizer.penalty(critic_pass)
        if penalty is not None:
            _check(choice, penalty, (), "a scalar: take the mean over the batch", "penalty()")
    try:
        terms = loss.generator_terms(bundle.generator_pass(fake, real if loss.uses_real else None))
    except Exception:
        if not loss.uses_real and _works(lambda: loss.generator(critic_pass.fake_logits, critic_pass.real_logits)):
            raise faulty(
                config.loss,
                "looks at the logits of reals in generator(), and gets none",
                "set uses_real = True in its class",
            ) from None
        raise
    _check_terms(config.loss, terms, "generator")


@torch.no_grad()
def _check_one_alone(config: RunConfig, bundle: Bundle, z: Tensor, fake: Batch) -> None:
    """Whether the networks can be trained on a single sample, which a norm over the batch cannot."""
    sides: tuple[tuple[Choice, nn.Module, Tensor], ...]
    sides = (config.gen, bundle.gen, z), (config.disc, bundle.disc, fake.x)
    for choice, network, given in sides:
        network.train()

        def works(n: int, network: nn.Module = network, given: Tensor = given) -> bool:
            return _works(lambda: network(given[:n], None if fake.y is None else fake.y[:n]))

        if not works(1) and works(_BATCH):
            each = " for each process" if processes.place().world > 1 else ""
            least = 2 * config.run.batch_size
            raise UsageError(
                f"The {choice.component.kind} {choice.name} cannot be trained on one sample{each}, because it has a "
                f"norm over the batch: set --batch-size to at least {least}, or choose another norm."
            )


def _works(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:
        return False
    return True


def _check_terms(choice: Choice, terms: object, method: str) -> None:
    if not isinstance(terms, dict) or not terms:
        raise faulty(choice, f"returns {_said(terms)} from {method}_terms()", "return a dict of scalars by name")
    for name, term in terms.items():
        if name in _TAKEN - {"loss"}:  # which is the usual one, and stands in no metrics under that name
            does = f"returns a term {name!r} from {method}_terms(), the name of another metric"
            raise faulty(choice, does, "give it a name of its own")
        which = f"{method}()" if name == "loss" else f"{method}_terms() as {name}"
        _check(choice, term, (), "a scalar: take the mean over the batch", which)


def _check(choice: Choice, value: object, shape: tuple[int, ...], wanted: str, method: str = "forward()") -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        due = f"{shape} for a batch of {_BATCH}" if shape else "a scalar"
        raise faulty(choice, f"returns {_said(value)} from {method}, not {due}", f"return {wanted}")


def _said(value: object) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


@contextmanager
def undisturbed(modules: Collection[nn.Module]) -> Iterator[None]:
    """Evaluation mode, and buffers and modes as they were afterwards."""
    every = [module for side in modules for module in side.modules()]
    modes = [module.training for module in every]
    for module in every:
        module.training = False
    try:
        with unchanged_buffers(*modules):
            yield
    finally:
        for module, mode in zip(every, modes, strict=True):
            module.training = mode
