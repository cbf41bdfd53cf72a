"""Several processes that train as one: what they share, and how they agree.

Networks stay plain modules. Each optimiser step makes one all-reduce of one flat tensor, which holds the gradients, the
floating buffers, whether the loss was finite, which gradients there were, and which signals came. Everything else here
happens at intervals. Process 0 alone writes and speaks.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from ganzoo.errors import DivergedError, GanzooError, Interrupted
from ganzoo.nn import Bundle
from ganzoo.processes import Place
from ganzoo.training.alike import checksum
from ganzoo.training.alone import current
from ganzoo.training.run import Run
from ganzoo.training.signals import noted
from ganzoo.training.spoken import BEAT, Spoken, code_of, told_error

_SIGNALS: Final = 32


class Together(Spoken):
    """One process among several. Use it as a context; leaving it ends the communication.

    Args:
        place: which process this is.
        device: on which it computes.
        backend: ``nccl`` or ``gloo``.
        timeout: seconds to wait for the others.
    """

    def __init__(self, place: Place, device: torch.device, backend: str, timeout: int) -> None:
        super().__init__(place, timeout)
        self.device, self.backend = device, backend
        with self._found(), self._heard():
            self._meet_in_words()
            dist.init_process_group(
                backend,
                store=PrefixStore("group", self._store),
                rank=self.rank,
                world_size=self.world,
                timeout=self._limit,
                device_id=device if backend == "nccl" else None,
            )
        current[:] = [self]
        self._vote, self._stuck = 0, False
        self._flats: dict[tuple[int, torch.dtype], Tensor] = {}
        self._latest: tuple[Tensor, torch.cuda.Event | None] | None = None
        self._before: tuple[Tensor, torch.cuda.Event | None] | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.fall_silent()
        # NCCL would wait for a dead process, or for those that wait for this one. Gloo does not, and its threads must
        # have ended before Python does: one that wakes up later ends the program with an abort.
        if self._stuck:
            return  # nothing ends them
        if self.backend == "gloo" or error is None or isinstance(error, (Interrupted, DivergedError)):
            dist.destroy_process_group()

    def _meet_in_words(self) -> None:
        """Wait until all are here: torch's own way to meet hears no signal, and would wait for one that has left."""
        self._say(f"here/{self.rank}")
        for rank in range(self.world):
            self._wait(f"here/{rank}", [rank])

    # Each step.

    @torch.no_grad()
    def average_gradients(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor], total: Tensor) -> Tensor:
        """See :class:`~ganzoo.nn.communication.Communication`. Buffers change behind autograd's back, as by a layer."""
        for p in parameters:
            if p.grad is not None and p.grad.is_sparse:
                p.grad = p.grad.to_dense()
        held = [p.grad if p.grad is None else _real(p.grad) for p in parameters]
        reals = [_real(p.detach()) for p in parameters]
        buffers = [_real(b.data) for b in buffers]
        kind = _sum_type([*reals, *buffers])
        parts = [(p.new_zeros(p.numel()) if g is None else g.reshape(-1)) for p, g in zip(reals, held, strict=True)]
        has = torch.tensor([float(g is not None) for g in held], dtype=kind)
        vote = torch.zeros(_SIGNALS, dtype=kind)
        vote[self._vote] = 1
        tail = torch.cat([has, vote]).to(self.device, non_blocking=True)
        joined = torch.cat([b.reshape(-1).to(kind) for b in buffers]) if buffers else tail[:0]
        parts += [total.reshape(1), *_halves(joined, self.world), tail]
        size = sum(part.numel() for part in parts)
        if (size, kind) not in self._flats:  # kept, because fresh memory costs more than what is done in it
            self._flats[size, kind] = torch.empty(size, dtype=kind, device=self.device)
        flat = self._sum(torch.cat([part.to(kind) for part in parts], out=self._flats[size, kind]))
        flat[: -len(tail) - 2 * len(joined)] /= self.world
        *gradients, mean_total, high, low, tail = torch.split(flat, [part.numel() for part in parts])
        if buffers:
            means = torch.split(_whole(high, low, self.world), [b.numel() for b in buffers])
            torch._foreach_copy_(buffers, _shaped(means, buffers))
        self._note_votes(tail[len(held) :])
        present = [(g, value) for g, value in zip(held, gradients, strict=True) if g is not None]
        if present:
            grads = [g for g, _ in present]
            torch._foreach_copy_(grads, _shaped([value for _, value in present], grads))
        if len(present) < len(held):
            elsewhere = tail[: len(held)].tolist()
            for p, real, value, number in zip(parameters, reals, gradients, elsewhere, strict=True):
                if p.grad is None and number:
                    made = value.view_as(real).to(real.dtype, copy=True)
                    p.grad = torch.view_as_complex(made) if p.is_complex() else made
        return mean_total.reshape(()).to(total.dtype, copy=True)

    def mean(self, value: Tensor) -> Tensor:
        """See :class:`~ganzoo.nn.communication.Communication`."""
        result: Tensor = _Mean.apply(value, self)  # type: ignore[no-untyped-call]
        return result

    def agree(self, signum: int) -> int:
        """See :class:`~ganzoo.nn.communication.Communication`. The votes travel with the next step's gradients.

        On a GPU the votes of the step before the last are read, so that the device is not waited for.
        """
        self._vote = signum
        seen = self._latest
        if self.device.type == "cuda":
            seen, self._before = self._before, self._latest
        if seen is None:
            return 0
        votes, arrived = seen
        if arrived is not None:
            arrived.synchronize()
        return next((number for number, count in enumerate(votes[1:].tolist(), 1) if count), 0)

    def _note_votes(self, votes: Tensor) -> None:
        if self.device.type == "cuda":
            host = torch.empty(_SIGNALS, dtype=votes.dtype, pin_memory=True).copy_(votes, non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
            self._latest = host, arrived
        else:
            self._latest = votes.clone(), None

    # At intervals.

    def any(self, flag: bool) -> bool:
        """See :class:`~ganzoo.nn.communication.Communication`."""
        return self._sum(torch.tensor([float(flag)], device=self.device)).item() > 0

    def means_of(self, values: Mapping[str, float]) -> dict[str, float]:
        names = self._all_of(list(values))
        known = [[values.get(name, 0.0), float(name in values)] for name in names]
        sums, counts = self._sum(torch.tensor(known, dtype=torch.float64, device=self.device).reshape(-1, 2)).T
        return dict(zip(names, (sums / counts).tolist(), strict=True))

    def _all_of(self, names: list[str]) -> list[str]:
        """The names that any process has, those of process 0 first; the same in all of them."""
        text = json.dumps(names).encode()
        sizes = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.world)]
        self._do(dist.all_gather, sizes, torch.tensor([len(text)], device=self.device))
        flat = torch.zeros(int(torch.cat(sizes).max()), dtype=torch.uint8, device=self.device)
        flat[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        texts = [torch.empty_like(flat) for _ in sizes]
        self._do(dist.all_gather, texts, flat)
        lists = [json.loads(bytes(text[: int(size)].cpu().numpy())) for text, size in zip(texts, sizes, strict=True)]
        return list(dict.fromkeys(name for each in lists for name in each))

    @torch.no_grad()
    def start_alike(self, bundle: Bundle) -> None:
        for tensor in filter(Tensor.numel, _tensors(bundle)):
            value = _real(tensor.data).contiguous()
            self._do(dist.broadcast, value.reshape(-1).view(torch.uint8), 0)  # bytes: backends do not know every type
            _real(tensor.data).copy_(value)

    @torch.no_grad()
    def check_alike(self, bundle: Bundle, step: int) -> None:
        other = self._others(bundle)
        if other:  # a trainer may have looked at its networks after the last update, which changes their statistics
            self.average_gradients([], bundle.shared_buffers(), torch.zeros((), device=self.device))
            other = self._others(bundle)
        if other:
            raise GanzooError(
                f"After step {step} the weights of process {', '.join(other)} are not those of process 0, so the run "
                "stops: a component takes random numbers from elsewhere than its step's, or a device computes wrong; "
                + self.go_on
            )

    def _others(self, bundle: Bundle) -> list[str]:
        """The processes that hold something else than process 0."""
        mine = checksum(_tensors(bundle)).reshape(1)
        sums = [torch.empty_like(mine) for _ in range(self.world)]
        self._do(dist.all_gather, sums, mine)
        numbers = torch.cat(sums).tolist()
        return [str(rank) for rank, number in enumerate(numbers) if number != numbers[0]]

    def gather(self, function: Callable[[], dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        self._turns += 1
        key = f"gather/{self._turns}"
        mine, error = b"", None
        try:
            mine = save(function())
        except BaseException as err:
            error = err
            self._say(f"{key}/{self.rank}", {"error": str(err), "code": code_of(err)})
        told = [torch.zeros(2, dtype=torch.int64, device=self.device) for _ in range(self.world)]
        self._do(dist.all_gather, told, torch.tensor([len(mine), error is not None], device=self.device))
        sizes, failed = torch.stack(told).T.tolist()
        if error is not None:
            raise error
        if any(failed):
            said = json.loads(self._wait(f"{key}/{failed.index(1)}", [failed.index(1)]))
            raise told_error(said["error"], said["code"])
        flat = torch.zeros(max(sizes), dtype=torch.uint8, device=self.device)
        flat[: len(mine)] = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
        parts = [] if self.rank else [torch.empty_like(flat) for _ in sizes]
        self._do(dist.gather, flat, parts or None)
        return [load(bytes(part[:size].cpu().numpy())) for part, size in zip(parts, sizes, strict=False)]

    def meet(self) -> None:
        self.any(False)

    def run_for(self, run: Run) -> Run:
        return Shadow(run.path, run.config, run.spec) if self.rank else run

    def _sum(self, value: Tensor) -> Tensor:
        self._do(dist.all_reduce, value)
        return value

    def _do(self, what: Callable[..., Any], *of: Any) -> None:
        """Do something that all processes take part in, in turns with Python, which hears signals in between.

        Gloo sometimes misses that another one is gone, and would wait for it as long as for one that is slow. Where a
        process is gone, a signal comes, and who is gone gives no signs of life.
        """
        with self._answered():
            work = what(*of, async_op=True)
            lives = None
            while not self._is_over(work):
                lives = lives or self._lives(range(self.world))
                if not noted():  # gloo has the limit, which does not depend on whoever keeps the store
                    continue
                self._stuck = True
                if not lives.last():
                    raise self._lost()
                self._stuck = False

    def _is_over(self, work: Any) -> bool:
        """Wait for an operation, and say whether it has ended; of NCCL's, the device waits.

        Raises:
            RuntimeError: it failed.
        """
        try:
            return bool(work.wait(datetime.timedelta(seconds=BEAT)) if self.backend == "gloo" else work.wait())
        except RuntimeError:
            if self.backend == "gloo" and not work.is_completed():
                return False
            return bool(work.wait())  # its own error, or it ended just now


class Shadow(Run):
    """The run in a process that does not write: everything that would change the directory does nothing."""

    def write_config(self, notes: dict[str, Any]) -> None:
        """Nothing."""

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Nothing."""

    def rewind_metrics(self, step: int) -> None:
        """Nothing."""

    def sweep(self) -> None:
        """Nothing."""


class _Mean(torch.autograd.Function):
    """The mean over the processes. Its derivative, for a sum over the processes' objectives, is the mean again."""

    @staticmethod
    def forward(value: Tensor, together: Together) -> Tensor:
        return together._sum(value.detach().clone(memory_format=torch.contiguous_format)) / together.world

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Together], output: Tensor) -> None:  # noqa: ARG004
        ctx.together = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.together.mean(gradients[0]), None


def _halves(values: Tensor, world: int) -> tuple[Tensor, Tensor]:
    """Two numbers for each, whose sums over the processes are exact where all processes have the same.

    So what is no statistic but a constant, such as a kernel or a mask, stays to the bit. The first has half of the
    digits; both are scaled, so that a sum of the largest numbers is finite.
    """
    digits = torch.int64 if values.dtype == torch.float64 else torch.int32
    low = 26 if values.dtype == torch.float64 else 12
    high = ((values.view(digits) >> low) << low).view(values.dtype)
    finite = torch.isfinite(values)
    scale = _scale(world)
    return torch.where(finite, high, values) * scale, torch.where(finite, values - high, 0.0) * scale


def _whole(high: Tensor, low: Tensor, world: int) -> Tensor:
    """The means, from the sums of what :func:`_halves` took apart."""
    return (high.double() + low.double()).div_(world * _scale(world)).to(high.dtype)


def _scale(world: int) -> float:
    """A power of two by which that many numbers can be added up."""
    return 0.5 ** math.ceil(math.log2(world))


def _sum_type(values: Sequence[Tensor]) -> torch.dtype:
    """In which arithmetic values are summed: float32, or float64 where one of them has that."""
    return torch.float64 if any(value.dtype == torch.float64 for value in values) else torch.float32


def _real(value: Tensor) -> Tensor:
    """The same memory as real numbers."""
    return torch.view_as_real(value) if value.is_complex() else value


def _tensors(bundle: Bundle) -> list[Tensor]:
    return [t for side in (bundle.gen_side, bundle.disc_side) for t in (*side.parameters(), *side.buffers())]


def _shaped(values: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    return [value.view(model.shape) for value, model in zip(values, like, strict=True)]
