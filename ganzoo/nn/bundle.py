"""Everything a trainer needs, behind a handful of verbs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganzoo.api import Spec
from ganzoo.nn.buffers import fill_memory, in_shared_memory
from ganzoo.nn.communication import Communication, Solo
from ganzoo.nn.contracts import Discriminator, Generator
from ganzoo.nn.critic_pass import Critic, CriticPass
from ganzoo.nn.guard import Guard, step_unless
from ganzoo.nn.objectives import Loss, Regularizer
from ganzoo.nn.precision import IDLE, PlainAttention, Precision, Scaler


class Batch(NamedTuple):
    """Samples ``x [B, *shape]`` and their labels ``y [B]`` int64, or None."""

    x: Tensor
    y: Tensor | None = None


class Stream(Protocol):
    """An endless, reproducible sequence of real batches on the device."""

    def next(self) -> Batch:
        """The next full batch, images in [-1, 1]."""


class Noise:
    """Random numbers as a function of (seed, step, rank): there is no generator state to save.

    ``rng`` serves latents and penalties. torch's default generator is seeded along, for layers such as dropout. A run
    that went back and tries again draws other ones, by its ``attempt``.
    """

    def __init__(self, seed: int, device: torch.device, rank: int = 0) -> None:
        self.seed = seed
        self.rank = rank
        self.attempt = 0
        self.rng = torch.Generator(device)

    def begin(self, step: int) -> None:
        """Start the random numbers of a step."""
        which = (step, self.rank, "attempt", self.attempt) if self.attempt else (step, self.rank)
        self.rng.manual_seed(derive_seed(self.seed, "noise", *which))
        self._seed_layers("layers", *which)

    def begin_alike(self, what: str) -> None:
        """Start torch's default generators for something that is made once, alike in all processes."""
        self._seed_layers(what)

    def _seed_layers(self, *words: object) -> None:
        seed = derive_seed(self.seed, *words)
        torch.default_generator.manual_seed(seed)
        if self.rng.device.type != "cpu":
            # torch.manual_seed would do both, but where CUDA is absent it records a stack trace at every call.
            torch.get_device_module(self.rng.device).manual_seed(seed)


