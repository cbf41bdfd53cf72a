"""Drawing samples, and writing them as one picture or as a folder. Latents come from the CPU: a seed means the same
everywhere."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from ganzoo.data.files import at_home
from ganzoo.errors import UsageError
from ganzoo.files import write_text
from ganzoo.nn import Generator
from ganzoo.nn.buffers import unchanged_buffers
from ganzoo.nn.contracts import prior_of
from ganzoo.outputs.grids import PICTURES, grid, save_grid, save_picture, strips
from ganzoo.outputs.source import Say, Source, open_source

_BATCH: Final = 256
_SAMPLE: Final = re.compile(r"\d{5,}(-\d+)?\.png")
"""Names of the files that samples are written to."""
_STRIP: Final = 8
_MOST_COLUMNS: Final = 20


def latents(gen: Generator, n: int, seed: int) -> Tensor:
    """``n`` latents ``[n, latent_dim]`` on the CPU, a function of the seed."""
    return gen.latent(n, torch.Generator("cpu").manual_seed(seed))


def batches(gen: Generator, z: Tensor, labels: Tensor | None = None) -> Iterator[Tensor]:
    """Samples for latents ``[n, latent_dim]`` and labels ``[n]``, on the CPU, 256 at a time."""
    device = next(gen.parameters()).device
    for start in range(0, len(z), _BATCH):
        part = slice(start, start + _BATCH)
        y = None if labels is None else labels[part].to(device)
        with torch.no_grad(), unchanged_buffers(gen):  # it may be one that is being trained
            x = gen(z[part].to(device), y).float().cpu().clone()  # it may be a view of a buffer
        yield x


def samples(gen: Generator, n: int, seed: int = 0, labels: Tensor | None = None) -> Tensor:
    """``n`` samples ``[n, *shape]`` on the CPU; the same latents on every device for the same ``n`` and seed.

    Args:
        gen: on any device, in the mode that it is to be used in.
        n: how many.
        seed: of the latents.
        labels: ``[n]`` int64 for a conditional generator, or None.
    """
    return torch.cat(list(batches(gen, latents(gen, n, seed), labels)))


def labels_for(source: Source, n: int, label: int | None = None) -> Tensor | None:
    """Labels ``[n]`` for a source: of one class, or of all in turn; None for an unconditional generator.

    Raises:
        UsageError: a label that there is not, or one for an unconditional generator.
    """
    if not source.conditional or source.spec.num_classes is None:
        if label is not None:
            raise UsageError(f"The generator {source.gen.name} knows no classes; leave --label out.")
        return None
    classes = source.spec.num_classes
    if label is None:
        return torch.arange(n) % classes
    if not 0 <= label < classes:
        raise UsageError(f"There is no class {label}; --label is 0 to {classes - 1}.")
    return torch.full((n,), label)


def columns_for(source: Source, n: int, labels: Tensor | None) -> int:
    """Tiles in a row: a column for each class where they take turns, else about as many as rows."""
    classes = source.spec.num_classes or 0
    in_turn = labels is not None and bool((labels != labels[0]).any())
    return classes if in_turn and classes <= _MOST_COLUMNS else math.ceil(math.sqrt(n))


def sample_to(
    source: Path | str,
    out: Path | str,
    *,
    n: int = 64,
    label: int | None = None,
    seed: int = 0,
    interpolate: bool = False,
    ema: bool = True,
    best: bool = False,
    device: str = "auto",
    columns: int | None = None,
    say: Say = lambda _: None,
) -> list[Path]:
    """Write samples of a run or an export: one grid if ``out`` ends like a picture, else a folder of files.

    In a folder, images are ``00000.png`` and so on, ``00000-7.png`` for class 7; points are one ``points.csv``.

    Args:
        source: folder of a run or an export.
        out: ``.png .jpg .jpeg .webp``, or a folder, made if missing; if its name has a dot, let it end in "/".
        n: how many samples.
        label: the class of all; every class in turn unless given.
        seed: of the latents.
        interpolate: rows that go from one latent to another; a row has ``columns`` samples and one class.
        ema: averaged weights, where there are any.
        best: a run's best checkpoint, as its scores tell, and not its newest.
        device: ``auto``, ``cpu``, ``cuda`` ...
        columns: tiles in a row.
        say: hears of damaged checkpoints that are passed over.

    Returns:
        The files written.

    Raises:
        UsageError: the request does not fit the source.
        MissingError: there is no such source, weight or device.
        GanzooError: something cannot be read or written.
    """
    from ganzoo.training.device import resolve_device

    if n < 1 or (columns is not None and columns < 1):
        raise UsageError("At least one sample and one column are needed.")
    as_folder = str(out).endswith(("/", os.sep))
    opened, out = open_source(source, best=best), at_home(Path(out))
    _refuse_target(out, as_folder=as_folder)
    target = resolve_device(device).device
    gen = opened.generator(ema=ema, say=say)[0].to(target)
    if interpolate:
        columns = min(columns or _STRIP, n)
        rows = math.ceil(n / columns)
        start, end = latents(gen, 2 * rows, seed).chunk(2)
        z = strips(start, end, columns, prior_of(gen))[:n]
        of_rows = labels_for(opened, rows, label)
        labels = None if of_rows is None else of_rows.repeat_interleave(columns)[:n]
    else:
        z, labels = latents(gen, n, seed), labels_for(opened, n, label)
    if out.suffix.lower() in PICTURES and not as_folder:
        shown = torch.cat(list(batches(gen, z, labels)))
        return [save_grid(shown, out, columns=columns or columns_for(opened, n, labels))]
    if opened.spec.is_image:
        _refuse_others(out, {_name_of(index, labels) for index in range(n)})
        return list(_save_images(batches(gen, z, labels), labels, out))
    return [_save_points(torch.cat(list(batches(gen, z, labels))), labels, out / "points.csv")]


def _refuse_target(out: Path, *, as_folder: bool) -> None:
    """What cannot be written to, as far as its name and what stands there tell."""
    from ganzoo.training.run import refuse_file

    pictures = ", ".join(PICTURES)
    picture = out.suffix.lower() in PICTURES and not as_folder
    if out.is_file() and not picture:
        raise UsageError(f"{out} is a file; give a folder, or a name that ends in {pictures}.")
    refuse_file(out.parent)
    if picture and out.is_dir():
        raise UsageError(
            f"{out} is a folder; end it with / to write one file a sample into it, or choose another name."
        )
    if out.suffix and not (picture or as_folder or out.is_dir()):
        raise UsageError(f"No picture can be written as {out.suffix}, only {pictures}; end a folder's name with /.")


def _refuse_others(folder: Path, new: set[str]) -> None:
    """Samples of an earlier call would stand among those of this one, and be taken for them."""
    try:
        others = sorted({path.name for path in folder.iterdir() if _SAMPLE.fullmatch(path.name)} - new)
    except OSError:
        return  # there is no such folder, or writing will say what is wrong with it
    if others:
        raise UsageError(
            f"{folder} holds samples already that these would not replace ({others[0]}, {len(others):,} in all): "
            "choose another folder, or remove them."
        )


def _name_of(index: int, labels: Tensor | None) -> str:
    return f"{index:05d}.png" if labels is None else f"{index:05d}-{int(labels[index])}.png"


def _save_images(parts: Iterator[Tensor], labels: Tensor | None, folder: Path) -> Iterator[Path]:
    for index, image in enumerate(image for part in parts for image in part):
        path = folder / _name_of(index, labels)
        save_picture(grid(image[None], padding=0, scale=1), path)
        yield path


def _save_points(points: Tensor, labels: Tensor | None, path: Path) -> Path:
    names = ["x", "y"] if points.shape[1] == 2 else [f"x{axis}" for axis in range(points.shape[1])]
    lines = [",".join(names + ([] if labels is None else ["label"]))]
    for index, point in enumerate(points.tolist()):
        tail = [] if labels is None else [str(int(labels[index]))]
        lines.append(",".join([*(f"{value:.9g}" for value in point), *tail]))
    write_text(path, "\n".join(lines) + "\n", durable=False)
    return path
