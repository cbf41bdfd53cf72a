"""Small pictures made of characters, for a terminal."""

from __future__ import annotations

from typing import Final

import torch
from rich.style import Style
from rich.text import Text
from torch import Tensor
from torch.nn import functional

from ganzoo.outputs.grids import extent_of, to_uint8

_RAMP: Final = " .:-=+*#%@"
_HALVES: Final = (" ", "\N{UPPER HALF BLOCK}", "\N{LOWER HALF BLOCK}", "\N{FULL BLOCK}")
_DOTS: Final = (" ", "'", ".", ":")


def half_blocks(images: Tensor, columns: int, width: int, *, ascii_only: bool = False) -> Text:
    """Images as coloured half blocks, two pixels to a character.

    Args:
        images: ``[n, C, H, W]`` in [-1, 1].
        columns: images side by side.
        width: characters a line.
        ascii_only: grey levels as characters instead, for terminals without colour or blocks.
    """
    pixels = _montage(images, columns, max(1, width // columns - 1))
    if ascii_only:
        grey = pixels.float().mean(dim=-1)[::2] / 256
        lines = ["".join(_RAMP[int(value * len(_RAMP))] for value in row) for row in grey.tolist()]
        return Text("\n".join(lines), no_wrap=True)
    text = Text(no_wrap=True)
    upper, lower = pixels[::2].tolist(), pixels[1::2].tolist()
    for number, (top, bottom) in enumerate(zip(upper, lower, strict=True)):
        if number:
            text.append("\n")
        for front, back in zip(top, bottom, strict=True):
            text.append(_HALVES[1], Style(color=_hex(front), bgcolor=_hex(back)))
    return text


def scatter(points: Tensor, width: int, height: int, *, ascii_only: bool = False) -> Text:
    """Points ``[n, D]`` as a small plot of their first two coordinates, two dots to a character."""
    plane = functional.pad(points.detach().float().cpu(), (0, 1))[:, :2]
    plane = plane[plane.isfinite().all(dim=1)]
    left, right, bottom, top = extent_of(plane)
    rows = 2 * height
    x = ((plane[:, 0] - left) / (right - left) * width).long().clamp(0, width - 1)
    y = ((top - plane[:, 1]) / (top - bottom) * rows).long().clamp(0, rows - 1)
    taken = torch.zeros(rows, width, dtype=torch.int64)
    taken[y, x] = 1
    signs = _DOTS if ascii_only else _HALVES
    codes = (taken[::2] + 2 * taken[1::2]).tolist()
    return Text("\n".join("".join(signs[code] for code in row) for row in codes), no_wrap=True)


def _montage(images: Tensor, columns: int, cell: int) -> Tensor:
    """The images side by side as ``[H, W, 3]`` uint8 with an even H; none is enlarged."""
    pixels = to_uint8(images)
    tall, wide = pixels.shape[2:]
    scale = min(1.0, cell / wide)
    size = (max(1, round(tall * scale)), max(1, round(wide * scale)))
    tiles = functional.interpolate(pixels.float(), size=size, mode="area").round().to(torch.uint8).expand(-1, 3, -1, -1)
    count, channels, tall, wide = tiles.shape
    rows = -(-count // columns)
    # A dark column between neighbours, and a dark line where a tile's height is odd.
    sheet = torch.zeros(rows * columns, channels, tall + tall % 2, wide + 1, dtype=torch.uint8)
    sheet[:count, :, :tall, :wide] = tiles
    return sheet.view(rows, columns, *sheet.shape[1:]).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)


def _hex(pixel: list[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel)
