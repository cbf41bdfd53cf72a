"""What a person sees of a run while it trains: a live picture on a terminal, plain lines elsewhere.

Both are observers. A metric stays a tensor until a line is printed, because reading it waits for the device; a step in
between costs them one look at the clock.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ganzoo.api import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from ganzoo.training.run import Run

_NAMES: Final = {"loss_d": "loss D", "loss_g": "loss G", "d_real": "D(real)", "d_fake": "D(fake)"}
_WIDEST: Final = 80
_COLUMNS: Final = 8
Clock = Callable[[], float]


class Display(ABC):
    """What both displays have in common: they know how fast the run goes, and print at intervals."""

    def __init__(self, console: Console, interval: float, clock: Clock = time.monotonic) -> None:
        self.console = console
        self._interval = interval
        self._clock = clock
        self._due = 0.0
        self._last = (0, 0.0)  # step and time of the last print
        self._speed = 0.0

    @hookimpl
    def ganzoo_run_start(self, run: Run) -> None:
        """Start the clock."""
        self._last = (run.first_step, self._clock())
        self._due = 0.0
        self._speed = 0.0

    @hookimpl
    def ganzoo_step_end(self, run: Run, step: int, metrics: Mapping[str, Tensor]) -> None:
        """Print if it is time to."""
        now = self._clock()
        if now < self._due and step != run.config.run.steps:
            return
        self._measure(run, step, now)
        self._due = now + self._interval
        self.show(run, step, {name: float(value) for name, value in metrics.items() if value.numel() == 1})

    @hookimpl
    def ganzoo_run_end(self, run: Run, error: BaseException | None) -> None:
        """Leave the terminal as it was."""
        self.close()

    @abstractmethod
    def show(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Print where the run is."""

    def close(self) -> None:
        """Leave the terminal as it was; may be called again."""

    def _measure(self, run: Run, step: int, now: float) -> None:
        """The speed since the last print; the first step, which warms up, does not count."""
        before, then = self._last
        if step > run.first_step + 1 and now > then:
            self._speed = (step - before) / (now - then)
        self._last = (step, now)

    def _progress(self, run: Run, step: int) -> list[str]:
        settings = run.config.run
        words = [f"step {step}/{settings.steps}"]
        if self._speed:
            words += [
                f"{self._speed:.3g} steps/s",
                f"{_short(self._speed * settings.batch_size)} images/s",
                f"{_duration((settings.steps - step) / self._speed)} left",
            ]
        return words


class PlainDisplay(Display):
    """One line every few seconds, for logs and pipes."""

    def __init__(self, console: Console, interval: float = 5.0, clock: Clock = time.monotonic) -> None:
        super().__init__(console, interval, clock)

    def show(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        words = [*self._progress(run, step), *(f"{_NAMES.get(k, k)} {v:.4g}" for k, v in metrics.items())]
        self.console.print("  ".join(words), soft_wrap=True)


class LiveDisplay(Display):
    """A progress bar, the metrics and the fixed samples, redrawn in place."""

    def __init__(self, console: Console, interval: float = 0.5, clock: Clock = time.monotonic) -> None:
        super().__init__(console, interval, clock)
        self._live: Live | None = None
        self._preview: RenderableType = Text()
        self._ascii = console.options.ascii_only or console.no_color

    def show(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(run.config.run.steps, 1), completed=step, width=24),
            Text("  ".join(self._progress(run, step)), overflow="ellipsis", no_wrap=True),
        )
        body = Table.grid(padding=(0, 2))
        body.add_row(*(Text.assemble((f"{_NAMES.get(k, k)} ", "dim"), f"{v:.4g}") for k, v in metrics.items()))
        if self._live is None:
            # Redrawn by us alone: a thread that draws on its own would compete with the training loop.
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._live.update(Group(head, body, self._preview), refresh=True)

    @hookimpl
    def ganzoo_samples(self, run: Run, step: int, images: Tensor) -> None:
        """Draw the fixed samples anew; they appear with the next line."""
        from ganzoo.outputs.preview import half_blocks, scatter

        width = min(self.console.width, _WIDEST)
        height = max(2, self.console.height - 4)
        if images.ndim != 4:
            self._preview = scatter(
                images, 2 * min(height, width // 2), min(height, width // 2), ascii_only=self._ascii
            )
            return
        cell = min(width // _COLUMNS - 1, images.shape[-1])
        tile = -(-cell * images.shape[-2] // images.shape[-1] // 2)
        shown = images[: _COLUMNS * max(1, height // max(tile, 1))]
        self._preview = half_blocks(shown, _COLUMNS, width, ascii_only=self._ascii)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def display_for(console: Console) -> Display:
    """A live display where somebody looks at a terminal, else a plain one."""
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(console)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _short(number: float) -> str:
    return f"{number / 1000:.3g}k" if number >= 1000 else f"{number:.3g}"
