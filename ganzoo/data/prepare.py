"""Making a prepared copy: image by image into files that can be mapped, in memory that does not grow.

What is done is kept beside the copy until it is whole, and then renamed. So a copy is there as a whole or not at all,
and the same command goes on where an earlier one was stopped: at the very image, or, if that was killed, after the last
file that was full. Copies of other images or with other settings are made in other folders.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from ganzoo.api import GanzooError, Spec, UsageError
from ganzoo.data.arrays import Array, write_arrays
from ganzoo.data.copies import LABELS, Copy, Shard, read_copy, understood
from ganzoo.data.dataset import ArrayDataset, Dataset
from ganzoo.data.files import COPY_RECORD, ImageFiles, OnBadImage, at_home, is_copy
from ganzoo.data.images import refusal, report_bad
from ganzoo.data.index import index_of
from ganzoo.data.kept import key_of
from ganzoo.data.picture import Pixels
from ganzoo.data.pixels import from_unit
from ganzoo.data.shard import HEADER, ShardFile
from ganzoo.data.stream import in_turn
from ganzoo.data.streamed import decode_in_order, note
from ganzoo.data.workers import Decoders
from ganzoo.errors import Interrupted
from ganzoo.files import cause_of, sha256, write_text
from ganzoo.reading import MAX_BYTES, read_table

Images = Iterator[tuple[Pixels, Array]]
"""Pixels ``[n, C, H, W]`` and the numbers ``[n]`` that the images have in their source."""
Advance = Callable[[int], None]

_LOG: Final = logging.getLogger("ganzoo")
SHARD_BYTES: Final = 2**30
_MOST_FILES: Final = 512
"""Each one is open while the copy is used, and a process may not have many more."""
_BATCH: Final = 256
_PROGRESS: Final = "progress.json"
_PATIENCE: Final = 1.0
"""Seconds for which a copy is waited for that another process seems to finish."""
_STALE: Final = 60.0
"""Seconds after which nobody is about to write down how far a copy is."""


@dataclass(frozen=True)
class Original:
    """What a copy is made of.

    Attributes:
        spec: what one sample is; without classes the copy gets no labels.
        count: how many images there are, with those that cannot be read.
        images: from the image of some number on, all in order; those that cannot be read are refused or left out.
        labels: ``[count]`` int64, or None.
        classes: names of the classes, if they have names.
        source: what it is and what is done to it, for the record: plain JSON values.
        digest: tells it from all others; empty if that is not known, and a stopped copy then begins anew.
        finish: called when all images were seen; may refuse them.
        whole: whether no image is to be left out.
    """

    spec: Spec
    count: int
    images: Callable[[int], Images]
    labels: Array | None
    classes: tuple[str, ...]
    source: Mapping[str, Any]
    digest: str = ""
    finish: Callable[[], None] = field(default=lambda: None)
    whole: bool = False


def from_files(
    files: ImageFiles, spec: Spec, decoders: Decoders, on_bad_image: OnBadImage, source: Mapping[str, Any]
) -> Original:
    """A folder or zip of images, each decoded once."""
    bad: dict[str, str] = {}
    index = index_of(files)
    if on_bad_image == "refuse":
        for name, reason in index.bad.items():
            raise refusal(files, name, reason)

    def images(start: int) -> Images:
        try:
            for numbers, piece in decode_in_order(np.arange(start, len(files)), decoders):
                note(files, numbers, piece, on_bad_image)
                bad.update({files.names[int(numbers[at])]: reason for at, (reason, _) in piece.bad.items()})
                yield piece.pixels, numbers[piece.good]
        finally:
            index.keep()

    def finish() -> None:
        report_bad(files, {**index.bad, **bad})

    labelled = spec.num_classes is not None and files.labels is not None
    return Original(
        spec,
        len(files),
        images,
        np.array(files.labels, np.int64) if labelled else None,
        files.classes if labelled else (),
        source,
        key_of(list=files.digest, fit=decoders.fit) if files.digest else "",
        finish,
        whole=on_bad_image == "refuse",
    )


def from_dataset(dataset: Dataset, source: Mapping[str, Any]) -> Original:
    """Any finite data set of images.

    Raises:
        UsageError: it has no end, or holds points.
    """
    if not dataset.spec.is_image or dataset.length is None:
        kind = "points" if not dataset.spec.is_image else "samples that are drawn without end"
        raise UsageError(f"Copies are made of images in a finite number, and this data set has {kind}.")
    length = dataset.length

    def images(start: int) -> Images:
        for x, _ in in_turn(dataset, torch.arange(start, length), _BATCH):
            pixels = from_unit(x.cpu()).numpy()
            yield pixels, np.arange(start, start := start + len(pixels))

    labels = dataset.labels_of(torch.arange(length)) if dataset.spec.num_classes else None
    told = dataset.digest
    if not told and isinstance(dataset, ArrayDataset):  # to write them takes longer than to read them
        made = hashlib.sha256(np.ascontiguousarray(dataset.samples.numpy()).data)
        made.update(b"" if labels is None else labels.cpu().numpy().tobytes())
        told = made.hexdigest()
    digest = key_of(data=told) if told else ""
    known = None if labels is None else labels.cpu().numpy()
    classes = dataset.classes if dataset.spec.num_classes else ()
    return Original(dataset.spec, length, images, known, classes, source, digest)


def prepare(
    original: Original, out: Path, *, shard_bytes: int = SHARD_BYTES, advance: Advance = lambda _: None
) -> Copy:
    """Write the copy ``out``.

    Args:
        original: what to copy.
        out: a folder that is not there yet, or the same copy, made before.
        shard_bytes: how large a file of images may be; one image at least is in each.
        advance: hears how many more images are done.

    Returns:
        The copy; an earlier one if that was made of the same images, by their digest.

    Raises:
        UsageError: something else is at ``out``, an image cannot be read and is not to be skipped, or the files would
            be too many.
        GanzooError: it cannot be written.
    """
    out = at_home(out).absolute()
    if not out.name:
        raise UsageError(f"{out} is no name for a copy: name a folder that is not there yet.")
    if out.is_symlink() and not out.exists():
        raise UsageError(f"{out} is a link that leads nowhere: remove it, or choose another name.")
    made = _Making(original, out, max(1, shard_bytes // original.spec.numel))
    if out.exists():
        return _same_as(out, made)
    if -(-original.count // made.room) > _MOST_FILES:
        least = -(-original.count * original.spec.numel // (_MOST_FILES * 2**20))
        raise UsageError(
            f"This copy would have more than {_MOST_FILES} files: make them of {least} MiB (--shard-size)."
        )
    made.check_record()
    made.tell_of_others()
    try:
        copy = made.work(out, advance)
        if not out.exists():  # else another process was quicker
            made.folder.rename(out)
            made.tidy(out)
            return copy
    except Interrupted:
        raise
    except (OSError, GanzooError) as err:
        if not (is_copy(out) or (not isinstance(err, UsageError) and _comes(out))):
            if isinstance(err, GanzooError):
                raise
            raise GanzooError(
                f"Cannot write {out}: {cause_of(err)}; what is done is kept, and the same command goes on from there."
            ) from err
    shutil.rmtree(made.folder, ignore_errors=True)
    return _same_as(out, made)


def _comes(out: Path) -> bool:
    """Whether a quicker process, which took what this one missed, has its copy in place soon."""
    deadline = time.monotonic() + _PATIENCE
    while not is_copy(out) and time.monotonic() < deadline:
        time.sleep(_PATIENCE / 20)
    return is_copy(out)


def _same_as(out: Path, made: _Making) -> Copy:
    """The copy that is there already."""
    copy = read_copy(out) if is_copy(out) else None
    left_out = 0 if copy is None else made.original.count - copy.count
    if copy is not None and made.key and copy.source.get("key") == made.key:
        if not (left_out and made.original.whole):
            made.tidy(out)  # who made it may have been stopped before that
            return copy
        why = f"leaves {left_out} of them out, which could not be read when it was made"
    elif copy is not None:
        why = "was not made from the same images, or these have been touched since"
    if copy is None:
        why = "is no prepared copy"
    elif not made.key:
        why = "nothing tells whether it was made from the same images"
    raise UsageError(f"{out} is there already, and {why}: choose another name, or remove it.")


class _Making:
    """A copy that is being made, in a folder beside its place."""

    def __init__(self, original: Original, out: Path, room: int) -> None:
        self.original, self.room = original, room
        shape = {"shape": original.spec.shape, "classes": original.classes, "num_classes": original.spec.num_classes}
        self.key = key_of(original=original.digest, room=room, **shape) if original.digest else ""
        # The name is cut so that one of the longest possible leaves room for the rest.
        self.folder = out.with_name(f".{out.name[:64]}.{self.key[:12] or 'unknown'}.partial")
        self.others = [
            path
            for path in out.parent.glob(f".{glob.escape(out.name[:64])}.*.partial")
            if path.name != self.folder.name
        ]
        self.shards: list[Shard] = []
        self.kept: list[Array] = []

    def tell_of_others(self) -> None:
        """Say which folders hold unfinished copies of the same name, which somebody may not want any more."""
        for path in self.others:
            _LOG.warning("%s holds an unfinished copy of other images or with other settings.", path)

    def work(self, out: Path, advance: Advance) -> Copy:
        """Everything but the last rename; the copy as it will be at ``out``."""
        original = self.original
        self._go_on()
        file: ShardFile | None = ShardFile.left(self._next(), original.spec) if self.key else None
        so_far = [*self.kept, *(file.numbers if file else [])]
        done = int(so_far[-1][-1]) + 1 if so_far else 0
        advance(done)
        try:
            if original.whole and sum(map(len, so_far)) < done:
                raise UsageError(
                    f"{self.folder} holds an unfinished copy that leaves images out: remove it, or leave such images "
                    "out again with --on-bad-image skip."
                )
            for pixels, numbers in original.images(done):
                start = 0
                while start < len(pixels):
                    file = file or ShardFile(self._next(), original.spec)
                    part = slice(start, start + self.room - file.count)
                    file.add(pixels[part], numbers[part])
                    start = part.stop
                    if file.count == self.room:
                        self._close(file)
                        file = None
                if len(numbers):
                    advance(int(numbers[-1]) + 1 - done)
                    done = int(numbers[-1]) + 1
            original.finish()
            if file is not None:
                self._close(file)
                file = None
        finally:
            if file is not None:
                file.give_up()
        advance(original.count - done)
        return self._record(out)

    def _next(self) -> Path:
        """The file that is to be written now."""
        return self.folder / f"images-{len(self.shards):05d}.safetensors"

    def _go_on(self) -> None:
        """Take over what an earlier process left of the same copy, or begin with nothing.

        Another process that makes the same copy at this moment is let be: they write the same, each to drafts of its
        own, and the first one to be done takes the name.
        """
        said: dict[str, Any] | None = None
        with suppress(OSError, ValueError):
            said = read_table(self.folder / _PROGRESS)
        ours = said is not None and bool(self.key) and said.get("key") == self.key
        if not ours and (said is not None or not self.key or self._is_stale()):
            shutil.rmtree(self.folder, ignore_errors=True)
        if said is None or not ours:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / _PROGRESS, json.dumps({"key": self.key, "shards": []}), durable=False)
            return
        with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            for name, count, digest in said["shards"]:
                numbers = np.fromfile(self.folder / f"{Path(name).stem}.numbers", np.int64)
                size = HEADER + count * self.original.spec.numel
                if len(numbers) != count or (self.folder / name).stat().st_size != size:
                    break
                self.shards.append(Shard(name, count, digest))
                self.kept.append(numbers)

    def _is_stale(self) -> bool:
        """Whether the folder was left long ago; nobody knows how far the copy in it is."""
        with suppress(OSError):
            return time.time() - self.folder.stat().st_mtime > _STALE
        return False

    def _close(self, file: ShardFile) -> None:
        """A file is full: from now on it is there whatever happens."""
        self.shards.append(file.close())
        self.kept.append(np.concatenate(file.numbers))
        name = file.path.stem
        (self.folder / f"{name}.numbers").write_bytes(self.kept[-1].tobytes())
        shards = [[shard.file, shard.count, shard.sha256] for shard in self.shards]
        write_text(self.folder / _PROGRESS, json.dumps({"key": self.key, "shards": shards}), durable=False)

    def _record(self, out: Path) -> Copy:
        """Labels and the record."""
        original, folder = self.original, self.folder
        kept = np.concatenate(self.kept)
        labels = ""
        if original.labels is not None:
            write_arrays(folder / LABELS, {"labels": original.labels[kept]}, {})
            labels = sha256(folder / LABELS)
        copy = self._copy(out, tuple(self.shards), labels)
        understood(out, copy.to_dict())  # what is written can be read
        write_text(folder / COPY_RECORD, copy.text())
        return copy

    def _copy(self, out: Path, shards: tuple[Shard, ...], labels: str) -> Copy:
        """The copy at ``out`` whose files are these."""
        original = self.original
        source = {**original.source, "images": original.count, "key": self.key}
        return Copy(out, original.spec, original.classes, shards, labels, source)

    def check_record(self) -> None:
        """Refuse a copy whose record would be too long, before anything is done.

        Raises:
            UsageError: it would.
        """
        count, nothing = self.original.count, "0" * 64
        counts = [min(self.room, count - start) for start in range(0, count, self.room)]
        shards = tuple(Shard(f"images-{at:05d}.safetensors", each, nothing) for at, each in enumerate(counts))
        size = len(self._copy(self.folder, shards, nothing).text())
        if size > MAX_BYTES:
            raise UsageError(
                f"The names of {len(self.original.classes)} classes make the record of this copy "
                f"{size / 2**20:.1f} MiB long, and it may have {MAX_BYTES / 2**20:.0f}: shorten them, or leave the "
                "labels out with --cond off."
            )

    def tidy(self, folder: Path) -> None:
        """Remove what was for the making, be it another process's, which will find the copy there.

        So this is done once the copy has its name: before, the other one would miss what it is writing.
        """
        for pattern in ("*.numbers", ".*.tmp", "*.part", _PROGRESS):
            for each in folder.glob(pattern):
                with suppress(OSError):
                    each.unlink(missing_ok=True)
