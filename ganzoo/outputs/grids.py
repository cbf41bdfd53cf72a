"""Pictures of samples: tiles for images, a scatter plot for points. Pillow only; equal samples give equal bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ganzoo.data.pixels import from_unit
from ganzoo.errors import UsageError
from ganzoo.files import write_bytes

Extent = tuple[float, float, float, float]
"""Left, right, bottom and top of a scatter plot."""

PICTURES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95}),
    ".jpeg": ("JPEG", {"quality": 95}),
    ".webp": ("WEBP", {"lossless": True}),
}
"""Endings of pictures that can be written -> Pillow's format and its settings."""
_LONGEST: Final = {"JPEG": 65_500, "WEBP": 16_383}
"""Pixels of a side that a format can hold, of those that have a limit; their libraries print words of their own."""
_VISIBLE: Final = 32
_SIDE: Final = 512
_DOT: Final = 2.5
_PAPER, _AXES, _TARGET, _POINTS = "#ffffff", "#d0d0d0", "#f2a541", "#1f5fbf"


def to_uint8(images: Tensor) -> Tensor:
    """Pixels for ``images [n, C, H, W]`` in [-1, 1]: uint8 ``[n, 1 or 3, H, W]`` on the CPU, rounded and clamped.

    Two channels are shown as red and green, of more than three the first three. What is no number is black.
    """
    images = images.detach().cpu()
    channels = images.shape[1]
    if channels == 2:
        images = torch.cat([images, torch.full_like(images[:, :1], -1)], 1)
    elif channels > 3:
        images = images[:, :3]
    return from_unit(images)


def grid(images: Tensor, columns: int | None = None, padding: int = 2, scale: int | None = None) -> Image.Image:
    """Images ``[n, C, H, W]`` in [-1, 1] as tiles on black, row by row.

    Args:
        images: what to show, at least one.
        columns: tiles in a row; about as many as rows unless given.
        padding: black pixels around each tile.
        scale: each pixel becomes ``scale x scale`` pixels; unless given, as many as make a tile 32 pixels a side.

    Raises:
        UsageError: there is no image, or fewer than one column.
    """
    count, _, height, width = images.shape
    if not count or (columns is not None and columns < 1):
        raise UsageError("A grid needs at least one image and one column.")
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    scale = scale or max(1, math.ceil(_VISIBLE / min(height, width)))
    pixels = to_uint8(images).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    rows = math.ceil(count / columns)
    height, width = height * scale + padding, width * scale + padding
    canvas = torch.zeros(pixels.shape[1], rows * height + padding, columns * width + padding, dtype=torch.uint8)
    for index, tile in enumerate(pixels):
        top, left = padding + index // columns * height, padding + index % columns * width
        canvas[:, top : top + tile.shape[1], left : left + tile.shape[2]] = tile
    return picture(canvas)


def picture(pixels: Tensor) -> Image.Image:
    """Pixels ``[1 or 3, H, W]`` uint8 as a picture."""
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def extent_of(points: Tensor) -> Extent:
    """A square around the finite ones of points ``[n, D]``, with some room; of more than two dimensions the first."""
    points = _plane(points)
    points = points[torch.isfinite(points).all(1)].double()
    if not len(points):
        return (-1.0, 1.0, -1.0, 1.0)
    low, high = points.amin(0), points.amax(0)
    x, y = ((low + high) / 2).tolist()
    half = max(float((high - low).max()) / 2, 1e-6) * 1.15
    return (x - half, x + half, y - half, y + half)


def scatter(points: Tensor, target: Tensor | None = None, extent: Extent | None = None) -> Image.Image:
    """Points ``[n, D]`` as blue dots, over ``target [m, D]`` in orange; of more than two dimensions the first two.

    Args:
        points: what to show.
        target: real points to compare them with.
        extent: the axes; unless given, what the target (or else the points) need. Dots outside are not drawn.
    """
    planes = [(_plane(target), _TARGET)] if target is not None else []
    planes.append((_plane(points), _POINTS))
    left, right, bottom, top = extent or extent_of(planes[0][0])
    canvas = Image.new("RGB", (_SIDE, _SIDE), _PAPER)
    draw = ImageDraw.Draw(canvas)
    across = torch.tensor([_SIDE / (right - left), _SIDE / (bottom - top)], dtype=torch.float64)
    corner = torch.tensor([left, top], dtype=torch.float64)
    x0, y0 = (-corner * across).tolist()
    draw.line([(x0, 0), (x0, _SIDE)], _AXES)
    draw.line([(0, y0), (_SIDE, y0)], _AXES)
    for plane, colour in planes:
        places = (plane.double() - corner) * across
        inside = ((places >= 0) & (places <= _SIDE)).all(1)
        for x, y in places[inside].tolist():
            draw.ellipse([x - _DOT, y - _DOT, x + _DOT, y + _DOT], fill=colour)
    return canvas


