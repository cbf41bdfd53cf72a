"""From images to features: once for all metrics, in memory that does not grow unless a metric needs every feature."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor

from ganzoo.errors import GanzooError, UsageError
from ganzoo.evaluation.cache import FeatureCache, cache_key, images_digest
from ganzoo.evaluation.shards import CHUNK, Piece, Shards
from ganzoo.evaluation.statistics import Gaussian, Moments, gaussian_of
from ganzoo.nn import Extractor, Features
from ganzoo.nn.precision import full_float32

Keep = Literal["moments", "features", "logits"]
Labelled = tuple[Tensor, Tensor | None]
Progress = Callable[[int, int], None]
"""Gets how many images are done, and of how many."""
Batches = Iterable[Labelled]

BATCH: Final = 64
"""Images that the extractor sees at once, however they arrive: so a result depends on the images alone, to the bit."""
NO_CLASSES: Final = (
    "This extractor has no classes, so the scores that need them cannot be computed with it: choose another with "
    "--features, or leave them out."
)
_WORTH_KEEPING: Final = 0.5
"""Seconds that a chunk must have taken to be written to the cache."""
_IN_MEMORY: Final = 64 * 2**20
"""Bytes above which features lie in a file that the system may drop from memory."""


@dataclass(frozen=True)
class FeatureSet:
    """What metrics see of a set of images.

    Attributes:
        count: N.
        extractor: digest of the extractor.
        moments: their mean and covariance; None if they were not asked for, or N is at most F and there are features.
        features: ``[N, F]`` float32, or None; when large, backed by a file without a name, which goes with the tensor.
        logits: ``[N, K]`` float32, or None.
        labels: ``[N]`` int64, or None if some image came without.
    """

    count: int
    extractor: str
    moments: Moments | None = None
    features: Tensor | None = None
    logits: Tensor | None = None
    labels: Tensor | None = None

    def gaussian(self) -> Gaussian:
        """Mean and covariance for the Fréchet distance.

        Raises:
            UsageError: there are fewer than two images.
        """
        if self.features is not None and 2 <= self.count <= self.features.shape[1]:
            return gaussian_of(self.features, self.extractor)
        if self.moments is not None:
            return self.moments.gaussian(self.extractor)
        assert self.features is not None, "neither moments nor features were kept"
        return gaussian_of(self.features, self.extractor)


def extract(
    batches: Batches,
    extractor: Extractor,
    *,
    total: int,
    device: torch.device | str,
    keep: Collection[Keep],
    on_progress: Progress | None = None,
    cache: FeatureCache | None = None,
    keys: list[str] | None = None,
    shards: Shards | None = None,
) -> FeatureSet:
    """Run images through an extractor.

    With a cache, the features of each chunk of images are kept in it if they took long, under the hash of its pixels
    and of the extractor. Whoever is interrupted and comes again goes on where it was, and nothing but the same pixels
    can find them.

    Args:
        batches: images ``[B, C, H, W]`` uint8 on the CPU with labels ``[B]`` or None, at least ``total`` of them.
        extractor: on ``device``; it is put into evaluation mode.
        total: how many images to take.
        device: where it runs.
        keep: what the metrics need.
        on_progress: is told after every chunk; what it raises ends the work, as KeyboardInterrupt does.
        cache: where chunks are kept; None for nowhere.
        keys: gets the key of each chunk, for who wants to forget them.
        shards: how the images are divided between processes. Then ``batches`` are those of this one, and process 0
            alone gets anything but their number.

    Raises:
        UsageError: there are fewer images than ``total``, none were asked for, or logits of an extractor without any.
        GanzooError: images or features are not what the contract says.
    """
    if total < 1:
        raise UsageError("An evaluation needs at least one image; raise --samples.")
    if "logits" in keep and extractor.num_classes is None:
        raise UsageError(NO_CLASSES)
    target = torch.device(device)
    keys = [] if keys is None else keys
    shards = shards or Shards()
    extractor.eval()
    few = total <= extractor.dim  # then the features themselves are the smaller and the more exact statistics
    moments = Moments(extractor.dim) if "moments" in keep and not few else None
    features = _buffer(total, extractor.dim) if "features" in keep or ("moments" in keep and few) else None
    logits = _buffer(total, extractor.num_classes or 0) if "logits" in keep else None
    labels: list[Tensor] | None = []
    done = 0
    pieces = in_chunks(batches, total)

    def look(place: slice) -> Piece:
        images, classes = next(pieces, (None, None))
        there = place.start + (0 if images is None else len(images))
        if images is None or there < place.stop:
            raise UsageError(f"There are {there:,} images and {total:,} are asked for; lower --samples.")
        return _chunk(images, extractor, target, cache) | ({} if classes is None else {"labels": classes})

    for piece in shards.in_order(total, look):
        _keep(piece, cache, keys)
        part = slice(done, done + len(piece["features"]))
        if moments is not None:
            moments.update(piece["features"])
        if features is not None:
            features[part] = piece["features"]
        if logits is not None:
            logits[part] = piece["logits"]
        labels = None if labels is None or "labels" not in piece else [*labels, piece["labels"]]
        done = part.stop
        if on_progress is not None:
            on_progress(done, total)
    if not shards.leads:
        return FeatureSet(total, extractor.digest)
    return FeatureSet(
        total, extractor.digest, moments, features, logits, torch.cat(labels) if labels is not None else None
    )


def extract_known(
    batches: Batches,
    extractor: Extractor,
    *,
    data: Mapping[str, Any],
    total: int,
    device: torch.device | str,
    keep: Collection[Keep],
    cache: FeatureCache,
    on_progress: Progress | None = None,
    shards: Shards | None = None,
) -> FeatureSet:
    """:func:`extract` for images that are known by a hash, such as a reference: the second time none is read.

    Args:
        batches: as for :func:`extract`; not touched if the cache has what is kept of them.
        extractor, total, device, keep, on_progress, shards: as for :func:`extract`.
        data: plain JSON values that tell these images, in this order, from all others: the digest of the data, and
            everything that was done to them (split, size, preprocessing).
        cache: where the result is kept, and until it is there, its chunks.
    """

    def key_of(kept: Collection[Keep]) -> str:
        return cache_key(
            data=dict(data),
            extractor=extractor.digest,
            count=total,
            keep=sorted(kept),
            dtype="float32",
            batch=BATCH,
            device=torch.device(device).type,
        )

    shards = shards or Shards()
    kept = (cache.load("set", key_of(each)) for each in _at_least(keep)) if shards.leads else ()
    found = next((each for each in kept if each is not None), None)
    if shards.first(lambda: found is not None):
        found = found or {}
        state = {name.removeprefix("moments."): value for name, value in found.items() if name.startswith("moments.")}
        if on_progress is not None:
            on_progress(total, total)
        moments = Moments.from_state(state) if state and "moments" in keep else None
        features = found.get("features") if "features" in keep or ("moments" in keep and moments is None) else None
        logits = found.get("logits") if "logits" in keep else None
        return FeatureSet(total, extractor.digest, moments, features, logits, found.get("labels"))
    keys: list[str] = []
    made = extract(
        batches,
        extractor,
        total=total,
        device=device,
        keep=keep,
        on_progress=on_progress,
        cache=cache,
        keys=keys,
        shards=shards,
    )
    if not shards.leads:
        return made
    tensors = {} if made.moments is None else {f"moments.{k}": v for k, v in made.moments.state_dict().items()}
    rest = {"features": made.features, "logits": made.logits, "labels": made.labels}
    tensors |= {name: tensor for name, tensor in rest.items() if tensor is not None}
    if cache.store("set", key_of(keep), tensors):
        cache.forget("chunk", keys)
    return made


def _at_least(keep: Collection[Keep]) -> Iterator[set[Keep]]:
    """What is kept itself, then whatever has that and more: what is asked of a set is then in it, to the bit."""
    rest = sorted(set(get_args(Keep)).difference(keep))
    for more in range(len(rest) + 1):
        yield from ({*keep, *others} for others in combinations(rest, more))


def _chunk(images: Tensor, extractor: Extractor, device: torch.device, cache: FeatureCache | None) -> Piece:
    """Features and logits of a chunk; with a cache also its key there, and whether they are to be kept under it."""
    told: Piece = {}
    if cache is not None:
        key = cache_key(
            images=images_digest(images), extractor=extractor.digest, dtype="float32", batch=BATCH, device=device.type
        )
        told["key"] = torch.frombuffer(bytearray.fromhex(key), dtype=torch.uint8)
        kept = cache.load("chunk", key, _outline(len(images), extractor))
        if kept is not None:
            return told | {name: kept[name] for name in ("features", "logits") if name in kept}
    begun = time.perf_counter()
    found = _compute(images, extractor, device)
    if cache is not None and time.perf_counter() - begun >= _WORTH_KEEPING:
        told["fresh"] = torch.ones(1)
    return told | {"features": found.features} | ({} if found.logits is None else {"logits": found.logits})


def _keep(piece: Piece, cache: FeatureCache | None, keys: list[str]) -> None:
    """Let the cache have a chunk if it is to, and note its key."""
    if cache is None:
        return
    keys.append(bytes(piece["key"].tolist()).hex())
    if "fresh" in piece:
        cache.store("chunk", keys[-1], {name: piece[name] for name in ("features", "logits") if name in piece})


def _compute(images: Tensor, extractor: Extractor, device: torch.device) -> Features:
    parts = []
    with torch.inference_mode(), full_float32(device):  # what is cached must not depend on a run's precision
        for batch in torch.split(images, BATCH):
            seen = extractor(batch.to(device))
            _check(seen, len(batch), extractor)
            parts.append(Features(seen.features.cpu(), None if seen.logits is None else seen.logits.cpu()))
    features = torch.cat([part.features for part in parts])
    logits = [part.logits for part in parts if part.logits is not None]
    return Features(features, torch.cat(logits) if logits else None)


def _check(seen: Features, count: int, extractor: Extractor) -> None:
    name = type(extractor).__name__
    for word, tensor, width in (
        ("features", seen.features, extractor.dim),
        ("logits", seen.logits, extractor.num_classes),
    ):
        if (tensor is None) != (width is None):
            raise GanzooError(
                f"{name} says that it has {width} {word}, and gives {'none' if tensor is None else 'some'}."
            )
        if tensor is None:
            continue
        if tuple(tensor.shape) != (count, width) or tensor.dtype != torch.float32:
            raise GanzooError(
                f"{name} gives {word} {list(tensor.shape)} of {tensor.dtype}, not {[count, width]} of torch.float32."
            )
        if not tensor.isfinite().all():
            raise GanzooError(f"{name} gives {word} that are not finite (NaN or infinity); look at its weights.")


def _outline(count: int, extractor: Extractor) -> dict[str, Tensor]:
    sizes = {"features": extractor.dim} | ({"logits": extractor.num_classes} if extractor.num_classes else {})
    return {name: torch.empty(count, width, device="meta") for name, width in sizes.items()}


def in_chunks(batches: Batches, total: int) -> Iterator[Labelled]:
    """The first ``total`` images in pieces of ``CHUNK``, whatever the sizes of the batches."""
    waiting: list[Labelled] = []
    held = taken = 0
    for images, labels in batches:
        if images.dtype != torch.uint8 or images.dim() != 4 or images.device.type != "cpu":
            raise GanzooError(f"Images are [B, C, H, W] uint8 on the CPU, not {list(images.shape)} of {images.dtype}.")
        if not len(images):
            continue
        room = total - taken
        waiting.append((images[:room], None if labels is None else labels[:room]))
        held += len(waiting[-1][0])
        taken += len(waiting[-1][0])
        if held >= CHUNK:
            joined, known = _joined(waiting)
            held %= CHUNK
            for start in range(0, len(joined) - held, CHUNK):
                part = slice(start, start + CHUNK)
                yield joined[part], None if known is None else known[part]
            part = slice(len(joined) - held, None)
            waiting = [(joined[part], None if known is None else known[part])] if held else []
        if taken == total:
            break
    if held:
        yield _joined(waiting)


def _joined(waiting: list[Labelled]) -> Labelled:
    """What waits, as one batch; it has labels if all of it has."""
    shapes = {tuple(images.shape[1:]) for images, _ in waiting}
    if len(shapes) > 1:
        raise GanzooError(f"All images of a set have one size, and these have {sorted(shapes)}.")
    if len(waiting) == 1:
        return waiting[0]  # not copied: it may be large
    known = [labels for _, labels in waiting if labels is not None]
    return torch.cat([images for images, _ in waiting]), torch.cat(known) if len(known) == len(waiting) else None


def _buffer(rows: int, columns: int) -> Tensor:
    """Room for float32 numbers: in memory, or, when large, in a file that vanishes with the tensor."""
    size = rows * columns * 4
    if size <= _IN_MEMORY:
        return torch.empty(rows, columns)
    try:
        with TemporaryFile(prefix="ganzoo-features-") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a disk that turns out full later would end the program
            file.truncate(size)
            name = Path(f"/proc/self/fd/{file.fileno()}")
            if not name.exists():  # no such folder outside of Linux
                return torch.empty(rows, columns)
            return torch.from_file(str(name), shared=True, size=rows * columns).view(rows, columns)
    except (OSError, RuntimeError):
        return torch.empty(rows, columns)
