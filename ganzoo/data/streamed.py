"""Images that are decoded while they are used, because they would not fit into memory."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor

from ganzoo.api import GanzooError, Spec, UsageError
from ganzoo.data.arrays import Array
from ganzoo.data.augment import Augment
from ganzoo.data.dataset import Dataset, Pending, sent
from ganzoo.data.files import ImageFiles, OnBadImage
from ganzoo.data.images import refusal, report_bad
from ganzoo.data.index import index_of
from ganzoo.data.kept import key_of
from ganzoo.data.pixels import to_unit
from ganzoo.data.workers import Decoders, Decoding, Piece
from ganzoo.nn.bundle import Batch

_LOG: Final = logging.getLogger("ganzoo")
_MOST_AHEAD: Final = 256 * 2**20
"""Bytes of pixels that may be decoded ahead."""
_SAY_EVERY: Final = 20.0
_KEEP_EVERY: Final = 60.0


class StreamedImages(Dataset):
    """Images of a folder or zip that other processes decode each time they are wanted.

    Before the first use, each was decoded once, so that what cannot be read is refused or left out as it is of images
    in memory; what was found is remembered. Batches are the same to the bit as those in memory, whoever decodes.

    Args:
        files: the images.
        spec: what one sample is.
        decoders: who decodes them.
        on_bad_image: what to do about those that cannot be read.
        augment: flips and crops for a stream to make.

    Raises:
        UsageError: an image cannot be read and is not to be skipped, or none can, or the spec is not of these images.
    """

    length: int

    def __init__(
        self,
        files: ImageFiles,
        spec: Spec,
        decoders: Decoders,
        on_bad_image: OnBadImage = "refuse",
        augment: Augment | None = None,
    ) -> None:
        super().__init__(spec)
        if spec.shape != decoders.shape:
            has, wants = ("x".join(map(str, shape)) for shape in (decoders.shape, spec.shape))
            raise UsageError(f"The images of {files.path} are brought to {has}, and {wants} are asked for.")
        if spec.num_classes and files.labels is None:
            raise UsageError(
                f"The images of {files.path} have no labels, and {spec.num_classes} classes are asked for."
            )
        if augment:
            augment.check(spec)
            self.augment = augment
        self.files, self.classes = files, files.classes
        self.decoders = decoders
        self.kept = torch.from_numpy(_sound(files, self.decoders, on_bad_image))
        self.length = len(self.kept)
        labelled = files.labels if spec.num_classes else None
        self.labels = None if labelled is None else torch.tensor(labelled)[self.kept]
        kept = "" if len(self.kept) == len(files) else str(self.kept.tolist())
        self._print = f"files:{key_of(content=files.content, kept=kept)}" if files.content else ""
        if files.digest:
            labels = "" if labelled is None else "\0".join(files.classes)
            how = {"shape": decoders.shape, "fit": decoders.fit}
            self.digest = key_of(list=files.digest, labels=labels, kept=kept, **how)

    @property
    def fingerprint(self) -> str:
        return self._print

    def to(self, device: torch.device | str) -> Self:
        self.device = torch.device(device)
        return self

    @property
    def home(self) -> torch.device:
        return torch.device("cpu")

    @property
    def placement(self) -> tuple[str, str]:
        return "in files", f"decoded as they are wanted, {self.decoders.width} pieces at a time"

    def ahead(self, count: int) -> int:
        enough = -(-2 * self.decoders.width * self.decoders.piece // count)
        return max(1, min(enough, _MOST_AHEAD // (count * self.spec.numel)))

    def begin(self, index: Tensor) -> Pending:
        return _Decoding(self, index)

    def fetch(self, index: Tensor) -> Batch:
        return self.begin(index).result()

    def labels_of(self, index: Tensor) -> Tensor | None:
        return None if self.labels is None else self.labels[index.cpu()]


class _Decoding(Pending):
    """A batch that is being decoded."""

    def __init__(self, dataset: StreamedImages, index: Tensor) -> None:
        self._data, self._numbers = dataset, index.cpu()
        self._images = dataset.kept[self._numbers].tolist()
        self._begun = dataset.decoders.begin(self._images)

    def result(self) -> Batch:
        data = self._data
        pixels = torch.empty((len(self._images), *data.spec.shape), dtype=torch.uint8)
        start = 0
        for piece in self._begun.result():
            for at, (reason, _) in piece.bad.items():
                name = data.files.names[self._images[start + at]]
                raise GanzooError(
                    f"The image {name} in {data.files.path} cannot be read any more ({reason}): it was sound before; "
                    "leave the images alone while they are used, or prepare a copy of them."
                )
            pixels[start : start + len(piece.pixels)] = torch.from_numpy(piece.pixels)
            start += len(piece.pixels)
        labels = data.labels_of(self._numbers)
        return Batch(to_unit(sent(pixels, data.device)), None if labels is None else sent(labels, data.device))

    def cancel(self) -> None:
        self._begun.cancel()


def decode_in_order(numbers: Array, decoders: Decoders) -> Iterator[tuple[Array, Piece]]:
    """The images ``numbers``, a piece at a time and some pieces ahead; each piece with the numbers that it has."""
    begun: deque[tuple[Array, Decoding]] = deque()
    for start in range(0, len(numbers), decoders.piece):
        part = numbers[start : start + decoders.piece]
        begun.append((part, decoders.begin(part.tolist())))
        if len(begun) > 2 * decoders.width:
            first, decoding = begun.popleft()
            yield first, next(decoding.result())
    for first, decoding in begun:
        yield first, next(decoding.result())


def note(files: ImageFiles, numbers: Array, piece: Piece, on_bad_image: OnBadImage) -> dict[str, str]:
    """Remember which images of a piece can be read; those that cannot, with the reason, where that may not last.

    Raises:
        UsageError: one cannot, and is not to be skipped.
    """
    index, passing = index_of(files), {}
    for at, (reason, lasts) in piece.bad.items():
        number = int(numbers[at])
        if on_bad_image == "refuse":
            index.keep()
            raise refusal(files, files.names[number], reason)
        if lasts:
            index.say_bad(number, reason)
        else:
            passing[files.names[number]] = reason
    index.say_sound(numbers[piece.good])
    return passing


def _sound(files: ImageFiles, decoders: Decoders, on_bad_image: OnBadImage) -> Array:
    """The numbers of the images that can be read; those of which nobody knows are decoded once to find out."""
    index = index_of(files)
    if on_bad_image == "refuse":
        for name, reason in index.bad.items():
            raise refusal(files, name, reason)
    unknown = index.unknown
    passing: dict[str, str] = {}
    begun = said = kept = time.monotonic()
    done = 0
    try:
        for numbers, piece in decode_in_order(unknown, decoders):
            passing |= note(files, numbers, piece, on_bad_image)
            done += len(numbers)
            now = time.monotonic()
            if now - said >= _SAY_EVERY:
                said = now
                left = (now - begun) * (len(unknown) - done) / done
                _LOG.info("%d of %d images are looked at, once; about %.0f s are left.", done, len(unknown), left)
            if now - kept >= _KEEP_EVERY:
                kept = now
                index.keep()
    finally:
        index.keep()
    report_bad(files, {**index.bad, **passing})
    return np.array(index.sound)