def draw(
    samples: Tensor,
    *,
    columns: int | None = None,
    scale: int | None = None,
    target: Tensor | None = None,
    extent: Extent | None = None,
) -> Image.Image:
    """A :func:`grid` of images ``[n, C, H, W]``, or a :func:`scatter` plot of points ``[n, D]``: the shape decides."""
    if samples.ndim == 4:
        return grid(samples, columns, scale=scale)
    return scatter(samples, target, extent)


def save_grid(
    samples: Tensor,
    path: Path,
    *,
    columns: int | None = None,
    scale: int | None = None,
    target: Tensor | None = None,
    extent: Extent | None = None,
) -> Path:
    """:func:`draw` the samples into the file ``path``, whose ending decides the format.

    Raises:
        UsageError: the ending is of no picture, or of one that cannot be so large.
        GanzooError: it cannot be written.
    """
    save_picture(draw(samples, columns=columns, scale=scale, target=target, extent=extent), path)
    return path


def check_ending(path: Path) -> None:
    """See that a picture can be written under this name, before there is one.

    Raises:
        UsageError: the ending is of no picture.
    """
    if path.suffix.lower() not in PICTURES:
        raise UsageError(f"{path.name!r} is no picture that ganzoo writes; its name ends in {', '.join(PICTURES)}.")


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a picture, at once but without waiting for the disk.

    Raises:
        UsageError: the ending is of no picture, or of one that cannot be so large.
        GanzooError: it cannot be written.
    """
    check_ending(path)
    kind, settings = PICTURES[path.suffix.lower()]
    buffer = io.BytesIO()
    width, height = image.size
    too_large = UsageError(
        f"{path.name!r} cannot be written: a picture of {width}x{height} pixels is too large for {kind}; "
        "use .png, or another number of columns (--columns)."
    )
    if max(image.size) > _LONGEST.get(kind, math.inf):
        raise too_large
    try:
        image.save(buffer, kind, **settings)
    except (OSError, ValueError):  # nothing else can be wrong: it goes to memory
        raise too_large from None
    write_bytes(path, buffer.getbuffer(), durable=False)


def slerp(z0: Tensor, z1: Tensor, t: float | Tensor) -> Tensor:
    """The point ``t`` of the way from ``z0`` to ``z1`` ``[..., d]`` on a great circle (arXiv:1609.04468).

    Normal latents of many dimensions lie near a sphere, which straight lines leave. Parallel ones are interpolated
    linearly. ``t`` is in [0, 1] and broadcasts against ``[..., 1]``.
    """
    start, end = z0.double(), z1.double()
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=-1, eps=1e-12).unsqueeze(-1).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    flat = sine.abs() < 1e-6
    sine = torch.where(flat, 1.0, sine)
    mixed = torch.sin((1 - t) * angle) / sine * start + torch.sin(t * angle) / sine * end
    return torch.where(flat, (1 - t) * start + t * end, mixed).to(z0.dtype)


def strips(z0: Tensor, z1: Tensor, steps: int, prior: str) -> Tensor:
    """Latents ``[B * steps, d]``: for each pair of ``z0, z1 [B, d]`` the way from one to the other, ends included.

    On a great circle for the normal prior; on a straight line, which stays in the cube, for the uniform one and others.
    """
    t = torch.linspace(0, 1, steps, dtype=torch.float64).view(1, -1, 1)
    start, end = z0.unsqueeze(1), z1.unsqueeze(1)
    between = slerp(start, end, t) if prior == "normal" else torch.lerp(start.double(), end.double(), t).to(z0.dtype)
    return between.flatten(0, 1)


def _plane(points: Tensor) -> Tensor:
    points = points.detach().float().cpu().flatten(1)
    return torch.nn.functional.pad(points, (0, 1))[:, :2] if points.shape[1] == 1 else points[:, :2]


__all__: Sequence[str] = [
    "PICTURES",
    "Extent",
    "check_ending",
    "draw",
    "extent_of",
    "grid",
    "picture",
    "save_grid",
    "save_picture",
    "scatter",
    "slerp",
    "strips",
    "to_uint8",
]