def derive_seed(*words: object) -> int:
    """A 63-bit seed that depends on every word."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Side(nn.Module):
    """One player: every module that learns with it, and its optimiser.

    As a module it holds them all, and its ``forward`` calls a function; so ``functional_call(side, tensors, (f,))``
    evaluates ``f()``, whatever methods that uses, with other parameters in their place.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        make_optimizer: Callable[[list[Tensor]], Optimizer],
        rate: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        fill_memory(self)
        self.trainable: list[Tensor] = [p for p in self.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(self.trainable)
        self.scaler: Scaler | None = None
        self._is_scaled = False
        self._rate = rate

    def begin(self, step: int) -> None:
        """Set the learning rate of a step, where it is not the same for all."""
        if self._rate is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(step)

    def backward(self, total: Tensor) -> None:
        """Put the gradients of ``total`` into ``.grad``, multiplied by the scale if there is one."""
        for p in self.trainable:
            p.grad = None
        self._is_scaled = self.scaler is not None
        scaled = total if self.scaler is None else total * self.scaler.scale
        # Only this side's parameters are differentiated: the other player's weight gradients are never computed.
        torch.autograd.backward(scaled, inputs=self.trainable)

    def unscale(self) -> tuple[Tensor, Tensor] | None:
        """Take the scale out of ``.grad``; see ``Scaler.unscale``. None where :meth:`backward` put none in."""
        if self.scaler is None or not self._is_scaled:
            return None
        self._is_scaled = False
        return self.scaler.unscale([p.grad for p in self.trainable if p.grad is not None])

    def forward(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` while these modules hold whatever tensors the caller put in place."""
        return function()


def _nothing() -> None:
    pass


class Bundle:
    """Networks, objectives, optimisers, noise, precision and communication of one run.

    Attributes:
        apart: why the critic looks at reals and fakes one after the other; empty if it may look at both in one pass,
            as one that treats each sample by itself may. Apart unless set.
        broken: counts losses that were not finite, on the device, where there is no guard.
        guard: leaves out updates that are not finite, if the run asks for that.
        poll: called now and then within a step, for a run that must stop soon; it may raise.

    ``gen_rate`` and ``disc_rate`` give the learning rate at a step; it stays that of the optimiser unless given.
    """

    def __init__(
        self,
        *,
        spec: Spec,
        gen: Generator,
        disc: Discriminator,
        loss: Loss,
        regularizers: Sequence[Regularizer],
        gen_optimizer: Callable[[list[Tensor]], Optimizer],
        disc_optimizer: Callable[[list[Tensor]], Optimizer],
        noise: Noise,
        precision: Precision,
        communication: Communication | None = None,
        gen_rate: Callable[[int], float] | None = None,
        disc_rate: Callable[[int], float] | None = None,
    ) -> None:
        self.spec = spec
        self.gen, self.disc, self.loss = gen, disc, loss
        self._call_gen: Callable[..., Any] = gen
        self._call_disc: Callable[..., Any] = disc
        self._on_begin: Callable[[], None] = _nothing
        self._is_rearranged = False
        self.apart = "this was not looked into"
        self.regularizers = (*(reg.to(noise.rng.device) for reg in loss.regularizers()), *regularizers)
        self.gen_side = Side({"gen": gen}, gen_optimizer, gen_rate)
        regs = {f"reg{i}": reg for i, reg in enumerate(self.regularizers)}
        self.disc_side = Side({"disc": disc, "loss": loss, **regs}, disc_optimizer, disc_rate)
        self.noise = noise
        self.precision = precision
        self.communication: Communication = communication or Solo()
        self.step = 0
        self.broken = torch.zeros((), device=noise.rng.device)
        self._places: list[dict[str, Tensor | None]] = []
        self.guard: Guard | None = None
        self.poll: Callable[[], None] = _nothing
        self._twice: list[list[bool]] = []  # of each pass since the last backward one, whether it may be needed twice
        self._left_out: Tensor | None = None  # whether the last step was, on the device
        constrains = any(map(_constrains, self.regularizers))
        self._constrained = list(disc.parameters()) if constrains else []
        self._leaves = frozenset().union(*(reg.differentiates for reg in self.regularizers))

    @property
    def shares_gradients(self) -> bool:
        """Whether a regularizer takes the gradient at reals or fakes from the graph of the loss's logits."""
        return bool(self._leaves)

    @property
    def precision(self) -> Precision:
        """The arithmetic of the networks. Another one may be set before the first step."""
        return self._precision

    @precision.setter
    def precision(self, precision: Precision) -> None:
        self._precision = precision
        self._set_scalers()

    def compile(self, transform: Callable[[nn.Module], Callable[..., Any]], *, critic: bool) -> None:
        """Let steps call ``transform(gen)``, with ``critic`` ``transform(disc)`` too; the modules stay as they are."""
        self._call_gen = transform(self.gen)
        self._on_begin = torch.compiler.cudagraph_mark_step_begin
        if critic:
            self._call_disc = transform(self.disc)

    @property
    def critic_is_plain(self) -> bool:
        """Whether the critic is differentiated once only, as far as its regularizers go."""
        return all(type(reg).penalty is Regularizer.penalty for reg in self.regularizers)

    def shared_buffers(self) -> list[Tensor]:
        """Buffers whose mean over the processes is a meaning; looked for anew, as a layer may put others there."""
        if self.communication.world == 1:
            return []
        if not self._places:  # to walk through networks takes as long as a small layer
            self._places = [m._buffers for side in (self.gen_side, self.disc_side) for m in side.modules()]
        buffers = {id(b): b for place in self._places for b in place.values() if b is not None}
        return [b for b in buffers.values() if b.is_floating_point() or b.is_complex()]

    def _set_scalers(self) -> None:
        """float16 needs its objectives scaled, each side by itself."""
        for side in (self.gen_side, self.disc_side):
            side.scaler = Scaler(self.noise.rng.device) if self._precision.name == "fp16" else None

    def arrange(self, layout: torch.memory_format) -> None:
        """Lay out four-dimensional weights in this order of memory, before the first step; names and values stay.

        Those that are in shared memory stay as they are: in another order they would be on their own.
        """
        fixed = {id(tensor) for tensor in in_shared_memory((self.gen_side, self.disc_side))}
        for side in (self.gen_side, self.disc_side):
            for tensor in (*side.parameters(), *side.buffers()):
                if tensor.dim() == 4 and id(tensor) not in fixed:
                    # Not by contiguous(): that leaves strides as they are where there is one channel, and torch chooses
                    # its kernels by them.
                    tensor.data = tensor.data.to(memory_format=layout)
        self._is_rearranged = layout != torch.contiguous_format

    def begin(self, step: int) -> None:
        """Start step ``step`` (from 0)."""
        self.step = step
        self._twice.clear()
        self._on_begin()
        self.noise.begin(step)
        for side in (self.gen_side, self.disc_side):
            side.begin(step)
        if self.guard is not None:
            self.guard.begin((self.gen_side, self.disc_side))

    def critic_steps(self, asked: int) -> int:
        """Critic steps of the present iteration: the loss may have a schedule of its own."""
        return self.loss.critic_steps(self.step, asked)

    def generate(self, n: int, y: Tensor | None) -> Batch:
        """``n`` fakes for the labels ``y [n]`` or None; in the generator's graph unless under ``no_grad``."""
        self.poll()
        with self.precision.autocast():
            x: Tensor = self._call_gen(self.gen.latent(n, self.noise.rng), y)
        return Batch(x.float(), y)

    def critic(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits ``[B]`` float32 of samples, in the run's precision (float32 within a penalty)."""
        logits: Tensor = self._call_disc(x, y)
        return logits.float()

    def critic_pass(self, real: Batch, fake: Batch, critic: Critic | None = None) -> CriticPass:
        """The critic looks at both batches: in one pass, which is quicker, unless it is to see them ``apart``."""
        look = critic or self.critic
        real_x = real.x.detach().requires_grad_() if "real" in self._leaves else real.x
        fake_x = fake.x.requires_grad_() if "fake" in self._leaves and fake.x.is_leaf else fake.x
        with self.precision.autocast(), PlainAttention() if self._leaves else IDLE:
            if self.apart or (real.y is None) is not (fake.y is None):
                real_logits, fake_logits = look(real_x, real.y), look(fake_x, fake.y)
            else:
                y = None if real.y is None or fake.y is None else torch.cat((real.y, fake.y))
                real_logits, fake_logits = look(torch.cat((real_x, fake_x)), y).tensor_split((len(real_x),))
        return self._passed(look, Batch(real_x, real.y), Batch(fake_x, fake.y), real_logits, fake_logits)

    def generator_pass(self, fake: Batch, real: Batch | None) -> CriticPass:
        """The critic looks at the fakes, and at the reals if the loss uses them; reals carry no graph."""
        reals = Batch(fake.x.new_empty(0, *self.spec.shape)) if real is None else real
        with self.precision.autocast():
            fake_logits = self.critic(fake.x, fake.y)
            with torch.no_grad():
                real_logits = fake_logits.new_empty(0) if real is None else self.critic(reals.x, reals.y)
        return self._passed(self.critic, reals, fake, real_logits, fake_logits)

    def _passed(self, look: Critic, real: Batch, fake: Batch, *logits: Tensor) -> CriticPass:
        real_logits, fake_logits = (each.float() for each in logits)
        found = CriticPass(
            look,
            real.x,
            fake.x,
            real.y,
            fake.y,
            real_logits,
            fake_logits,
            self.noise.rng,
            full_precision=self.precision.is_full,
            mean=self.communication.mean,
        )
        self._twice.append([True] if found.full_precision else found.again)
        return found

    def discriminator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        """The loss's terms and every regularizer's penalty."""
        self.poll()
        terms = self.loss.discriminator_terms(critic_pass)
        for reg in self.regularizers:
            penalty = reg.penalty(critic_pass)
            if penalty is not None:
                name = reg.name
                terms[name] = terms[name] + penalty if name in terms else penalty
        return terms

    def update_discriminator(self, terms: Mapping[str, Tensor]) -> Tensor:
        """One step of the discriminator's optimiser on the sum of the terms, then its constraints.

        Returns:
            the mean of the sum over the processes. What a trainer decides by it, all of them decide alike.
        """
        total = self._update(self.disc_side, terms)
        left_out = self._left_out
        before = [] if left_out is None else [p.detach().clone() for p in self._constrained]
        for reg in self.regularizers:
            reg.after_step(self.disc)
        if left_out is not None:  # a constraint belongs to a step that is taken
            for p, old in zip(self._constrained, before, strict=True):
                p.detach().copy_(torch.where(left_out, old, p))
        return total

    def update_generator(self, terms: Mapping[str, Tensor]) -> Tensor:
        """One step of the generator's optimiser on the sum of the terms; returns its mean over the processes."""
        return self._update(self.gen_side, terms)

    def backward(self, side: Side, total: Tensor) -> None:
        """Differentiate ``total`` by the parameters of ``side``; their old gradients are forgotten.

        A trainer that needs more than :meth:`update_discriminator` and :meth:`update_generator` calls this and, later
        in its step, :meth:`apply_gradients`. Under float16 it scales the gradients, which that takes out again.
        """
        once = bool(self._twice) and not any(self._twice)
        self._twice = []
        with self.precision.of_backward(rounded=once):
            side.backward(total)

    def apply_gradients(self, side: Side, total: Tensor) -> Tensor:
        """Average what stands in ``.grad``, step, and note on the device whether ``total`` was finite.

        With a guard, the step is left out where a number is not finite, in any process.

        Returns:
            the mean of ``total`` over the processes.
        """
        _match_strides(side.trainable)
        return self._step(side, total)

    def _step(self, side: Side, total: Tensor) -> Tensor:
        mean = total = self.communication.average_gradients(side.trainable, self.shared_buffers(), total.detach())
        if self._is_rearranged or self.communication.world > 1:  # which makes gradients that this process has not had
            _match_strides(side.trainable)
        unscaled = side.unscale()
        overflow = None
        if unscaled is not None:
            overflow, hopeless = unscaled
            total = torch.where(hopeless, torch.nan, total)
        if self.guard is not None:
            self._left_out = self.guard.step(side, total, overflow)
            return mean
        self._left_out = overflow
        if overflow is None:
            side.optimizer.step()
        else:
            step_unless(overflow, side.optimizer)
        self.broken += ~torch.isfinite(total)
        return mean

    def _update(self, side: Side, terms: Mapping[str, Tensor]) -> Tensor:
        total = torch.stack(list(terms.values())).sum() if len(terms) > 1 else next(iter(terms.values()))
        self.backward(side, total)
        return self._step(side, total)


def _constrains(reg: Regularizer) -> bool:
    kind = type(reg)
    return kind.after_step is not Regularizer.after_step or kind.project is not Regularizer.project


def _match_strides(parameters: Sequence[Tensor]) -> None:
    """Let gradients lie in memory as their parameters do: torch's fused optimisers take that for granted.

    Autograd makes them so, but for sides of one number; this is for those that a trainer, or another process, put
    there. They may be transposed views, or expanded ones without the memory that an optimiser would read.
    """
    for p in parameters:
        grad = p.grad
        if grad is not None and not grad.is_sparse and grad.stride() != p.stride():
            p.grad = torch.empty_like(p, memory_format=torch.preserve_format).copy_(grad)
