"""What a data set is to the rest of ganzoo: finite and held in one tensor, or endless and drawn on the fly."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from ganzoo.api import GanzooError, Spec
from ganzoo.data.augment import Augment
from ganzoo.data.pixels import to_unit
from ganzoo.nn.bundle import Batch

_LOG = logging.getLogger("ganzoo")
NOT_MOVED = "they have not been moved yet"
"""Why samples are where they are before anybody asked for them elsewhere."""
_SHARE_OF_FREE_MEMORY = 0.5
_LOOKED_AT = 2**26
"""Bytes of samples of which a fingerprint is made; more take too long at every start."""
_MOST_ON_MPS = 2**31
"""Bytes from which on ``index_select`` gives zeros on MPS until torch 2.14 (pytorch#188756)."""


class Dataset(ABC):
    """Real samples. A component's class is built as ``Target(config, spec)``.

    A spec without classes asks for samples without labels, whatever there is.

    Attributes:
        spec: shape of a sample and number of classes.
        length: how many samples there are; None if they are drawn on the fly without end.
        augment: what a stream does to the samples that it fetches; None for nothing.
    """

    length: int | None
    augment: Augment | None = None
    digest: str = ""
    """Hex SHA-256 that tells its samples from all others without reading them; empty if only reading them could."""
    classes: tuple[str, ...] = ()
    """Names of the classes; empty if they have none."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.device = torch.device("cpu")

    @property
    def home(self) -> torch.device:
        """Where numbers of samples are wanted by :meth:`fetch`."""
        return self.device

    @property
    def placement(self) -> tuple[str, str]:
        """Where the samples are while a run trains, and why, in words."""
        return ("drawn on the device", "there is no end of them") if self.length is None else ("its own", "of its kind")

    @property
    def fingerprint(self) -> str:
        """Says, wherever they are, whether the samples are the ones they were; empty if nothing does.

        Those of two data sets are compared only if they agree up to the colon: each kind is made in its own way.
        """
        return f"digest:{self.digest}" if self.digest else ""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move to the device on which batches are wanted, and return self."""

    def fetch(self, index: Tensor) -> Batch:
        """The samples ``index [B]`` int64 of a finite data set: images float32 in [-1, 1], points float32."""
        raise GanzooError(f"{type(self).__name__} has no numbered samples; use draw(n, rng).")

    def ahead(self, count: int) -> int:
        """How many of the next batches of ``count`` samples a stream shall begin before it needs them."""
        return 0

    def begin(self, index: Tensor) -> Pending:
        """Begin to fetch samples; for data sets that want to be asked ahead."""
        return Pending(self, index)

    def labels_of(self, index: Tensor) -> Tensor | None:
        """The labels of samples of a finite data set, without their images where that saves work."""
        return self.fetch(index).y

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """``n`` new samples of an endless data set, from the random numbers of ``rng``, which is on its device."""
        raise GanzooError(f"{type(self).__name__} is finite; use fetch(index).")


class Pending:
    """A batch that is on its way; this one is fetched when it is wanted."""

    def __init__(self, dataset: Dataset, index: Tensor) -> None:
        self._dataset, self._index = dataset, index

    def result(self) -> Batch:
        """The batch, as soon as it is there."""
        return self._dataset.fetch(self._index)

    def cancel(self) -> None:
        """It is not wanted any more."""


class ArrayDataset(Dataset):
    """A finite data set held in one tensor, on the device if it fits there.

    Args:
        samples: images ``[N, C, H, W]`` uint8, or points ``[N, D]`` float32, which are left as they are.
        labels: ``[N]`` int64 in ``0 .. spec.num_classes - 1``, or None; forgotten if ``spec`` has no classes.
        spec: what one sample is.
        augment: flips and crops for a stream to make; ``fetch`` gives the samples as they are.

    Raises:
        GanzooError: the tensors are not what ``spec`` says.
    """

    length: int

    def __init__(self, samples: Tensor, labels: Tensor | None, spec: Spec, augment: Augment | None = None) -> None:
        super().__init__(spec)
        labels = labels if spec.num_classes else None
        _check(samples, labels, spec)
        if augment:
            augment.check(spec)
            self.augment = augment
        self.samples = samples.contiguous()
        self.labels = labels
        self._why = ""
        self._print = ""
        self.length = len(samples)

    @property
    def fingerprint(self) -> str:
        self._print = super().fingerprint or self._print or f"samples:{self._looked_at()}"
        return self._print

    def _looked_at(self) -> str:
        """Hex SHA-256 of all labels and of the samples, or of as many as are quickly read, evenly spaced."""
        row = max(1, self.samples[0].numel() * self.samples.element_size())
        count = min(self.length, max(1, _LOOKED_AT // row))
        spread = torch.arange(count, device=self.home) * self.length // count
        some = self.samples if count == self.length else self.samples.index_select(0, spread)
        made = hashlib.sha256(f"{self.samples.dtype} {tuple(self.samples.shape)}".encode())
        for values in [some] if self.labels is None else [some, self.labels]:
            made.update(values.cpu().contiguous().numpy().data)
        return made.hexdigest()

    def to(self, device: torch.device | str) -> Self:
        if self._why and self.device == torch.device(device):
            return self
        self.device = torch.device(device)
        where, self._why = place(self.samples.nbytes, self.samples.device, self.device)
        self.samples = self.samples.to(where)
        self.labels = None if self.labels is None else self.labels.to(where)
        self._staging = [_Staging(self.device), _Staging(self.device)]
        return self

    @property
    def home(self) -> torch.device:
        return self.samples.device

    @property
    def placement(self) -> tuple[str, str]:
        return ("on the device" if self.home.type == self.device.type else "in main memory"), self._why or NOT_MOVED

    def fetch(self, index: Tensor) -> Batch:
        index = index.to(self.home)
        if self.home.type != "cpu" or self.device.type != "cuda":
            x = self.samples.index_select(0, index).to(self.device)
            y = None if self.labels is None else self.labels.index_select(0, index).to(self.device)
        else:  # to the device while it computes; two places, so that the next batch need not wait for this one
            self._staging.reverse()
            x, y = self._staging[0].bring(self.samples, self.labels, index)
        return Batch(to_unit(x) if x.dtype == torch.uint8 else x, y)

    def labels_of(self, index: Tensor) -> Tensor | None:
        return None if self.labels is None else self.labels.index_select(0, index.to(self.home))


class _Staging:
    """Page-locked memory through which batches go to a GPU without the host waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._places: list[Tensor] = []
        self._gone: torch.cuda.Event | None = None

    def bring(self, samples: Tensor, labels: Tensor | None, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """The samples ``index [B]`` and their labels, on the device once its stream comes to them."""
        if self._gone is not None:
            self._gone.synchronize()  # of the batch before the last, so there is hardly ever anything to wait for
        sources = [samples] if labels is None else [samples, labels]
        if not self._places or len(self._places[0]) != len(index):
            self._places = [t.new_empty(len(index), *t.shape[1:], pin_memory=True) for t in sources]
        for source, place in zip(sources, self._places, strict=True):
            torch.index_select(source, 0, index, out=place)
        arrived = [place.to(self._device, non_blocking=True) for place in self._places]
        self._gone = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._gone.record()
        return arrived[0], None if labels is None else arrived[1]


class SampledDataset(Dataset):
    """An endless data set: subclasses implement :meth:`draw`, and move in :meth:`to` the tensors that it uses."""

    length = None

    def to(self, device: torch.device | str) -> Self:
        self.device = torch.device(device)
        return self

    @abstractmethod
    def draw(self, n: int, rng: torch.Generator) -> Batch: ...


class GaussianMixture(SampledDataset):
    """Points from equally likely round Gaussians; a point's label is its mode, where the spec has labels.

    Args:
        centers: ``[K, D]`` float32.
        std: standard deviation of each in each dimension.
        spec: of shape ``(D,)``.
    """

    def __init__(self, centers: Tensor, std: float, spec: Spec) -> None:
        super().__init__(spec)
        self.centers = centers
        self.std = std

    def modes(self) -> Tensor:
        """The centers ``[K, D]``, for counting which modes a generator covers."""
        return self.centers

    def to(self, device: torch.device | str) -> Self:
        self.centers = self.centers.to(device)
        return super().to(device)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        y = torch.randint(len(self.centers), (n,), generator=rng, device=self.device)
        noise = torch.randn(n, *self.spec.shape, generator=rng, device=self.device)
        x = torch.add(self.centers.index_select(0, y), noise, alpha=self.std)
        return Batch(x, y if self.spec.num_classes else None)


def place(size: int, source: torch.device, device: torch.device) -> tuple[torch.device, str]:
    """Where ``size`` bytes of samples that are on ``source`` belong for a run on ``device``, and why."""
    if device.type == "mps" and size >= _MOST_ON_MPS:
        return torch.device("cpu"), f"they take {size / 1e9:.2f} GB, more than torch can look up on MPS"
    if device.type != "cuda" or source.type == "cuda":
        return device, "samples in memory are the device's own"
    free, _ = torch.cuda.mem_get_info(device)
    words = f"they take {size / 1e9:.2f} GB, and {device} has {free / 1e9:.1f} GB free"
    if size <= free * _SHARE_OF_FREE_MEMORY:
        return device, words
    _LOG.warning("The data set stays in main memory, since %s; batches are copied while steps are computed.", words)
    return torch.device("cpu"), words


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values of a batch on the device; on their way to a GPU the host does not wait for them.

    They go through page-locked memory, which torch keeps until they have arrived. What other devices copy from must
    not change or be freed before, and nobody would see to that: there the host waits.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def _check(samples: Tensor, labels: Tensor | None, spec: Spec) -> None:
    wanted = torch.uint8 if spec.is_image else torch.float32
    if tuple(samples.shape[1:]) != spec.shape or samples.dtype != wanted:
        raise GanzooError(
            f"A data set of {spec} must hold samples {('N', *spec.shape)} of {wanted}, "
            f"not {tuple(samples.shape)} of {samples.dtype}."
        )
    if len(samples) == 0:
        raise GanzooError("A data set needs at least one sample.")
    if labels is None and spec.num_classes is not None:
        raise GanzooError(f"A data set of {spec} needs labels.")
    if labels is None or spec.num_classes is None:
        return
    if labels.shape != samples.shape[:1] or labels.dtype != torch.int64:
        raise GanzooError(
            f"Labels must be {(len(samples),)} of torch.int64, not {tuple(labels.shape)} of {labels.dtype}."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= spec.num_classes:
        raise GanzooError(f"Labels must be in 0 .. {spec.num_classes - 1}, but there are {low} and {high}.")
