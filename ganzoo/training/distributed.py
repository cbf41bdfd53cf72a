"""Several processes that train as one: what they share, and how they agree.

Networks stay plain modules. Each optimiser step makes one all-reduce of one flat tensor, which holds the gradients, the
floating buffers, whether the loss was finite, which gradients there were, and which signals came. Everything else here
happens at intervals. Process 0 alone writes and speaks.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from ganzoo.errors import DivergedError, GanzooError, Interrupted, MissingError, UsageError
from ganzoo.nn import Bundle
from ganzoo.processes import Place
from ganzoo.training.alike import checksum
from ganzoo.training.alone import Alone, LostError, current
from ganzoo.training.run import Run

_SIGNALS: Final = 32
_numbers = itertools.count()
_DAY: Final = datetime.timedelta(days=1)
_LAST_WORDS: Final = datetime.timedelta(seconds=60)
_KINDS: Final = (GanzooError, UsageError, DivergedError, MissingError)
_stores: list[Store] = []  # the one of this process; it can be made once


class Together(Alone):
    """One process among several. Use it as a context; leaving it ends the communication.

    Args:
        place: which process this is.
        device: on which it computes.
        backend: ``nccl`` or ``gloo``.
        timeout: seconds to wait for the others.
    """

    def __init__(self, place: Place, device: torch.device, backend: str, timeout: int) -> None:
        self.place, self.device, self.backend, self._timeout = place, device, backend, timeout
        self.rank, self.world = place.rank, place.world
        limit = datetime.timedelta(seconds=timeout)
        try:
            if not _stores:
                _stores.append(next(rendezvous("env://", timeout=limit))[0])
            self._store = PrefixStore(f"ganzoo-{next(_numbers)}", _stores[0])
            group = PrefixStore("group", self._store)
            device_id = device if backend == "nccl" else None
            dist.init_process_group(
                backend, store=group, rank=self.rank, world_size=self.world, timeout=limit, device_id=device_id
            )
        except (RuntimeError, ValueError) as err:
            raise LostError(f"The {self.world} processes do not find each other: {_one_line(err)}.") from None
        current[:] = [self]
        self._turns = 0
        self._vote = 0
        self._flats: dict[tuple[int, torch.dtype], Tensor] = {}
        self._latest: tuple[Tensor, torch.cuda.Event | None] | None = None
        self._before: tuple[Tensor, torch.cuda.Event | None] | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # NCCL would wait for a dead process. Gloo does not, and its threads must have ended before Python does: one
        # that wakes up later ends the program with an abort.
        if self.backend == "gloo" or not isinstance(error, LostError):
            dist.destroy_process_group()

    # Each step.

    @torch.no_grad()
    def average_gradients(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor], total: Tensor) -> Tensor:
        """See :class:`~ganzoo.nn.bundle.Communication`. Buffers are changed behind autograd's back, as a layer does."""
        held = [p.grad for p in parameters]
        kind = _sum_type(parameters)
        parts = [
            (p.new_zeros(p.numel()) if g is None else g.reshape(-1)) for p, g in zip(parameters, held, strict=True)
        ]
        has = torch.tensor([float(g is not None) for g in held], dtype=kind)
        vote = torch.zeros(_SIGNALS, dtype=kind)
        vote[self._vote] = 1
        tail = torch.cat([has, vote]).to(self.device, non_blocking=True)
        parts += [b.data.reshape(-1) for b in buffers] + [total.reshape(1), tail]
        size = sum(part.numel() for part in parts)
        if (size, kind) not in self._flats:  # kept, because fresh memory costs more than what is done in it
            self._flats[size, kind] = torch.empty(size, dtype=kind, device=self.device)
        flat = self._sum(torch.cat([part.to(kind) for part in parts], out=self._flats[size, kind]))
        flat[: -len(tail)] /= self.world
        *values, mean_total, tail = torch.split(flat, [part.numel() for part in parts])
        gradients, means = values[: len(held)], values[len(held) :]
        if buffers:
            torch._foreach_copy_([b.data for b in buffers], _shaped(means, buffers))
        self._note_votes(tail[len(held) :])
        present = [(g, value) for g, value in zip(held, gradients, strict=True) if g is not None]
        if present:
            grads = [g for g, _ in present]
            torch._foreach_copy_(grads, _shaped([value for _, value in present], grads))
        if len(present) < len(held):
            elsewhere = tail[: len(held)].tolist()
            for p, value, number in zip(parameters, gradients, elsewhere, strict=True):
                if p.grad is None and number:
                    p.grad = value.view_as(p).to(p.dtype, copy=True)
        return mean_total.reshape(()).to(total.dtype, copy=True)

    def mean(self, value: Tensor) -> Tensor:
        """See :class:`~ganzoo.nn.bundle.Communication`."""
        result: Tensor = _Mean.apply(value, self)  # type: ignore[no-untyped-call]
        return result

    def agree(self, signum: int) -> int:
        """See :class:`~ganzoo.nn.bundle.Communication`. The votes travel with the next step's gradients.

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
        """See :class:`~ganzoo.nn.bundle.Communication`."""
        return self._sum(torch.tensor([float(flag)], device=self.device)).item() > 0

    def mean_of(self, values: Sequence[float]) -> list[float]:
        found: list[float] = (
            self._sum(torch.tensor(list(values), dtype=torch.float64, device=self.device)) / self.world
        ).tolist()
        return found

    @torch.no_grad()
    def start_alike(self, bundle: Bundle) -> None:
        for tensor in _tensors(bundle):
            value = tensor.data.contiguous()
            with self._answered():
                dist.broadcast(value, 0)
            tensor.data.copy_(value)

    @torch.no_grad()
    def check_alike(self, bundle: Bundle, step: int) -> None:
        mine = checksum(_tensors(bundle)).reshape(1)
        sums = [torch.empty_like(mine) for _ in range(self.world)]
        with self._answered():
            dist.all_gather(sums, mine)
        numbers = torch.cat(sums).tolist()
        other = [str(rank) for rank, number in enumerate(numbers) if number != numbers[0]]
        if other:
            raise GanzooError(
                f"After step {step} the weights of process {', '.join(other)} are not those of process 0, so the run "
                "stops: a component takes random numbers from elsewhere than its step's, or a device computes wrong; "
                + self.go_on
            )

    def from_first(self, function: Callable[[], str | None]) -> str:
        self._turns += 1
        key = f"first/{self._turns}"
        if self.rank:
            said = json.loads(self._wait(key))
            if "error" in said:
                raise _error(said["error"], said["code"])
            return str(said["value"])
        try:
            value = function() or ""
        except BaseException as err:
            code = err.exit_code if isinstance(err, GanzooError) else 1
            self._store.set(key, json.dumps({"error": str(err), "code": code}))
            raise
        self._store.set(key, json.dumps({"value": value}))
        return value

    def gather(self, function: Callable[[], dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        self._turns += 1
        key = f"gather/{self._turns}"
        mine, error = b"", None
        try:
            mine = save(function())
        except BaseException as err:
            error = err
            code = err.exit_code if isinstance(err, GanzooError) else 1
            self._store.set(f"{key}/{self.rank}", json.dumps({"error": str(err), "code": code}))
        told = [torch.zeros(2, dtype=torch.int64, device=self.device) for _ in range(self.world)]
        with self._answered():
            dist.all_gather(told, torch.tensor([len(mine), error is not None], device=self.device))
        sizes, failed = torch.stack(told).T.tolist()
        if error is not None:
            raise error
        if any(failed):
            said = json.loads(self._wait(f"{key}/{failed.index(1)}"))
            raise _error(said["error"], said["code"])
        flat = torch.zeros(max(sizes), dtype=torch.uint8, device=self.device)
        flat[: len(mine)] = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
        parts = [] if self.rank else [torch.empty_like(flat) for _ in sizes]
        with self._answered():
            dist.gather(flat, parts or None)
        return [load(bytes(part[:size].cpu().numpy())) for part, size in zip(parts, sizes, strict=False)]

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        self._turns += 1
        key = f"ahead/{self._turns}/{os.environ.get('GROUP_RANK', '0')}"
        if self.place.local_rank:
            self._wait(key)
            yield
            return
        try:
            yield
        finally:
            self._store.set(key, "")

    def meet(self) -> None:
        self.any(False)

    def tells(self, error: BaseException) -> bool:
        key = "told/lost" if isinstance(error, LostError) else f"told/{error}"
        try:
            if isinstance(error, LostError) and self._store.check(["told"]):
                return False
            self._store.set("told", "")
            return self._store.add(key, 1) == 1
        except RuntimeError:
            return True

    def told(self) -> None:
        try:
            if self.rank:
                self._store.wait(["end"], _LAST_WORDS)
            else:
                self._store.set("end", "")
        except RuntimeError:
            return  # process 0 kept the store, and is gone

    def run_for(self, run: Run) -> Run:
        return Shadow(run.path, run.config, run.spec) if self.rank else run

    def _sum(self, value: Tensor) -> Tensor:
        with self._answered():
            dist.all_reduce(value)
        return value

    def _wait(self, key: str) -> str:
        with self._answered():
            self._store.wait([key], _DAY)
            return self._store.get(key).decode()

    @contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            raise LostError(
                f"Another process of this run is gone, or did not answer within {self._timeout} s; {self.go_on}"
            ) from None


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
    def forward(ctx: Any, value: Tensor, together: Together) -> Tensor:
        ctx.together = together
        return together._sum(value.detach().clone()) / together.world

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.together.mean(gradients[0]), None


def _sum_type(parameters: Sequence[Tensor]) -> torch.dtype:
    """In which arithmetic gradients are summed: float32, or float64 where a parameter has that."""
    return torch.float64 if any(p.dtype == torch.float64 for p in parameters) else torch.float32


def _tensors(bundle: Bundle) -> list[Tensor]:
    return [t for side in (bundle.gen_side, bundle.disc_side) for t in (*side.parameters(), *side.buffers())]


def _shaped(values: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    return [value.view(model.shape) for value, model in zip(values, like, strict=True)]


def _error(message: str, code: int) -> GanzooError:
    """What process 0 raised, from its words and its exit code."""
    if code > 128:
        return Interrupted(message, code - 128)
    return _KINDS[code - 1 if code <= len(_KINDS) else 0](message)


def _one_line(err: BaseException) -> str:
    return " ".join(str(err).split())
