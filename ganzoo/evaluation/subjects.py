"""What can be evaluated: the generator of a run, of an export or of a training, and images from anything else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.api import CONDITIONAL, Plan, Spec
from ganzoo.data.files import at_home, is_copy, list_images
from ganzoo.data.images import common_shape, decode_images
from ganzoo.data.pixels import from_unit
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.evaluation.compare import SWEEP
from ganzoo.evaluation.shards import CHUNK
from ganzoo.files import sha256
from ganzoo.nn import Generator
from ganzoo.nn.bundle import derive_seed
from ganzoo.outputs.sampling import batches, latents
from ganzoo.outputs.source import CONFIG, Say, Source, open_source
from ganzoo.reading import read_table
from ganzoo.registry import build, registry

Samples = Iterator[tuple[Tensor, Tensor | None]]
"""Batches of images ``[B, C, H, W]`` uint8 or points ``[B, D]`` float32 on the CPU, with the labels ``[B]`` or None."""

Critic = Callable[[Tensor], Tensor]


def part_of(n: int, length: int) -> Tensor:
    """The numbers of ``n`` of ``length`` samples, ascending: all of them, or a part that is the same at each call.

    The first ones would be no part of the whole where samples are sorted by class.
    """
    if n >= length:
        return torch.arange(length)
    rng = torch.Generator().manual_seed(derive_seed("reference"))
    return torch.randperm(length, generator=rng)[:n].sort().values


class Outline:
    """What is known of samples before there are any, or before they are read.

    Attributes:
        spec: what a sample is.
        facts: what is said of it in a result.
        count: how many samples there are; None if as many as wanted can be drawn.
        conditional: whether its samples are of classes that were asked for.
        data: settings of the data set that it was made from, if known.
        folder: the run or export that it comes from, if any.
    """

    count: int | None = None
    conditional: bool = False
    data: Mapping[str, Any] | None = None
    folder: Path | None = None

    def __init__(self, spec: Spec, facts: Mapping[str, Any]) -> None:
        self.spec = spec
        self.facts = dict(facts)


class Subject(Outline, ABC):
    """Samples to be judged."""

    @abstractmethod
    def samples(self, n: int, seed: int, only: Tensor | None = None) -> Samples:
        """``n`` samples, a function of the seed; of these only those of the numbers ``only``, in whole chunks.

        A sample that is drawn depends on its chunk of 256 alone, and not on which others are drawn. Of samples that
        are there, these are all in their order, or the part that :func:`part_of` takes, whatever the seed.
        """

    def critic(self) -> Critic | None:
        """The discriminator that belongs to it, if there is one; of a conditional one the mean over the classes."""
        return None


class Network(Subject):
    """A generator; its classes take turns if it has any.

    Args:
        gen: in evaluation mode, on the device on which to compute.
        spec: the task.
        conditional: whether it uses labels.
        facts: what is said of it in a result.
    """

    def __init__(self, gen: Generator, spec: Spec, facts: Mapping[str, Any], *, conditional: bool) -> None:
        super().__init__(spec, facts)
        self.gen = gen
        self.conditional = conditional
        self.source: Source | None = None

    def samples(self, n: int, seed: int, only: Tensor | None = None) -> Samples:
        which = torch.arange(n) if only is None else only
        labels = which % (self.spec.num_classes or 1) if self.conditional else None
        start = 0
        for drawn in batches(self.gen, latents(self.gen, n, seed)[which], labels):
            if not torch.isfinite(drawn).all():
                raise GanzooError(
                    "The generator gives values that are not finite, so it has no score; look at the run's health, "
                    "or evaluate an earlier checkpoint."
                )
            part = slice(start, start := start + len(drawn))
            yield (from_unit(drawn) if self.spec.is_image else drawn), (None if labels is None else labels[part])

    def critic(self) -> Critic | None:
        try:
            disc = self.source.discriminator()[0] if self.source is not None else None
        except MissingError:
            return None
        classes = self.spec.num_classes
        if disc is None or not classes:
            return disc

        def mean_over_classes(x: Tensor) -> Tensor:
            logits = [disc(x, torch.full((len(x),), label, device=x.device)) for label in range(classes)]
            return torch.stack(logits).mean(0)

        return mean_over_classes


class Pictures(Subject):
    """The images of a folder or of a zip, as they are, decoded a part at a time; their folders may be classes."""

    def __init__(self, path: Path, *, labels: bool = True) -> None:
        self.files = list_images(path, labels=labels)
        shape = common_shape(self.files)
        super().__init__(Spec(shape, len(self.files.classes) or None), {"path": str(path), "kind": "images"})
        self.count = len(self.files)

    def samples(self, n: int, seed: int, only: Tensor | None = None) -> Samples:
        shape = self.spec.shape
        assert len(shape) == 3
        known = self.files.labels
        for part in _parts(n, len(self.files), only):
            numbers = part.tolist()
            labels = None if known is None else torch.tensor([known[i] for i in numbers])
            yield torch.from_numpy(decode_images(self.files.part(numbers), shape)[0]), labels


class Arrays(Subject):
    """The images or points of an npz, or the images of a prepared copy."""

    def __init__(self, path: Path) -> None:
        name = "prepared" if is_copy(path) else "npz"
        choice = registry().choose("dataset", name, {"path": str(path)})
        assert choice.component.spec is not None
        spec = choice.component.spec(choice.config)
        super().__init__(spec, {"path": str(path), "kind": "images" if spec.is_image else "points"})
        self.dataset = build(choice, spec)
        assert self.dataset.length is not None
        self.count: int = self.dataset.length

    def samples(self, n: int, seed: int, only: Tensor | None = None) -> Samples:
        for part in _parts(n, self.count, only):
            x, y = self.dataset.fetch(part)
            yield (from_unit(x.cpu()) if self.spec.is_image else x), y


def _parts(n: int, length: int, only: Tensor | None) -> Iterator[Tensor]:
    """The numbers of ``n`` of ``length`` samples, a chunk at a time; of these only those at the places ``only``."""
    which = part_of(n, length)
    yield from torch.split(which if only is None else which[only], CHUNK)


def open_subject(
    path: Path | str, *, ema: bool = True, best: bool = False, device: torch.device | str = "cpu", say: Say
) -> Subject:
    """The run, export, folder, zip or npz at ``path``.

    Args:
        path: where it is.
        ema: averaged weights, where there are any.
        best: a run's best checkpoint, as its scores tell, and not its newest.
        device: where a generator computes.
        say: hears of damaged checkpoints that are passed over.

    Raises:
        MissingError: nothing is there, or no weights.
        UsageError: what is there cannot be evaluated.
        GanzooError: it is damaged.
    """
    path = at_home(Path(path))
    if not path.exists():
        raise MissingError(f"There is no run, export, folder or file of images at {path}.")
    if (path / CONFIG).is_file() and not _is_strangers(path / CONFIG):
        return open_network(path, ema=ema, best=best, device=device, say=say)
    if _is_ours(path / SWEEP):
        raise UsageError(f"{path} is a sweep, which has many runs: name one of them, a folder in it.")
    if is_copy(path):
        return Arrays(path)
    if path.is_dir() or path.suffix.lower() == ".zip":
        return Pictures(path, labels=False)  # nobody asked for their classes, in whatever folders they lie
    if path.suffix.lower() == ".npz":
        return Arrays(path)
    raise UsageError(f"{path} is no run, export, folder, .zip or .npz, so there is nothing to evaluate.")


def open_real(path: Path) -> Subject:
    """The folder, zip or npz at ``path`` as real data.

    Raises:
        UsageError: there is no such data; or it is what ganzoo made, whose pictures are previews of samples.
    """
    path = at_home(path)
    for file, kind in ((CONFIG, "a run or an export"), (SWEEP, "a sweep")):
        if _is_ours(path / file):
            raise UsageError(
                f"{path} is {kind} (it has a {file}), whose pictures are previews and no real data: name a data set, "
                "or a folder, a zip or an npz of images."
            )
    return Arrays(path) if path.suffix.lower() == ".npz" else Pictures(path)


def _is_ours(file: Path) -> bool:
    """Whether a file of settings says that ganzoo wrote it; people have some of that name beside their images."""
    with suppress(OSError, ValueError):
        return _made_by_ganzoo(file)
    return False


def _is_strangers(file: Path) -> bool:
    """Whether a file of settings can be read and does not say so; a damaged one may be ours."""
    with suppress(OSError, ValueError):
        return not _made_by_ganzoo(file)
    return False


def _made_by_ganzoo(file: Path) -> bool:
    return str(read_table(file).get("format")).startswith("ganzoo-")


def open_network(path: Path, *, ema: bool, best: bool, device: torch.device | str, say: Say) -> Network:
    """The generator of a run or of an export."""
    source = open_source(path, best=best)
    gen, stored = source.generator(ema=ema, say=say)
    step = stored.step if stored.step is not None else source.record.get("steps")
    facts = {
        "path": str(path),
        "kind": source.kind,
        "step": step,
        "weights": "ema" if stored.averaged else "last",
        "sha256": sha256(stored.file),
    } | ({"best": True} if best else {})
    found = Network(gen.to(device), source.spec, facts, conditional=source.conditional)
    found.source, found.folder, found.data = source, path, _trained_on(source)
    return found


def uses_labels(plan: Plan) -> bool:
    """Whether the generator of a plan uses labels."""
    return plan.has(CONDITIONAL, "gen") and plan.spec.num_classes is not None


def _trained_on(source: Source) -> Mapping[str, Any] | None:
    """Name and options of the data set that a run or an exported run was trained on."""
    config = source.record.get("config" if source.kind == "run" else "run")
    data = config.get("data") if isinstance(config, dict) else None
    return data if isinstance(data, dict) and isinstance(data.get("name"), str) else None
