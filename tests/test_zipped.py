"""Members of a zip are read by their places as zipfile reads them, and its list is read once."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganzoo.data import list_images
from ganzoo.data import zipped as module
from ganzoo.data.files import ImageFiles
from ganzoo.data.kept import ImageCache
from ganzoo.data.zipped import Member, OpenZip, known_members, list_members, stamp_of
from ganzoo.errors import UsageError

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ImageCache:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "WORTH_KEEPING", 0)
    return ImageCache()


def read_all(path: Path) -> dict[str, bytes]:
    members = list_members(path)
    archive = OpenZip(path)
    found = {name: archive.read(Member(*row.tolist())) for name, row in zip(*members, strict=True)}
    archive.close()
    return found


@FEW
@given(
    files=st.dictionaries(st.text(min_size=1, max_size=30), st.binary(max_size=300), max_size=6),
    method=st.sampled_from(METHODS),
    before=st.binary(max_size=40),
    comment=st.binary(max_size=40),
)
def test_members_are_those_that_zipfile_reads(
    tmp_path: Path, files: dict[str, bytes], method: int, before: bytes, comment: bytes
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.comment = comment
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    path = tmp_path / "x.zip"
    path.write_bytes(before + packed.getvalue())
    with zipfile.ZipFile(path) as archive:
        expected = {name: archive.read(name) for name in archive.namelist()}
    assert read_all(path) == dict(sorted(expected.items()))


def test_sizes_that_need_eight_bytes_and_sizes_that_come_after_the_data_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("large", "w", force_zip64=True) as file:
        file.write(b"a" * 1000)

    class Pipe(io.RawIOBase):
        """Cannot go back, so that the sizes are written after the data."""

        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("streamed", b"b" * 1000)
    assert read_all(path) == {"large": b"a" * 1000}
    path.write_bytes(pipe.data)
    assert read_all(path) == {"streamed": b"b" * 1000}


def one(path: Path, method: int = zipfile.ZIP_DEFLATED, data: bytes = b"abc" * 100) -> Member:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("1.png", data)
    return Member(*list_members(path).table[0].tolist())


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    member = one(path)
    archive = OpenZip(path)
    for flags in (0x01, 0x41):
        with pytest.raises(ValueError, match="it is encrypted"):
            archive.read(member._replace(flags=flags))
    with pytest.raises(ValueError, match="it takes 65 MiB, more than the 64 allowed"):
        archive.read(member._replace(size=65 * 2**20))
    with pytest.raises(ValueError, match="it takes 65 MiB, more than the 64 allowed"):
        archive.read(member._replace(packed=65 * 2**20))
    with pytest.raises(ValueError, match="the zip has changed, or is damaged"):
        archive.read(member._replace(offset=3))
    with pytest.raises(ValueError, match="the zip has changed, or is damaged"):
        archive.read(member._replace(offset=10**6))
    for wrong in ({"crc": 1}, {"size": 7}, {"size": 0}, {"size": 301}, {"packed": 3}, {"method": zipfile.ZIP_BZIP2}):
        with pytest.raises(ValueError, match="the zip is damaged there"):
            archive.read(member._replace(**wrong))
    with pytest.raises(ValueError, match="it is packed by method 99, which this Python does not know"):
        archive.read(member._replace(method=99))
    archive.close()


def test_a_size_beyond_any_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", b"abc")
        archive.filelist[0].file_size = 2**64 - 1
    with pytest.raises(UsageError, match=r"x\.zip is neither a folder nor a zip that can be read"):
        list_members(path)


@pytest.mark.parametrize("method", METHODS)
def test_a_member_that_says_it_is_small_is_not_unpacked_as_a_large_one(tmp_path: Path, method: int) -> None:
    path = tmp_path / "x.zip"
    member = one(path, method, bytes(50 * 2**20))
    archive = OpenZip(path)
    tracemalloc.start()
    with pytest.raises(ValueError, match="the zip is damaged there"):
        archive.read(member._replace(size=1000, packed=min(member.packed, 2**20)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    archive.close()
    assert peak < 20 * 2**20


def test_the_list_is_kept_until_the_zip_changes(
    tmp_path: Path, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.zip"
    one(path)
    first = list_images(path)
    monkeypatch.setattr(module, "list_members", None)
    again = list_images(path)
    assert (again.names, again.digest) == (first.names, first.digest)
    assert again.table is not None
    assert first.table is not None
    assert again.table.tolist() == first.table.tolist()
    with again.open() as read:
        assert read(0) == b"abc" * 100
    monkeypatch.undo()
    monkeypatch.setenv("GANZOO_CACHE", str(cache.root.parent))
    before = path.stat()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("2.png", b"d")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list_images(path).names == ("2.png",)
    assert {entry.kind for entry in cache.entries()} == {"members"}
    assert known_members(path, stamp_of(path), lambda name: name == "none", "another rule", cache).names == ()


def test_what_a_stranger_keeps_does_not_count(tmp_path: Path, cache: ImageCache) -> None:
    path = tmp_path / "x.zip"
    one(path)
    known = partial(known_members, path, stamp_of(path), lambda _: True, "rule", cache)
    known()
    (entry,) = cache.entries()
    for arrays in ({"names": b"1.png\0" + b"2.png"}, {"names": b"\xff"}, {"other": b"1.png"}):
        blob = {name: np.frombuffer(data, np.uint8) for name, data in arrays.items()}
        assert cache.store("members", entry.key, {**blob, "table": np.zeros((1, 6), np.int64)}, path)
        assert known().names == ("1.png",)


def test_files_named_by_hand_are_found_in_their_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.png", "b.png"):
            archive.writestr(name, name)
    with ImageFiles(path, ("b.png", "a.png")).open() as read:
        assert [read(0), read(1)] == [b"b.png", b"a.png"]
    with pytest.raises(UsageError, match=r"x\.zip has no file c\.png"), ImageFiles(path, ("c.png",)).open():
        pass
    assert struct.calcsize(module._LOCAL.format) == 30


def test_bytes_that_are_missing_in_the_middle_are_damage_that_lasts(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "abc":
            archive.writestr(f"{name}.png", bytes(500))
    data = path.read_bytes()
    path.write_bytes(data[:600] + data[700:])
    members = list_members(path)
    with closing(OpenZip(path)) as archive:
        for row in members.table.tolist()[:2]:
            with pytest.raises(ValueError, match="the zip"):
                archive.read(Member(*row))


def test_pictures_of_a_zip_that_are_not_read_are_told_of_each_time(
    tmp_path: Path, cache: ImageCache, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/1.png", "a/2.HEIC", "b/1.png", "b/2.heic", "b/3.avif", "b/4.txt", "__MACOSX/5.heic"):
            archive.writestr(name, b"x")
    for _ in range(2):  # the list is read, and is then known
        caplog.clear()
        files = list_images(path)
        assert files.names == ("a/1.png", "b/1.png")
        assert files.table is not None
        assert len(files.table) == 2
        assert caplog.messages == [
            f"Pictures in {path} that cannot be read are left out: 1 end in .avif, 2 end in .heic; convert them to PNG "
            "or JPEG."
        ]
