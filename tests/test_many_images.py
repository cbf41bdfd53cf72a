"""More images than memory: decoded while they are used, by other processes; and what is remembered of images."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganzoo.cli import main
from ganzoo.data import (
    ArrayDataset,
    Dataset,
    DataStream,
    ImageFiles,
    decode_images,
    held_images,
    images,
    list_images,
    picture,
)
from ganzoo.data import held as held_module
from ganzoo.data import index as index_module
from ganzoo.data import zipped as zipped_module
from ganzoo.data.kept import ImageCache, source_of
from ganzoo.data.memory import fits, free_memory
from ganzoo.errors import GanzooError, UsageError
from ganzoo.registry import build, registry
from ganzoo_datasets.own import Folder, StreamedFolder

SHAPE = (3, 16, 16)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageCache]:
    """A cache of one's own that keeps everything, however quickly it was found out."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_module, "WORTH_KEEPING", 0)
    monkeypatch.setattr(zipped_module, "WORTH_KEEPING", 0)
    monkeypatch.setattr(held_module, "_WORTH_KEEPING", 0)
    yield ImageCache()
    forget()


def forget() -> None:
    """What this process knows of folders, as if it were a new one."""
    index_module._KNOWN.clear()
    sys.modules["ganzoo_datasets.folder_source"].__dict__["_FOUND"].clear()


