"""One run from its configuration to its last step."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from ganzoo.data import Dataset, DataStream
from ganzoo.errors import DivergedError, GanzooError, Interrupted
from ganzoo.nn import EMA, Trainer
from ganzoo.nn.bundle import derive_seed
from ganzoo.outputs.grids import extent_of, save_grid
from ganzoo.registry import build
from ganzoo.training import checkpoint
from ganzoo.training.build import build_bundle, check_what_was_built
from ganzoo.training.checkpoint import Snapshot
from ganzoo.training.observers import Observers
from ganzoo.training.run import Run
from ganzoo.training.signals import StopSignals

_GROUP_KEYS: Final = ("gen", "disc")
_BACKDROP: Final = 1024


class Session:
    """The live objects of a run, and the loop over its steps.

    Args:
        run: its directory and configuration.
        device: what to compute on.
        say: hears one sentence at a time of what the user should know.
        extra_observers: objects with lifecycle hooks, beside those of the plugins.
        check_rules: whether rules are checked again on what was built.
    """

    def __init__(
        self,
        run: Run,
        device: torch.device,
        *,
        say: Callable[[str], None],
        extra_observers: Sequence[object] = (),
        check_rules: bool = True,
    ) -> None:
        self.run, self.device, self.say = run, device, say
        self.observers = Observers(extra_observers)
        config, spec = run.config, run.spec
        self.settings = config.run
        if self.settings.deterministic:
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
        self.dataset: Dataset = build(config.data, spec).to(device)
        self.stream = DataStream(self.dataset, self.settings.batch_size, self.settings.seed, device)
        self.bundle = build_bundle(config, spec, device)
        if check_rules:
            check_what_was_built(config.plan(spec), self.bundle)
        self.trainer: Trainer = build(config.trainer, spec)
        self.trainer.setup(self.bundle)
        half_life = self.settings.ema_half_life
        self.ema = EMA(self.bundle.gen, half_life, self.settings.ema_ramp) if half_life else None
        self.fixed = self._fixed_latents()
        self._backdrop = None if spec.is_image else self._real_points()
        self.step = 0
        self._seconds = 0.0  # of training in earlier sessions
        self._started = time.monotonic()
        self._history: list[dict[str, Tensor]] = []
        self._last_log = (0, 0.0)

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
                while self.step < self.settings.steps and not stop.received:
                    self._take_step()
                self._finish()
                if stop.received:
                    self._leave(stop.received)
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
                f"go on with: ganzoo run --resume {self.run.path}",
                number,
            )

    def log(self) -> None:
        """Write the means since the last line to ``metrics.jsonl``; here the device is waited for."""
        self._check_finite()
        means = {
            key: torch.stack([entry[key].double() for entry in self._history if key in entry]).mean().item()
            for key in self._history[-1]
        }
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

    def draw(self) -> None:
        """Draw the fixed latents and save them as a grid."""
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
        self._check_finite()
        path = checkpoint.save(self.run.checkpoints, self.step, self.snapshot(), keep=self.settings.keep_last)
        self.observers.call("checkpoint_saved", run=self.run, path=path)

    def snapshot(self) -> Snapshot:
        """Everything that the next step depends on. Noise and data order follow from seed, step and position."""
        bundle = self.bundle
        model = {**bundle.gen_side.state_dict(), **bundle.disc_side.state_dict()}
        if self.ema is not None:
            model |= {f"ema.{name}": value for name, value in self.ema.module.state_dict().items()}
        optimizer: dict[str, Tensor] = {f"trainer.{key}": value for key, value in self.trainer.state_dict().items()}
        groups = {}
        for key, side in zip(_GROUP_KEYS, (bundle.gen_side, bundle.disc_side), strict=True):
            tensors, groups[key] = checkpoint.flatten_optimizer(side.optimizer, key)
            optimizer |= tensors
        state = {
            "step": self.step,
            "position": self.stream.position,
            "seconds": self.seconds,
            "groups": groups,
            "random": _random_state(),
        }
        return Snapshot(model, optimizer, state)

    def restore(self) -> None:
        """Go back to the newest good checkpoint of the run.

        Raises:
            MissingError: the run has none.
        """
        checkpoint.sweep(self.run.checkpoints)
        path = checkpoint.newest_good(self.run.path, self.say)
        saved = checkpoint.load(path)
        bundle = self.bundle
        checkpoint.restore_module(bundle.gen, "gen", saved.model)
        disc_side = {name: value for name, value in saved.model.items() if not name.startswith(("gen.", "ema."))}
        bundle.disc_side.load_state_dict(disc_side)
        if self.ema is not None:
            checkpoint.restore_module(self.ema.module, "ema", saved.model)
        for key, side in zip(_GROUP_KEYS, (bundle.gen_side, bundle.disc_side), strict=True):
            checkpoint.restore_optimizer(side.optimizer, key, saved.optimizer, saved.state["groups"][key])
        own = {
            name.removeprefix("trainer."): value
            for name, value in saved.optimizer.items()
            if name.startswith("trainer.")
        }
        self.trainer.load_state_dict(own)
        self.stream.position = saved.state["position"]
        self.step = saved.state["step"]
        self._seconds = saved.state["seconds"]
        _restore_random(saved.state["random"])
        self.run.rewind_metrics(self.step)

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

    def _check_finite(self) -> None:
        if self.bundle.broken.item():
            last = next(iter(checkpoint.list_all(self.run.checkpoints)), None)
            kept = f"the last good state is {last}" if last else "there is no checkpoint before it"
            raise DivergedError(
                f"A loss became NaN or infinite between steps {self._last_log[0]} and {self.step}; {kept}. "
                "Try a smaller learning rate (--optim.lr), or another loss (--loss ns, --loss wgan-gp)."
            )


def _random_state() -> dict[str, Any]:
    """Python's and NumPy's global generators, which a plugin may use; torch's follows from seed and step."""
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {"python": [version, list(words), gauss]}
    if "numpy" in sys.modules:
        import numpy as np

        name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        state["numpy"] = [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)]
    return state


def _restore_random(state: dict[str, Any]) -> None:
    try:
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        if "numpy" in state:
            import numpy as np

            name, keys, position, has_gauss, cached = state["numpy"]
            np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    except (KeyError, TypeError, ValueError) as err:
        raise GanzooError(f"The random state of the checkpoint is damaged: {err}.") from None
