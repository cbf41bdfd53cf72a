"""The real data that samples are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.api import Choice, Spec
from ganzoo.data import Dataset, GaussianMixture
from ganzoo.data.naming import reference_settings
from ganzoo.data.pixels import from_unit
from ganzoo.data.stream import in_turn
from ganzoo.errors import UsageError, quoted
from ganzoo.evaluation.shards import CHUNK
from ganzoo.evaluation.subjects import Outline, Pictures, Samples, Subject, open_real, part_of
from ganzoo.nn.bundle import derive_seed
from ganzoo.options import options_of
from ganzoo.registry import build, registry


class Reference:
    """A data set as a judge sees it: whole and in its own order, or a part drawn from a fixed seed.

    Attributes:
        name: as a user would ask for it: ``mnist:test``, ``ring`` or a path.
        spec: what a sample is.
        count: how many samples there are; None if they are drawn without end.
        extractor: name of the feature network that suits it, or None.
    """

    def __init__(self, name: str, subject: Outline | Dataset, extractor: str | None = None) -> None:
        self.name = name
        self.spec = subject.spec
        self.extractor = extractor
        self._from = subject
        self.count = subject.length if isinstance(subject, Dataset) else subject.count

    @property
    def modes(self) -> tuple[Tensor, float] | None:
        """Centers ``[K, D]`` and standard deviation of a mixture of Gaussians; None of anything else."""
        found = self._from
        return (found.modes().cpu(), found.std) if isinstance(found, GaussianMixture) else None

    def samples(self, n: int, only: Tensor | None = None) -> Samples:
        """``n`` samples: all of them in their order, or a part that is the same at each call.

        Of these only those of the numbers ``only``, in whole chunks, if given.
        """
        found = self._from
        if isinstance(found, Subject):
            yield from found.samples(n, 0, only)
            return
        assert isinstance(found, Dataset), "it was opened to be read"
        which = torch.arange(n) if found.length is None else part_of(n, found.length)
        which = which if only is None else which[only]
        if found.length is None:
            for part in torch.split(which, CHUNK):
                rng = torch.Generator(found.device).manual_seed(derive_seed("reference", int(part[0])))
                x, y = found.draw(len(part), rng)
                yield self._seen(x, y)
            return
        for x, y in in_turn(found, which, CHUNK):
            yield self._seen(x, y)

    def _seen(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Samples as a judge takes them, on the CPU wherever the data are."""
        x = x.cpu()
        return (from_unit(x) if self.spec.is_image else x), None if y is None else y.cpu()

    def known(self, n: int) -> tuple[str, Tensor | None] | None:
        """What tells ``n`` samples from all others, and their labels; None if they must be read to know that."""
        found = self._from
        if not isinstance(found, Dataset) or found.length is None or not found.digest:
            return None
        order = part_of(n, found.length)
        part = "" if n == found.length else f" {n}"
        labels = found.labels_of(order) if self.spec.num_classes else None
        return found.digest + part, None if labels is None else labels.cpu()


def open_reference(
    against: str | None, subject: Outline, root: Path | None = None, *, read: bool = True
) -> Reference | None:
    """The data to compare ``subject`` with.

    Args:
        against: a data set's name with or without ``:split``, or a folder, a zip or an npz; the data that the subject
            was made from unless given.
        subject: tells the size of the images.
        root: folder in which to look for data sets first.
        read: whether a data set of images is read; else the reference has no samples, and knows how they would be.

    Returns:
        None if nothing was asked for and nobody knows.

    Raises:
        UsageError: there is no such data, or its samples have another size.
        MissingError: it is not on this machine.
    """
    if against is None:
        if subject.data is None:
            return None
        name, options = str(subject.data["name"]), {k: v for k, v in subject.data.items() if k != "name"}
    else:
        name, options = reference_settings(against, "--against")
        if name in ("folder", "npz"):
            real = open_real(Path(options["path"]))
            _check(real.spec, subject.spec, against, _resized(real, subject.spec, against))
            return Reference(against, real)
        if subject.data is not None and subject.data["name"] == registry().get("dataset", name).id:
            options = {**{k: v for k, v in subject.data.items() if k != "name"}, **options}
    if root is not None and "root" in {option.name for option in registry().get("dataset", name).options}:
        options["root"] = str(root)
    choice = _fitted(name, options, subject.spec)
    assert choice.component.spec is not None
    spec = choice.component.spec(choice.config)
    title = _title(choice)
    _check(spec, subject.spec, title)
    found = build(choice, spec).to("cpu") if read or not spec.is_image else Outline(spec, {})
    return Reference(title, found, choice.component.extractor)


def customary(subject: Outline) -> str | None:
    """Name of the feature network that suits what ``subject`` was made from, be it here or not; None if none does."""
    if subject.data is None:
        return None
    with suppress(UsageError):  # the data set of a plugin that is not here
        return registry().get("dataset", str(subject.data["name"])).component.extractor
    return None


def reference_of(choice: Choice, dataset: Dataset) -> Reference:
    """The reference that a data set is, which is built already."""
    return Reference(_title(choice), dataset, choice.component.extractor)


def _fitted(name: str, options: Mapping[str, Any], wanted: Spec) -> Choice:
    """The data set, asked for the subject's size where it has one to choose."""
    choice = registry().choose("dataset", name, dict(options))
    assert choice.component.spec is not None
    shape = choice.component.spec(choice.config).shape
    sizes = {option.name for option in options_of(choice.component.config)} & {"size"}
    square = wanted.is_image and wanted.shape[1] == wanted.shape[2]
    if sizes and square and len(shape) == 3 and shape[1:] != wanted.shape[1:]:
        return registry().choose("dataset", name, {**options, "size": wanted.shape[1]})
    return choice


def _resized(found: Subject, wanted: Spec, against: str) -> str:
    """How to get real images of the wanted size, in words; empty where no command makes them."""
    if not isinstance(found, Pictures) or not wanted.is_image or wanted.shape[1] != wanted.shape[2]:
        return ""
    size = wanted.shape[1]
    source, copy = quoted(against), quoted(f"{Path(against).resolve().stem}-{size}")
    return f", such as the copy that 'ganzoo data prepare {source} {copy} --size {size}' makes"


def _check(found: Spec, wanted: Spec, name: str, how: str = "") -> None:
    """Refuse to compare samples of unlike sizes; ``how`` to mend that goes on the sentence."""
    sizes = [shape[1:] if len(shape) == 3 else shape for shape in (found.shape, wanted.shape)]
    channels = [shape[0] for shape in (found.shape, wanted.shape)]
    if sizes[0] != sizes[1] or (found.is_image and channels[0] != channels[1] and set(channels) != {1, 3}):
        raise UsageError(
            f"The samples are {_kind(wanted)} and those of {name} are {_kind(found)}; compare them with data of "
            f"their own size{how}."
        )


def _kind(spec: Spec) -> str:
    """``images of 1x8x8``, ``points in 2 dimensions``."""
    shape = "x".join(map(str, spec.shape))
    return f"images of {shape}" if spec.is_image else f"points in {shape} dimensions"


def _title(choice: Choice) -> str:
    split = getattr(choice.config, "split", None)
    path = getattr(choice.config, "path", None)
    return str(path) if path is not None else choice.name + (f":{split}" if split else "")
