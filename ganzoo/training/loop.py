"""One run from its configuration to its last step."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from ganzoo.data import Dataset, DataStream
from ganzoo.errors import Interrupted
from ganzoo.nn import EMA, Trainer
from ganzoo.nn.bundle import derive_seed
from ganzoo.outputs.grids import extent_of, save_grid
from ganzoo.registry import build
from ganzoo.training import checkpoint, state
from ganzoo.training.alone import Alone
from ganzoo.training.build import build_bundle, check_what_was_built
from ganzoo.training.checkpoint import Snapshot
from ganzoo.training.diverged import diverged
from ganzoo.training.monitor import Monitor
from ganzoo.training.observers import Observers
from ganzoo.training.run import Run
from ganzoo.training.signals import StopSignals
from ganzoo.training.vitals import broken_names

_BACKDROP: Final = 1024


class Session:
    """The live objects of a run, and the loop over its steps.

    Args:
        run: its directory and configuration.
        device: what to compute on.
        say: hears one sentence at a time of what the user should know.
        extra_observers: objects with lifecycle hooks, beside those of the plugins.
        check_rules: whether rules are checked again on what was built.
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
        together: Alone | None = None,
    ) -> None:
        self.together = together = together or Alone()
        self.leads = together.rank == 0
        self.run, self.device, self.say = run, device, say
        self.observers = Observers(extra_observers, silent=not self.leads)
        config, spec = run.config, run.spec
        self.settings = config.run
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
        self.trainer: Trainer = build(config.trainer, spec)
        self.trainer.setup(self.bundle)
        together.start_alike(self.bundle)
        half_life = self.settings.ema_half_life
        self.ema = EMA(self.bundle.gen, half_life, self.settings.ema_ramp) if half_life else None
        self.fixed = self._fixed_latents()
        self._backdrop = None if spec.is_image else self._real_points()
        self.step = 0
        self._seconds = 0.0  # of training in earlier sessions
        self._started = time.monotonic()
        self._history: list[dict[str, Tensor]] = []
        self._last_log = (0, 0.0)
        self._good = state.copied(self.snapshot())
        self._monitor = Monitor(config, self.bundle, self.dataset, watching=self.leads)

    @property
    def images(self) -> int:
        """How many samples the generator's steps have stood for."""
        return self.step * self.settings.batch_size

    @property
    def seconds(self) -> float:
        """Seconds of training, over all sessions."""
        return self._seconds + time.monotonic() - self._started

    def train(self) -> None:
        """Take the remaining steps, logging, drawing and saving at their intervals.

        Raises:
            DivergedError: a loss was not finite.
            Interrupted: a signal came; a checkpoint was saved.
        """
        error: BaseException | None = None
        self.run.first_step = self.step
        self.observers.call("run_start", run=self.run)
        self._started = time.monotonic()
        self._last_log = (self.step, self.seconds)
        try:
            with StopSignals() as stop:
                if self.step == 0:
                    self.draw()
                signum = 0
                while self.step < self.settings.steps and not (signum := self.together.agree(stop.received)):
                    self._take_step()
                self._finish()
                self.together.meet()  # none may leave while process 0 still writes: torchrun would end that, too
                if signum:
                    self._leave(signum)
        except BaseException as err:
            error = err
            raise
        finally:
            self.observers.call("run_end", run=self.run, error=error)

    def _take_step(self) -> None:
        settings = self.settings
        self.bundle.begin(self.step)
        metrics = self.trainer.step(self.stream)
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.bundle.gen, self.images, settings.batch_size)
        self._history.append(metrics)
        self.observers.call("step_end", run=self.run, step=self.step, metrics=metrics)
        if self.step % settings.log_every == 0:
            self.log()
        if self.step == settings.steps:
            return  # what is due at the end is done once, there
        if settings.sample_every and self.step % settings.sample_every == 0:
            self.draw()
        if settings.checkpoint_every and self.step % settings.checkpoint_every == 0:
            self.save()

    def _finish(self) -> None:
        if self._history:
            self.log()
        if self.step != self.run.first_step or self.step == 0:
            self.draw()
            self.save()

    def _leave(self, number: int) -> None:
        if self.step < self.settings.steps:
            name = signal.Signals(number).name
            raise Interrupted(
                f"{name}: stopped after step {self.step} with everything saved; "
                f"go on with: ganzoo run --resume {shlex.quote(str(self.run.path))}",
                number,
            )

    def log(self) -> None:
        """Write the means since the last line to ``metrics.jsonl``; here the device is waited for."""
        look = self._monitor.due(self.step)
        self._check_finite(thorough=look)
        self.together.check_alike(self.bundle, self.step)
        means = {
            key: torch.stack([entry[key].double() for entry in self._history if key in entry]).mean().item()
            for key in dict.fromkeys(key for entry in self._history for key in entry)
        }
        means = dict(zip(means, self.together.mean_of(list(means.values())), strict=True))
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
        self.run.append_metrics(line)
        self._history.clear()
        self._last_log = (self.step, self.seconds)
        if look:
            self._watch()

    def draw(self) -> None:
        """Draw the fixed latents and save them as a grid."""
        if not self.leads:
            return
        images = self.fixed_samples()
        file = self.run.samples / f"step-{self.step:08d}.png"
        extent = None if self._backdrop is None else extent_of(self._backdrop)
        save_grid(images, file, target=self._backdrop, extent=extent)
        self.observers.call("samples", run=self.run, step=self.step, images=images)

    @torch.inference_mode()
    def fixed_samples(self) -> Tensor:
        """The fixed latents through the averaged generator: ``[n, *shape]`` float32 on the CPU."""
        gen = self.bundle.gen if self.ema is None else self.ema.module
        was_training = gen.training
        gen.eval()
        z, y = self.fixed
        drawn: Tensor = gen(z, y)
        gen.train(was_training)
        return drawn.float().cpu()

    def save(self) -> None:
        """Write a checkpoint."""
        self._check_finite(thorough=True)
        self.together.check_alike(self.bundle, self.step)
        if not self.leads:
            return
        path = checkpoint.save(self.run.checkpoints, self.step, self.snapshot(), keep=self.settings.keep_last)
        self.observers.call("checkpoint_saved", run=self.run, path=path)

    def snapshot(self) -> Snapshot:
        """Everything that the next step depends on, in live tensors."""
        return state.capture(self)

    def restore(self) -> None:
        """Go back to the newest good checkpoint of the run.

        Raises:
            MissingError: the run has none.
        """
        saved = checkpoint.load(Path(self.together.from_first(self._newest)))
        state.put_back(self, saved)
        self._seconds = saved.state["seconds"]
        self._good = saved
        self._monitor = Monitor(self.run.config, self.bundle, self.dataset, self.step, watching=self.leads)
        self.run.rewind_metrics(self.step)

    def _newest(self) -> str:
        checkpoint.sweep(self.run.checkpoints)
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

    def _check_finite(self, *, thorough: bool) -> None:
        """Stop if a loss was not finite since the last state kept; ``thorough``: or if a weight is not finite now."""
        bundle = self.bundle
        sides = (bundle.gen_side, bundle.disc_side)
        if bundle.broken.item() or (thorough and any(broken_names(side.named_parameters()) for side in sides)):
            raise diverged(self, self._good)

    def _watch(self) -> None:
        """Have a look at the run's health, and tell what is new."""
        self._good = state.copied(self.snapshot())
        for event in self._monitor.look(self.step):
            self.run.append_metrics(event.line())
            self.say(f"Warning: {event.message}")
