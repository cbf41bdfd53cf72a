"""What a data set is to the rest of ganzoo: finite and held in one tensor, or endless and drawn on the fly."""

from __future__ import annotations

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
_SHARE_OF_FREE_MEMORY = 0.5


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
        self.length = len(samples)

    def to(self, device: torch.device | str) -> Self:
        self.device = torch.device(device)
        home = self.device if _fits(self.samples, self.device) else torch.device("cpu")
        self.samples = self.samples.to(home)
        self.labels = None if self.labels is None else self.labels.to(home)
        return self

    def fetch(self, index: Tensor) -> Batch:
        home = self.samples.device
        index = index.to(home)
        x = self.samples.index_select(0, index)
        y = None if self.labels is None else self.labels.index_select(0, index)
        if home != self.device:
            x, y = x.to(self.device), None if y is None else y.to(self.device)
        return Batch(to_unit(x) if x.dtype == torch.uint8 else x, y)


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


def _fits(samples: Tensor, device: torch.device) -> bool:
    if device.type != "cuda" or samples.device.type == "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    if samples.nbytes <= free * _SHARE_OF_FREE_MEMORY:
        return True
    _LOG.warning(
        "The data set takes %.1f GB and %s has %.1f GB free, so it stays in main memory; steps will wait for copies.",
        samples.nbytes / 1e9,
        device,
        free / 1e9,
    )
    return False


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
