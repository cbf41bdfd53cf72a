"""Samples of several runs side by side in one picture, each under its label. The same latents' seed for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from PIL import Image, ImageDraw, ImageFont

from ganzoo.data import DataStream
from ganzoo.errors import GanzooError, UsageError
from ganzoo.outputs.grids import PICTURES, draw, extent_of, save_picture
from ganzoo.outputs.sampling import batches, labels_for, latents
from ganzoo.outputs.source import Say, open_source
from ganzoo.registry import build
from ganzoo.training.run import Run

_IMAGES: Final = 64
_POINTS: Final = 1000
_BACKDROP: Final = 1024
_SEED: Final = 0
_PANEL: Final = 320
"""Least pixels of a side of a panel."""
_GAP: Final = 12
_TEXT: Final = 15
_PAPER, _INK = "#ffffff", "#202020"


def save_sheet(runs: Sequence[tuple[str, Path]], path: Path, *, say: Say = lambda _: None) -> Path:
    """Draw samples of runs, and write them as one picture.

    Args:
        runs: label and folder of each.
        path: the picture; its ending decides the format.
        say: hears of runs that cannot be sampled, whose newest grid stands in.

    Raises:
        UsageError: there are no runs, or the ending is of no picture.
        GanzooError: it cannot be written.
    """
    if path.suffix.lower() not in PICTURES:
        raise UsageError(f"{path.name!r} is no picture that ganzoo writes; its name ends in {', '.join(PICTURES)}.")
    if not runs:
        raise UsageError("There is no run to draw.")
    save_picture(sheet([(label, _panel(run, say)) for label, run in runs]), path)
    return path


def sheet(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures on white, each under its label, about as many in a row as rows."""
    font = ImageFont.load_default(_TEXT)
    columns = math.ceil(math.sqrt(len(panels)))
    width = max(panel.width for _, panel in panels)
    height = max(panel.height for _, panel in panels)
    texts = [_folded(label, font, width) for label, _ in panels]
    line = _TEXT + 4
    head = line * max(len(lines) for lines in texts) + 4
    rows = math.ceil(len(panels) / columns)
    size = (_GAP + columns * (width + _GAP), _GAP + rows * (head + height + _GAP))
    canvas = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(canvas)
    for index, ((_, panel), lines) in enumerate(zip(panels, texts, strict=True)):
        left = _GAP + index % columns * (width + _GAP)
        top = _GAP + index // columns * (head + height + _GAP)
        for number, text in enumerate(lines):
            pen.text((left, top + number * line), text, fill=_INK, font=font)
        canvas.paste(panel, (left, top + head))
    return canvas


def _folded(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """A label in lines that are no wider than ``width``, at blanks where there are some."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    while font.getlength(lines[-1]) > width and len(lines[-1]) > 1:
        cut = next(n for n in range(len(lines[-1]), 0, -1) if n == 1 or font.getlength(lines[-1][:n]) <= width)
        lines[-1:] = [lines[-1][:cut], lines[-1][cut:]]
    return lines


def _panel(run: Path, say: Say) -> Image.Image:
    try:
        panel = _drawn(run, say)
    except GanzooError as err:
        newest = max((run / "samples").glob("*.png"), default=None)
        if newest is None:
            say(f"{run.name} has no samples to show: {err}")
            return Image.new("RGB", (_PANEL, _PANEL), "#eeeeee")
        say(f"{run.name} is shown by its newest grid: {err}")
        with Image.open(newest) as opened:
            panel = opened.convert("RGB")
    times = math.ceil(_PANEL / max(panel.size))
    return panel.resize((panel.width * times, panel.height * times), Image.Resampling.NEAREST) if times > 1 else panel


def _drawn(run: Path, say: Say) -> Image.Image:
    source = open_source(run)
    gen = source.generator(say=say)[0]
    count = _IMAGES if source.spec.is_image else _POINTS
    labels = labels_for(source, count)
    samples = torch.cat(list(batches(gen, latents(gen, count, _SEED), labels)))
    if source.spec.is_image:
        return draw(samples, columns=math.isqrt(_IMAGES)).convert("RGB")
    opened = Run.open(run)
    data = build(opened.config.data, opened.spec)
    target = DataStream(data, _BACKDROP, _SEED, torch.device("cpu")).next().x
    panel = draw(samples, target=target, extent=extent_of(target))
    return panel.resize((_PANEL, _PANEL), Image.Resampling.LANCZOS)
