"""One run from its configuration to its last step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from ganzoo.data import Dataset, DataStream
from ganzoo.nn import EMA, Generator, Trainer
from ganzoo.nn.buffers import unchanged_buffers
from ganzoo.nn.bundle import derive_seed
from ganzoo.nn.guard import finite_mean
from ganzoo.outputs.grids import extent_of, save_grid
from ganzoo.registry import build
from ganzoo.training import checkpoint, state
from ganzoo.training.alone import Alone
from ganzoo.training.build import build_bundle, check_what_was_built
from ganzoo.training.checkpoint import Snapshot
from ganzoo.training.ending import Ending
from ganzoo.training.fast import settle
from ganzoo.training.keeping import Keeper
from ganzoo.training.monitor import Monitor
from ganzoo.training.nonfinite import Policy
from ganzoo.training.observers import Observers, Shown
from ganzoo.training.probe import check_contracts, checked_metrics
from ganzoo.training.readable import Readable
from ganzoo.training.run import Run
from ganzoo.training.signals import StepAbandoned, StopSignals

if TYPE_CHECKING:
    from ganzoo.training.scoring import Scoring

_BACKDROP: Final = 1024
_KEEP_AFTER: Final = 30.0
"""Seconds after which a run of slow steps keeps its state, so that a signal in the middle of one costs no more."""
_COPY_SHARE: Final = 0.01
"""Share of the time that keeping the state may take."""


class Session:
    """The live objects of a run, and the loop over its steps.

    Args:
        run: its directory and configuration.
        device: what to compute on.
        say: hears one sentence at a time of what the user should know.
        extra_observers: objects with lifecycle hooks, beside those of the plugins.
        check_rules: whether rules are checked again on what was built.
        stop: hears signals; its own unless given.
        together: the processes that train together; this one alone unless given.
    """

    def __init__(
        self,
        run: Run,
        device: torch.device,
        *,
        say: Callable[[str], None],
        extra_observers: Sequence[object] = (),
        check_rules: bool = True,
        stop: StopSignals | None = None,
        together: Alone | None = None,
    ) -> None:
        self.together = together = together or Alone()
        self.leads = together.rank == 0
        self.run, self.device, self.say = run, device, say
        self.keeper = Keeper(run, say, silent=not self.leads)
        self.observers = Observers(extra_observers, silent=not self.leads)
        self.stop = stop or StopSignals()
        self.ending = Ending(self, self.stop)
        config, spec = run.config, run.spec
        self.settings = config.run
        state.seed_random(self.settings.seed, "begin")
        with together.first_ahead():
            self.dataset: Dataset = build(config.data, spec).to(device)
        self.stream = DataStream(
            self.dataset,
            self.settings.batch_size,
            self.settings.seed,
            device,
            rank=together.rank,
            world=together.world,
        )
        self.bundle = build_bundle(config, spec, device, together)
        if check_rules:
            check_what_was_built(config.plan(spec), self.bundle)
        check_contracts(config, self.bundle, self.dataset, device)
        self.bundle.noise.begin_alike("trainer")
        together.start_alike(self.bundle)  # before a trainer copies what it finds
        self.trainer: Trainer = build(config.trainer, spec)
        self.trainer.setup(self.bundle)
        self._readable = Readable(self)
        together.start_alike(self.bundle)
        self.decisions = settle(self)
        half_life = self.settings.ema_half_life
        self.ema = EMA(self.bundle.gen, half_life, self.settings.ema_ramp) if half_life else None
        self.fixed = self._fixed_latents()
        self._backdrop = None if spec.is_image else self._real_points()
        self.step = 0
        self._seconds = 0.0  # of training in earlier sessions
        self._started = time.monotonic()
        self._history: list[dict[str, Tensor]] = []
        self._last_log = (0, 0.0)
        self._saved = -1  # step of the newest checkpoint that is of this state
        self._drawn = -1
        self._missed_score = False  # at the step from which the run goes on, because a signal had come
        self._kept = (0.0, 0.0)  # when the last state was kept, and how long that took
        self.scoring = self._make_scoring()
        state.seed_random(self.settings.seed, "steps", together.rank)
        self.policy = Policy(self)
        if self.bundle.guard is not None:
            self.bundle.guard.watch(self.trainer)
        self._monitor = self._make_monitor()
        if together.world == 1:  # several processes could not leave in the middle of a step alike
            self.bundle.poll = self.stop.check_patience

    @property
    def images(self) -> int:
        """How many samples the generator's steps have stood for."""
        return self.step * self.settings.batch_size

    @property
    def seconds(self) -> float:
        """Seconds of training, over all sessions."""
        scoring = 0.0 if self.scoring is None else self.scoring.seconds
        return self._seconds + time.monotonic() - self._started - scoring

    @property
    def averaged(self) -> Generator:
        """The generator with averaged weights, or as it is where no average is kept."""
        return self.bundle.gen if self.ema is None else self.ema.module

    def train(self) -> None:
        """Take the remaining steps, logging, drawing and saving at their intervals.

        Raises:
            DivergedError: a loss was not finite.
            Interrupted: a signal came; a checkpoint was saved.
            GanzooError: the last state could not be saved.
        """
        error: BaseException | None = None
        self.run.first_step = self.step
        self.observers.call("run_start", run=self.run)
        self._started = time.monotonic()
        self._last_log = (self.step, self.seconds)
        self._kept = (self._started, 0.0)
        self.ending.begin()
        try:
            with self.stop:
                self.stop.defer()
                if self.step == 0:
                    self.draw()
                elif self._missed_score:
                    self.score()
                    self.save()  # what was saved does not know of it
                self._take_steps()
                self._finish()
                self.together.meet()  # none may leave while process 0 still writes: torchrun would end that, too
                self.ending.tell()
        except BaseException as err:
            error = err
            raise
        finally:
            self.observers.call("run_end", run=self.run, error=error)

    def _take_steps(self) -> None:
        while True:
            while self.step < self.settings.steps and not self.ending.is_due():
                try:
                    self._take_step()
                except StepAbandoned:
                    self._abandon()
                    return
            # At the end all must be finite; where the run went back for that, it goes on.
            if not self.policy.check(thorough=True) or self.ending.is_due():
                return

    def _take_step(self) -> None:
        settings = self.settings
        self.bundle.begin(self.step)
        metrics = checked_metrics(self.run.config.trainer, self.trainer.step(self.stream))
        self.step += 1
        if self.bundle.guard is not None:
            self.bundle.guard.settle()
        if self.ema is not None:
            self.ema.follow(self.bundle.gen, self.step, settings.batch_size)
        self._history.append(metrics)
        self.observers.call("step_end", run=self.run, step=self.step, metrics=Shown(metrics))
        step = self.step
        if step % settings.log_every == 0:
            self.log()
        if self.step != step or step == settings.steps:
            return  # it went back, or what is due at the end is done once, there
        if settings.sample_every and step % settings.sample_every == 0:
            self.draw()
        if settings.eval_every and step % settings.eval_every == 0:
            self.score()
        if settings.checkpoint_every and step % settings.checkpoint_every == 0:
            self.save(due=True)
        elif self._is_slow() and not self.policy.check(thorough=True):
            self._keep()

    def _finish(self) -> None:
        if self._history:
            self.log()
        if self._drawn != self.step and (self.step != self.run.first_step or self.step == 0):
            self.draw()
        if self.scoring is not None and self.scoring.is_due and not self.ending.signum:
            self.score()
        failed = "" if self._saved == self.step else self.save()
        self.together.from_first(lambda: self.keeper.close(self.step, failed))

    def _abandon(self) -> None:
        """Leave a step that takes too long, for the last good state."""
        self.say(f"Step {self.step + 1} takes too long to wait for its end; it is given up.")
        newest = max(self._saved, self.run.first_step)
        if self.policy.good.state["step"] > newest or newest == 0:
            self.go_back(self.policy.good)
            return
        self.step = self._saved = self._drawn = newest
        self._history.clear()

    def log(self) -> None:
        """Write the means since the last line to ``metrics.jsonl``; here the device is waited for."""
        look = self._monitor.due(self.step)
        if self.policy.check(thorough=look):
            return
        self._readable.look()
        self.together.check_alike(self.bundle, self.step)
        average = torch.mean if self.bundle.guard is None else finite_mean
        means = {
            key: average(torch.stack([entry[key] for entry in self._history if key in entry]).cpu().double()).item()
            for key in dict.fromkeys(key for entry in self._history for key in entry)
        }
        means = self.together.means_of(means)
        step, seconds = self._last_log
        elapsed = max(self.seconds - seconds, 1e-9)
        rate = (self.step - step) / elapsed
        line = {
            "step": self.step,
            "images": self.images,
            "seconds": round(self.seconds, 3),
            "steps_per_second": round(rate, 3),
            **means,
        }
        self.keeper.line(line)
        self._history.clear()
        self._last_log = (self.step, self.seconds)
        if look:
            self._watch()

    @state.same_random()
    def score(self) -> None:
        """Score the generator; if it is the best one so far, save it and let the run's best checkpoint be that."""
        if self.scoring is None or self.policy.check(thorough=True):
            return
        if self.scoring.look() and not self.save() and self._saved == self.step:
            self.scoring.mark()

    def draw(self) -> None:
        """Draw the fixed latents and save them as a grid; process 0 does, and the others wait for it."""
        if self.together.from_first(self._draw):
            self._drawn = self.step

    def _draw(self) -> str:
        images = self.fixed_samples()
        file = self.run.samples / f"step-{self.step:08d}.png"
        extent = None if self._backdrop is None else extent_of(self._backdrop)
        if self.keeper.tried("A grid", lambda: save_grid(images, file, target=self._backdrop, extent=extent)):
            return ""
        self.observers.call("samples", run=self.run, step=self.step, images=images)
        return str(file)

    @state.same_random()
    @torch.no_grad()
    def fixed_samples(self) -> Tensor:
        """The fixed latents through the averaged generator: ``[n, *shape]`` float32 on the CPU."""
        gen = self.averaged
        was_training = gen.training
        gen.eval()
        z, y = self.fixed
        with unchanged_buffers(gen):  # some keep count in evaluation, too
            drawn: Tensor = gen(z, y).float().cpu().clone()  # it may be a view of a buffer
        gen.train(was_training)
        return drawn

    def save(self, *, due: bool = False) -> str:
        """Write a checkpoint; a disk that fails is said, and what it said is returned in all processes.

        Args:
            due: whether every run of this configuration saves at this step.
        """
        if self.policy.check(thorough=True):
            return ""
        self.together.check_alike(self.bundle, self.step)
        self._readable.check()
        snapshot = state.with_others(self, self.snapshot())
        if due and self.policy.mode == "rollback":
            self.policy.keep(snapshot)
        pinned = self.policy.pinned
        failed = self.together.from_first(lambda: str(self.keeper.checkpoint(self.step, snapshot, pinned=pinned) or ""))
        if not failed:
            self._saved = self.step
            path = self.run.checkpoints / checkpoint.name_of(self.step)
            self.observers.call("checkpoint_saved", run=self.run, path=path)
        return failed

    def snapshot(self) -> Snapshot:
        """Everything that the next step depends on, in live tensors."""
        return state.capture(self)

    def restore(self) -> None:
        """Go back to the newest good checkpoint of the run.

        Raises:
            MissingError: the run has none.
        """
        path = self.together.from_first(self._newest)
        if not path:
            self.say(f"{self.run.path} has no checkpoint yet and starts anew.")
            self.run.rewind_metrics(-1)
            return
        saved = checkpoint.load(Path(path))
        before = saved.state.get("samples", self.dataset.length)
        if before != self.dataset.length:
            self.say(
                f"Warning: The data set has {self.dataset.length} samples now, and had {before} when {path} was saved; "
                "the run goes on, with other batches than it would have had."
            )
        self.go_back(saved)
        self._seconds = saved.state["seconds"]
        self.policy.restored(saved)
        self._saved = self.step
        due = bool(self.settings.eval_every) and self.step % self.settings.eval_every == 0
        self._missed_score = due and (saved.state.get("best") or {}).get("last", self.step) != self.step

    def go_back(self, saved: Snapshot) -> None:
        """Make an earlier state the present one."""
        state.put_back(self, saved)
        self._history.clear()
        self._last_log = (self.step, self.seconds)
        self._saved = self._drawn = -1
        self._monitor = self._make_monitor()
        self.keeper.tried("Metrics", lambda: self.run.rewind_metrics(self.step))

    def _make_scoring(self) -> Scoring | None:
        if not self.settings.eval_every:
            return None
        from ganzoo.training.scoring import Scoring

        return Scoring(self)

    def _make_monitor(self) -> Monitor:
        return Monitor(self.run.config, self.bundle, self.dataset, self.step, watching=self.leads)

    def _newest(self) -> str | None:
        self.run.sweep()
        checkpoint.sweep(self.run.checkpoints)
        if not checkpoint.list_all(self.run.checkpoints):
            return None
        return str(checkpoint.newest_good(self.run.path, self.say))

    def _fixed_latents(self) -> tuple[Tensor, Tensor | None]:
        """Latents of the grids, drawn on the CPU so that every device shows the same ones; classes in turn."""
        rng = torch.Generator().manual_seed(derive_seed(self.settings.seed, "fixed"))
        z = self.bundle.gen.latent(self.settings.samples, rng).to(self.device)
        classes = self.run.spec.num_classes
        y = torch.arange(self.settings.samples, device=self.device) % classes if classes else None
        return z, y

    def _real_points(self) -> Tensor:
        """What grids of points are drawn over, from a stream of its own."""
        seed = derive_seed(self.settings.seed, "backdrop")
        return DataStream(self.dataset, _BACKDROP, seed, self.device).next().x.cpu()

    def _watch(self) -> None:
        """Have a look at the run's health, and tell what is new."""
        when, cost = self._kept
        if self.together.any(_COPY_SHARE * (time.monotonic() - when) >= cost):  # each has its own clock
            self._keep()
        for event in self._monitor.look(self.step):
            self.keeper.line(event.line())
            self.say(f"Warning: {event.message}")

    def _is_slow(self) -> bool:
        """Whether steps take so long that the state should be kept; several processes never leave within one."""
        return self.together.world == 1 and time.monotonic() - self._kept[0] > _KEEP_AFTER

    def _keep(self) -> None:
        """Keep the state, to go back to it if something goes wrong."""
        began = time.monotonic()
        if self.policy.mode != "rollback":  # that goes back only to where a checkpoint is due
            self.policy.keep()
        now = time.monotonic()
        self._kept = (now, now - began)
