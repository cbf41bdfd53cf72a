"""A picture of the plane: what the critic thinks of every place, real points, and generated ones over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from ganzoo.errors import UsageError
from ganzoo.outputs.grids import Extent, extent_of, picture, save_picture

_SIDE: Final = 640
_FINE: Final = 2
"""The picture is drawn this many times larger, and then reduced, so that lines and dots are smooth."""
_ASKED: Final = 256
"""Places in a row and in a column at which the critic is asked."""
_CHUNK: Final = 8192
_LEVELS: Final = 14
_LOW, _MIDDLE, _HIGH = (190, 174, 212), (248, 248, 246), (168, 211, 190)
_LINE_SHADE: Final = 0.9
_AXES, _REAL, _FAKE, _TEXT, _PAPER = "#b9b9b9", "#8c8c8c", "#1f5fbfa0", "#444444", "#ffffff"
_REAL_DOT, _HALO, _FAKE_DOT = 6.0, 2.0, 1.8
_SHOWN: Final = 1000
"""Generated points that are drawn; more would hide what they cover."""
_ROOM: Final = 1.12
"""How much wider the axes are than a scatter plot's: a field is of interest around the points."""
_EDGE: Final = 8


def field(
    samples: Tensor,
    real: Tensor,
    critic: Callable[[Tensor], Tensor],
    *,
    extent: Extent | None = None,
) -> Image.Image:
    """Generated points as small blue dots over real ones in grey, over the critic's field.

    The field is white where the critic's logit is its median over the plane, green where it is higher, which means
    more real, and violet where it is lower. Lines join equal logits. The colours span what 98 % of the plane has, so
    that a steep critic does not hide the rest. Colours compare places, and say nothing of the logit's zero.

    Args:
        samples: ``[n, 2]``; the first 1,000 are drawn, and none that is outside.
        real: ``[m, 2]``.
        critic: points ``[k, 2]`` float32, on the device of ``samples``, to logits ``[k]``.
        extent: the axes; what the real points need, with some room, unless given. Two corners tell where they are.

    Raises:
        UsageError: the points are not in the plane, or there are none.
    """
    for points in (samples, real):
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise UsageError(f"A critic's field is drawn over points [n, 2] in the plane, not {list(points.shape)}.")
    left, right, bottom, top = extent = extent or _roomy(extent_of(real))
    logits = _logits(critic, _places(extent).to(samples.device)).view(1, 1, _ASKED, _ASKED)
    finite = logits[logits.isfinite()]
    middle = float(finite.median()) if len(finite) else 0.0
    height = logits.nan_to_num(middle, middle, middle) - middle
    reach = float(height.abs().flatten().quantile(0.98)) or 1.0
    size = _SIDE * _FINE
    height = interpolate((height / reach).float(), (size, size), mode="bicubic", align_corners=False)[0, 0]
    canvas = picture(_coloured(height))
    draw = ImageDraw.Draw(canvas, "RGBA")
    corner = torch.tensor([left, top], dtype=torch.float64)
    across = torch.tensor([size / (right - left), size / (bottom - top)], dtype=torch.float64)
    x0, y0 = (-corner * across).tolist()
    draw.line([(x0, 0), (x0, size)], _AXES, _FINE)
    draw.line([(0, y0), (size, y0)], _AXES, _FINE)
    layers = ((real, _REAL_DOT + _HALO, _PAPER), (real, _REAL_DOT, _REAL), (samples[:_SHOWN], _FAKE_DOT, _FAKE))
    for points, dot, colour in layers:
        spots = (points.detach().cpu().double() - corner) * across
        inside = ((spots >= 0) & (spots <= size)).all(1)
        radius = dot * _FINE
        for x, y in spots[inside].tolist():
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    canvas = canvas.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    _write_corners(canvas, extent)
    return canvas


def save_field(
    samples: Tensor,
    real: Tensor,
    critic: Callable[[Tensor], Tensor],
    file: Path,
    *,
    extent: Extent | None = None,
) -> Path:
    """:func:`field` into ``file``, whose ending decides the format.

    Raises:
        UsageError: the points are not in the plane, or the ending is of no picture.
        GanzooError: it cannot be written.
    """
    save_picture(field(samples, real, critic, extent=extent), file)
    return file


def _places(extent: Extent) -> Tensor:
    """Middles of the cells of a grid over the plane, row by row from the top, ``[_ASKED ** 2, 2]`` float32."""
    left, right, bottom, top = extent
    steps = (torch.arange(_ASKED, dtype=torch.float64) + 0.5) / _ASKED
    y, x = torch.meshgrid(top + (bottom - top) * steps, left + (right - left) * steps, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1).float()


@torch.no_grad()
def _logits(critic: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    return torch.cat([critic(part).detach().cpu().double().flatten() for part in torch.split(points.float(), _CHUNK)])


def _roomy(extent: Extent) -> Extent:
    left, right, bottom, top = extent
    x, y, wide, tall = (left + right) / 2, (bottom + top) / 2, (right - left) * _ROOM / 2, (top - bottom) * _ROOM / 2
    return (x - wide, x + wide, y - tall, y + tall)


def _coloured(height: Tensor) -> Tensor:
    """Heights ``[H, W]``, mostly in -1 .. 1, as pixels ``[3, H, W]`` uint8 with a line at each of some levels."""
    height = height.clamp(-1.2, 1.2)
    low, middle, high = (torch.tensor(colour, dtype=torch.float32).view(3, 1, 1) for colour in (_LOW, _MIDDLE, _HIGH))
    strength = height.abs().clamp(max=1)
    pixels = torch.lerp(middle.expand(3, *height.shape), torch.where(height > 0, high, low), strength)
    level = (height * (_LEVELS / 2)).floor()
    edge = torch.zeros_like(level, dtype=torch.bool)
    edge[1:] |= level[1:] != level[:-1]
    edge[:, 1:] |= level[:, 1:] != level[:, :-1]
    return torch.where(edge, pixels * _LINE_SHADE, pixels).round().to(torch.uint8)


def _write_corners(canvas: Image.Image, extent: Extent) -> None:
    """Where the lower left and the upper right corner are, small."""
    left, right, bottom, top = extent
    draw = ImageDraw.Draw(canvas)
    low, high = f"({left:.3g}, {bottom:.3g})", f"({right:.3g}, {top:.3g})"
    places = ((low, "ls", (_EDGE, _SIDE - _EDGE)), (high, "rt", (_SIDE - _EDGE, _EDGE)))
    for text, anchor, spot in places:
        draw.text(spot, text, _TEXT, anchor=anchor, stroke_width=2, stroke_fill=_PAPER)


__all__ = ["field", "save_field"]