def save(path: Path, seed: int, size: tuple[int, int] = (20, 18)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(50):
        save(tmp_path / "photos" / "abc"[i % 3] / f"{i:02d}.png", i)
    return tmp_path / "photos"


def dataset(path: Path, **options: Any) -> Dataset:
    choice = registry().choose("dataset", "folder", {"path": str(path), "size": 16, **options})
    assert choice.component.spec is not None
    found: Dataset = build(choice, choice.component.spec(choice.config))
    return found


def batches(data: Dataset, count: int = 9, *, rank: int = 0, world: int = 1, at: int = 0) -> list[tuple[Any, Any]]:
    stream = DataStream(data, 12, 7, rank=rank, world=world)
    stream.position = at
    return [(batch.x, batch.y) for batch in (stream.next() for _ in range(count))]


def wake(streamed: StreamedFolder) -> None:
    """Wait until a process has started, if there are to be any: threads decode until then."""
    if streamed.decoders.workers:
        next(streamed.decoders.begin([0]).result())
        streamed.decoders._awake.result()


def same(one: list[tuple[Any, Any]], other: list[tuple[Any, Any]]) -> bool:
    return all(torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in zip(one, other, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_streamed_batches_are_those_in_memory_to_the_bit(photos: Path, workers: int) -> None:
    held = dataset(photos, memory="hold", flip=True, crop=2)
    streamed = dataset(photos, memory="stream", workers=workers, flip=True, crop=2)
    assert isinstance(held, Folder)
    assert isinstance(streamed, StreamedFolder)
    assert (streamed.length, streamed.spec, streamed.classes) == (50, held.spec, ("a", "b", "c"))
    wake(streamed)
    whole = batches(held)
    assert same(batches(streamed), whole)
    assert same(batches(streamed, 4, at=5 * 12), whole[5:])  # as a resumed run does
    for rank in (0, 1):
        assert same(batches(streamed, rank=rank, world=2), batches(held, rank=rank, world=2))
    assert streamed.decoders.workers == workers, "no process died"
    streamed.decoders.close()


def test_a_stream_goes_on_anywhere_and_back_while_batches_are_on_their_way(photos: Path) -> None:
    held, streamed = dataset(photos, memory="hold"), dataset(photos, memory="stream", workers=0)
    ours, theirs = DataStream(streamed, 8, 0), DataStream(held, 8, 0)
    for position in (None, None, 800, None, 8, None, None, 0, 3, None):
        for stream in (ours, theirs):
            stream.position = stream.position if position is None else position
        batch, expected = ours.next(), theirs.next()
        assert torch.equal(batch.x, expected.x)
        assert ours.position == theirs.position
    sent = pickle.loads(pickle.dumps(ours))
    assert torch.equal(sent.next().x, theirs.next().x)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_zip_streams_as_its_folder(workers: int, photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in sorted(photos.rglob("*.png")):
            archive.write(file, file.relative_to(photos))
    streamed = dataset(tmp_path / "photos.zip", memory="stream", workers=workers)
    assert isinstance(streamed, StreamedFolder)
    wake(streamed)
    assert same(batches(streamed, 3), batches(dataset(photos, memory="hold"), 3))
    streamed.decoders.close()


@pytest.mark.parametrize("memory", ["hold", "stream"])
def test_a_zip_that_was_damaged_is_looked_at_anew_when_it_is_whole(memory: str, photos: Path, tmp_path: Path) -> None:
    """The list of a damaged download is that of a good one."""
    good, bad, used = (tmp_path / f"{name}.zip" for name in ("good", "bad", "used"))
    with zipfile.ZipFile(good, "w") as archive:
        for file in sorted(photos.rglob("*.png")):
            archive.write(file, file.relative_to(photos))
        place = archive.infolist()[5].header_offset
    data = bytearray(good.read_bytes())
    data[place + 80] ^= 255
    bad.write_bytes(data)

    def length(source: Path, **options: str) -> int:
        shutil.copy(source, used)
        forget()
        found = dataset(used, memory=memory, workers=0, **options)
        assert found.length is not None
        batches(found, 5)
        return found.length

    lengths = [length(source, on_bad_image="skip") for source in (good, bad, good, bad)]
    assert lengths == [50, 49, 50, 49]
    assert length(good) == 50
    with pytest.raises(UsageError, match="cannot be read"):
        length(bad)


def test_a_killed_worker_is_one_sentence_and_no_batch_is_lost(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    streamed = dataset(photos, memory="stream", workers=2)
    assert isinstance(streamed, StreamedFolder)
    wake(streamed)
    whole = batches(dataset(photos, memory="hold"))
    stream = DataStream(streamed, 12, 7)
    found = [stream.next() for _ in range(2)]
    for process in list(getattr(streamed.decoders._pool, "_processes").values()):  # noqa: B009
        with suppress(ProcessLookupError):  # the end of the first ends the others
            os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.join()
    found += [stream.next() for _ in range(7)]
    assert same([(batch.x, batch.y) for batch in found], whole)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "A process that decodes images was killed" in told[0]
    assert "--data.workers" in told[0]


def test_bad_images_are_refused_or_left_out_as_in_memory(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "b" / "01.png").write_bytes(b"no image")
    cut = photos / "c" / "02.png"
    cut.write_bytes(cut.read_bytes()[:200])
    sentences = []
    for memory in ("hold", "stream", "stream"):  # the second time it is known
        with pytest.raises(UsageError) as refused:
            dataset(photos, memory=memory, workers=0)
        sentences.append(str(refused.value))
        forget()
    assert len(set(sentences)) == 1
    assert "The image b/01.png" in sentences[0]
    warnings = []
    skipping = []
    for memory in ("hold", "stream", "hold", "stream"):
        caplog.clear()
        skipping.append(dataset(photos, memory=memory, workers=0, on_bad_image="skip"))
        warnings.append([record.getMessage() for record in caplog.records])
        forget()
    assert [data.length for data in skipping] == [48] * 4
    assert all(told == warnings[0] and "2 of 50 images were left out" in told[0] for told in warnings)
    whole = batches(skipping[0])
    assert all(same(batches(data), whole) for data in skipping[1:])


def test_an_image_that_changes_while_it_is_used_is_named(photos: Path) -> None:
    streamed = dataset(photos, memory="stream", workers=0)
    (photos / "a" / "00.png").write_bytes(b"gone")
    with pytest.raises(GanzooError, match=r"a/00\.png in .* cannot be read any more"):
        streamed.fetch(torch.arange(50))


def changes(root: Path) -> Iterator[bool]:
    """Everything that must be noticed of a folder, one after the other; whether it was so before."""
    save(root / "a" / "new.png", 99)
    yield False
    (root / "a" / "new.png").unlink()
    yield True
    (root / "b" / "01.png").rename(root / "c" / "01.png")
    yield False
    file = root / "a" / "03.png"
    told = file.stat()
    data = bytearray(file.read_bytes())
    save(file, 1234)
    assert file.stat().st_mtime_ns != told.st_mtime_ns or len(data) != file.stat().st_size
    yield False


def test_what_is_kept_is_used_until_the_folder_changes(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(path: Path) -> tuple[Any, int]:
        forget()
        calls = []
        true = picture.decode

        def counted(*args: Any) -> Any:
            calls.append(1)
            return true(*args)

        monkeypatch.setattr(images, "decode", counted)
        data = dataset(path)
        monkeypatch.setattr(images, "decode", true)
        assert isinstance(data, ArrayDataset)
        return data, len(calls)

    first, decoded = opened(photos)
    assert decoded == 50
    again, decoded = opened(photos)
    assert decoded == 0
    assert torch.equal(first.samples, again.samples)
    assert torch.equal(first.labels, again.labels)
    for known in changes(photos):
        data, decoded = opened(photos)
        assert decoded == (0 if known else len(list_images(photos)))
        pixels, _ = decode_images(list_images(photos), SHAPE)
        assert np.array_equal(data.samples, pixels)


def test_the_index_opens_no_image_twice(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [images.choose_shape(list_images(photos)), images.common_shape(list_images(photos))]
    forget()
    monkeypatch.setattr(picture, "_opened", None)
    assert [images.choose_shape(list_images(photos)), images.common_shape(list_images(photos))] == shapes


def test_the_same_list_has_one_index_and_the_last_few_lists_are_known(photos: Path) -> None:
    def index(*names: str) -> index_module.ImageIndex:
        return index_module.index_of(ImageFiles(photos, names, digest="".join(names)))

    first = index("1")
    for other in ("2", "3", "4", "5"):
        assert index(other) is index(other)
        assert index("1") is first
    assert len(index_module._KNOWN) == index_module._MOST
    assert index_module.index_of(ImageFiles(photos, ("1",))) is not first


def test_what_is_damaged_is_made_again(photos: Path, cache: ImageCache, caplog: pytest.LogCaptureFixture) -> None:
    files = list_images(photos)
    pixels, _ = held_images(files, SHAPE, "crop", "refuse")
    images.choose_shape(files)
    assert {entry.kind for entry in cache.entries()} == {"index", "pixels"}
    assert all(source_of(entry) == str(photos) for entry in cache.entries())
    for entry in cache.entries():
        data = entry.path.read_bytes()
        for at in (3, 40, len(data) // 2, len(data) - 1):
            flipped = bytearray(data)
            flipped[at] ^= 1
            for broken in (flipped, data[:at], b""):
                entry.path.write_bytes(broken)
                forget()
                caplog.clear()
                assert np.array_equal(held_images(files, SHAPE, "crop", "refuse")[0], pixels)
                assert images.choose_shape(files) == (3, 18, 20) or images.choose_shape(files)[0] == 3
    assert cache.clear() > pixels.nbytes
    assert cache.entries() == []


def test_the_command_line_tells_what_kept_files_were_made_from(
    tmp_path: Path, cache: ImageCache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    cache.store("index", "ab" * 32, {"x": np.zeros(9, np.uint8)}, tmp_path)
    (entry,) = cache.entries()
    assert main(["data", "cache", "--json"]) == 0
    told = {"kind": "index", "source": str(tmp_path), "bytes": entry.size, "path": str(entry.path)}
    assert json.loads(capsys.readouterr().out) == {"folder": str(cache.root), "entries": [told]}
    assert main(["data", "cache"]) == 0
    assert capsys.readouterr().out.split()[-3:] == ["index", str(tmp_path), str(entry.size)]


def test_processes_that_start_together_do_not_disturb_each_other(photos: Path, cache: ImageCache) -> None:
    program = (
        "import hashlib, sys; from pathlib import Path; from ganzoo.data import held, held_images, list_images\n"
        "held._WORTH_KEEPING = 0\n"
        "pixels, _ = held_images(list_images(Path(sys.argv[1])), (3, 16, 16), 'crop', 'refuse')\n"
        "print(hashlib.sha256(pixels.tobytes()).hexdigest())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(photos)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = {process.communicate()[0] for process in started}
    assert len(found) == 1
    assert [process.returncode for process in started] == [0] * 2
    kept = [entry for entry in cache.entries() if entry.kind == "pixels"]
    assert len(kept) == 1
    assert not list(cache.root.rglob("*.tmp"))


def test_the_cache_is_bounded_and_forgets_what_was_not_used_for_longest(
    tmp_path: Path, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganzoo.data.kept.LIMIT", 4200)
    array = np.zeros(1000, np.uint8)
    for at, key in enumerate(("aa", "bb", "cc")):
        assert cache.store("pixels", key, {"x": array}, tmp_path)
        os.utime(cache.path("pixels", key), (at, at))
    assert cache.load("pixels", "aa") is not None  # and so it was used
    assert cache.store("pixels", "dd", {"x": array}, tmp_path)
    assert {entry.path.stem for entry in cache.entries()} <= {"aa", "cc", "dd"}
    assert sum(entry.size for entry in cache.entries()) <= 4200 + 1000
    assert not cache.store("pixels", "ee", {"x": np.zeros(5000, np.uint8)}, tmp_path)


def test_free_memory_is_measured_and_decides(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**20 < free_memory() < 2**50
    assert fits(1)
    assert not fits(2**50)
    monkeypatch.setattr("ganzoo.data.memory.free_memory", lambda: 3 * 16 * 16 * 50)
    streamed = dataset(photos, workers=0)
    assert isinstance(streamed, StreamedFolder)
    monkeypatch.setattr("ganzoo.data.memory.free_memory", lambda: 3 * 16 * 16 * 100)
    assert isinstance(dataset(photos), Folder)


MEMORY = """
import resource, sys
from pathlib import Path
from ganzoo.data import DataStream
from ganzoo.registry import build, registry
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
choice = registry().choose("dataset", "folder", {"path": sys.argv[1], "size": 192, "memory": "stream", "workers": 1})
data = build(choice, choice.component.spec(choice.config))
stream = DataStream(data, 8, 0)
before = peak()
for _ in range(120):
    stream.next()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak so")
def test_memory_stays_bounded_while_more_is_decoded(photos: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, str(photos)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    decoded = 120 * 8 * 3 * 192 * 192
    assert int(done.stdout) < decoded / 2
