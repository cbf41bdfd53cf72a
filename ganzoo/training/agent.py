"""torchrun's agent, which starts the processes of a run and watches over them, with signals as a run needs them."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.rendezvous import RendezvousParameters, registry

_TIME_TO_SAVE: Final = 300.0
"""Seconds that processes have to save and leave after a signal, before they are killed."""


class Agent(LocalElasticAgent):
    """Runs a program in several processes of this machine.

    torchrun's own leaves at a signal, without the exit codes of the processes, and at a second one without waiting for
    them. This one hands the first signal on and goes on watching, so that they save and leave with codes of their own;
    later signals change nothing.

    Args:
        program: what each of them runs.
        arguments: of the program.
        processes: how many.
        signals: which are handed on.

    Attributes:
        received: the number of the signal that came; 0 if there is none.
        gave_up: whether processes were killed that did not leave after it.
    """

    def __init__(self, program: str, arguments: Sequence[str], processes: int, signals: Collection[int]) -> None:
        place = RendezvousParameters(
            backend="c10d",
            endpoint="localhost:0",
            run_id=uuid.uuid4().hex,
            min_nodes=1,
            max_nodes=1,
            local_addr="127.0.0.1",
        )
        spec = WorkerSpec(
            role="default",
            local_world_size=processes,
            rdzv_handler=registry.get_rendezvous_handler(place),
            entrypoint=program,
            args=tuple(arguments),
            max_restarts=0,
            monitor_interval=0.1,
            local_addr="127.0.0.1",
        )
        super().__init__(spec, DefaultLogsSpecs())
        self.received, self.gave_up = 0, False
        self._signals = signals
        self._started: list[int] = []
        self._over = False

    def failures(self) -> dict[int, Any]:
        """Run the program, and say which processes failed, by rank.

        Raises:
            SignalException: a signal came before they were started.
            RuntimeError: they cannot be started.
        """
        with self._hearing():
            try:
                result: RunResult | None = self.run()
            finally:
                self._over = True
                with suppress(RuntimeError):
                    self.get_worker_group().spec.rdzv_handler.shutdown()
        return dict(result.failures) if result is not None else {}

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        # What is ignored here must not be handled when they start: they would not ignore it.
        os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ",".join(signal.Signals(each).name for each in self._signals)
        started: dict[int, Any] = super()._start_workers(worker_group)
        self._started = list(started.values())
        self._listen()  # torch has put handlers of its own there
        return started

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in self._signals}
        self._listen()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                signal.signal(number, self._hand_on)

    def _hand_on(self, number: int, _: FrameType | None) -> None:
        if self.received:
            return  # they are saving
        self.received = number
        if not self._started:
            raise SignalException(f"signal {number}", signal.Signals(number))
        self._send(number)
        _thread.start_new_thread(self._lose_patience, ())

    def _lose_patience(self) -> None:
        time.sleep(_TIME_TO_SAVE)
        if not self._over:
            self.gave_up = True
            self._send(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _send(self, number: int) -> None:
        for process in self._started:
            with suppress(OSError):  # it has left
                # Each leads a group, with the processes that it has started itself.
                (os.killpg if hasattr(os, "killpg") else os.kill)(process, number)
