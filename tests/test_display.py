"""Displays read metrics rarely, print what matters and leave the terminal as it was."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.cli import terminal
from ganzoo.cli.display import Display, LiveDisplay, PlainDisplay, display_for
from ganzoo.config import Layer, resolve
from ganzoo.outputs.preview import half_blocks, scatter
from ganzoo.plugins import loaded
from ganzoo.training.observers import Observers
from ganzoo.training.run import Run


class Terminal(io.StringIO):
    """A terminal that keeps what was written."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = {"data": "ring", "steps": 1000, "batch_size": 10}
    return Run(tmp_path, resolve([Layer("test", settings)]), Spec((2,)))


def metrics() -> dict[str, Tensor]:
    return {"loss_d": torch.tensor(1.25), "d_real": torch.tensor(0.5), "grid": torch.zeros(3)}


def console(stream: io.StringIO, **kwargs: Any) -> Console:
    return Console(file=stream, width=100, height=24, **kwargs)


def test_plain_lines_come_at_intervals_and_tell_speed_and_time_left(run: Run) -> None:
    out, clock = io.StringIO(), Clock()
    display = PlainDisplay(console(out), interval=5, clock=clock)
    display.ganzoo_run_start(run)
    for step in range(1, 202):
        clock.now += 0.125
        display.ganzoo_step_end(run, step, metrics())
    display.ganzoo_run_end(run, None)
    lines = out.getvalue().splitlines()
    assert lines[0] == "step 1/1000  loss D 1.25  D(real) 0.5"
    assert lines[1].startswith("step 41/1000  8 steps/s  80 images/s  2:00 left  loss D 1.25")
    assert len(lines) == 6


def test_a_resumed_run_counts_its_own_steps_only(run: Run) -> None:
    out, clock = io.StringIO(), Clock()
    run.first_step = 500
    display = PlainDisplay(console(out), interval=1, clock=clock)
    display.ganzoo_run_start(run)
    for step in (501, 502):
        clock.now += 1
        display.ganzoo_step_end(run, step, metrics())
    assert "1 steps/s" in out.getvalue()


def test_the_last_step_is_always_shown(run: Run) -> None:
    out = io.StringIO()
    display = PlainDisplay(console(out), interval=1e9)
    display.ganzoo_run_start(run)
    for step in (998, 999, 1000):
        display.ganzoo_step_end(run, step, metrics())
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["998/1000", "1000/1000"]


class Unread(dict[str, Tensor]):
    """Metrics that must not be looked at."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError

    items = values = keys = __iter__  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
def test_between_two_prints_no_metric_is_read(run: Run, kind: type[Display]) -> None:
    display = kind(console(Terminal()), 1e9)
    display.ganzoo_run_start(run)
    display.ganzoo_step_end(run, 1, metrics())
    display.ganzoo_step_end(run, 2, Unread())
    display.close()


@pytest.mark.parametrize("images", [torch.rand(10, 1, 8, 8), torch.rand(70, 3, 64, 48), torch.randn(50, 2)])
@pytest.mark.parametrize("no_color", [True, False])
def test_the_live_display_draws_and_restores_the_cursor(run: Run, images: Tensor, no_color: bool) -> None:
    out = Terminal()
    display = display_for(console(out, force_terminal=True, color_system="truecolor", no_color=no_color))
    assert isinstance(display, LiveDisplay)
    display.ganzoo_run_start(run)
    display.ganzoo_samples(run, 0, images)
    display.ganzoo_step_end(run, 1, metrics())
    display.ganzoo_run_end(run, None)
    display.close()
    text = out.getvalue()
    assert "step 1/1000" in text
    assert text.endswith("\x1b[?25h")
    assert len(text.split("step 1/1000")[1].splitlines()) <= 24
    if no_color:
        assert "\x1b[38" not in text


def test_elsewhere_than_on_a_terminal_lines_are_plain() -> None:
    assert isinstance(display_for(console(io.StringIO())), PlainDisplay)


def test_displays_are_observers(run: Run) -> None:
    out = io.StringIO()
    before = len(loaded().manager.get_plugins())
    observers = Observers([PlainDisplay(console(out))])
    observers.call("run_start", run=run)
    observers.call("step_end", run=run, step=1, metrics=metrics())
    observers.call("samples", run=run, step=1, images=torch.zeros(1, 2))
    observers.call("run_end", run=run, error=None)
    assert out.getvalue().startswith("step 1/1000")
    assert len(loaded().manager.get_plugins()) == before


def test_half_blocks_hold_two_pixels_to_a_character() -> None:
    image = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).expand(1, 3, 2, 2)
    text = half_blocks(image, 1, 10)
    assert text.plain == "\N{UPPER HALF BLOCK}" * 3
    styles = [str(span.style) for span in text.spans]
    assert styles[:2] == ["#000000 on #ffffff", "#ffffff on #000000"]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 3, 7, 9), (64, 1, 28, 28), (3, 2, 100, 3), (9, 4, 3, 100)])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_previews_fit_the_width(shape: tuple[int, ...], ascii_only: bool) -> None:
    images = torch.randn(shape).clamp(-1, 1)
    images[0] = math.nan
    text = half_blocks(images, 8, 60, ascii_only=ascii_only).plain
    assert all(len(line) <= 60 for line in text.splitlines())
    assert text.isascii() == ascii_only


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_scatter_plot_shows_points_where_they_are(ascii_only: bool) -> None:
    points = torch.tensor([[-1.0, 1.0], [1.0, -1.0], [math.nan, 0.0]])
    lines = scatter(points, 20, 10, ascii_only=ascii_only).plain.splitlines()
    assert [len(line) for line in lines] == [20] * 10
    marks = [(row, line.index(line.strip())) for row, line in enumerate(lines) if line.strip()]
    (top, left), (bottom, right) = marks
    assert (top < 3, bottom > 6) == (True, True)
    assert (left < 3, right > 16) == (True, True)
    assert scatter(torch.full((2, 2), math.nan), 4, 2).plain.split() == []
    assert scatter(torch.zeros(3, 1), 4, 2).plain.strip()


NUMBERS = [("a-run-of-some-length", "20.1 ± 0.01", "30,384", "words that may be wrapped where there is little room")]


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_no_table_loses_a_number_however_narrow(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal.table(("run", "FID", "G", "note"), NUMBERS, wrap=("note",))
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    for text in ("FID", *NUMBERS[0][:3], *NUMBERS[0][3].split()):
        assert text in said


def test_a_table_of_two_columns_wraps_where_it_must(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal.table(("", ""), [("source", "/a/long/path" * 5)])
    assert "".join(capsys.readouterr().out.split()).strip("─") == "source" + "/a/long/path" * 5
