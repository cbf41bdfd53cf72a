"""Files: complete or absent, readable by whom the umask says, and every failure a sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ganzoo.errors import GanzooError
from ganzoo.files import atomic_dir, json_digest, sha256, write_bytes, write_text

resource: Any = pytest.importorskip("resource", reason="permissions and limits are those of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A real failure in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_in_utf8_and_replaced(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "new" / "deep" / "a.txt"
    write_text(path, "old", durable=durable)
    write_text(path, "neu: äöü\n", durable=durable)
    assert path.read_bytes() == "neu: äöü\n".encode()
    assert names(path.parent) == ["a.txt"]


def test_a_file_gets_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    write_bytes(tmp_path / "a", b"x")
    assert mode(tmp_path / "a") == 0o666 & ~umask


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")
    with file_size_limit(4096), pytest.raises(GanzooError, match=r"^Cannot write .*/a: the file is larger than .*\.$"):
        write_bytes(path, b"x" * 10_000, b"y")
    assert names(tmp_path) == ["a"]
    assert path.read_bytes() == b"old"


def test_the_longest_file_name_can_be_written(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("n" * 255), b"x")
    with pytest.raises(GanzooError, match="too long"):
        write_bytes(tmp_path / ("n" * 256), b"x")
    assert len(names(tmp_path)) == 1


def test_a_path_through_a_file_is_a_sentence(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "deep" / "a"):
        with pytest.raises(GanzooError, match="a file stands where a folder is needed"):
            write_bytes(path, b"x")
        with pytest.raises(GanzooError, match="a file stands where a folder is needed"), atomic_dir(path):
            pass
    with pytest.raises(GanzooError, match="a folder stands where the file belongs"):
        write_bytes(tmp_path, b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(GanzooError, match="permission is denied"):
        write_bytes(tmp_path / "a", b"x")
    tmp_path.chmod(0o700)


def test_a_folder_appears_at_once_with_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "runs" / "step-1"
    with atomic_dir(path) as draft:
        assert draft.parent == path.parent
        assert not path.exists()
        safetensors.torch.save_file({"a": torch.ones(2)}, draft / "a.safetensors")
        (draft / "inner").mkdir()
        write_text(draft / "inner" / "b.json", "{}")
        (draft / "inner" / "b.json").chmod(0o400)
    assert names(path.parent) == ["step-1"]
    assert mode(path) == mode(path / "inner") == 0o777 & ~umask
    assert mode(path / "a.safetensors") == mode(path / "inner" / "b.json") == 0o666 & ~umask


def test_a_folder_replaces_the_one_before(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with atomic_dir(tmp_path / "out") as draft:
            write_text(draft / name, name)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["second"]


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()])
def test_a_failed_folder_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    with atomic_dir(tmp_path / "out") as draft:
        write_text(draft / "good", "1")

    def fail() -> None:
        with atomic_dir(tmp_path / "out") as draft:
            write_text(draft / "bad", "2")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["good"]


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_dir(tmp_path / "out") as draft:
            (draft / "a").symlink_to("/dev/full")
            (draft / "a").write_bytes(b"x")

    with pytest.raises(GanzooError, match=r"^Cannot write .*/out: the disk is full; free some space.*\.$"):
        fill()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EACCES, "permission is denied"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "disk reports an error"),
        (errno.ETXTBSY, "Text file busy; choose another folder"),
    ],
)
def test_every_cause_has_words(tmp_path: Path, code: int, words: str) -> None:
    with pytest.raises(GanzooError, match=words), atomic_dir(tmp_path / "out"):
        raise OSError(code, os.strerror(code))


def test_killed_in_the_middle_nothing_has_the_name(tmp_path: Path) -> None:
    code = f"""
import pathlib, time
from ganzoo.files import atomic_dir, write_text
with atomic_dir(pathlib.Path({str(tmp_path)!r}) / "out") as draft:
    write_text(draft / "a", "1")
    print("ready", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert not (tmp_path / "out").exists()
    assert all(name.startswith(".") for name in names(tmp_path))


def test_sha256(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"abc", b"def")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abcdef").hexdigest()
    with pytest.raises(GanzooError, match="Cannot read"):
        sha256(tmp_path / "none")


def test_the_digest_of_a_value_is_that_of_its_one_spelling() -> None:
    """Prepared copies carry it."""
    spelt = rb'{"a":[1,null,"\u00e9\udc80"],"b":{"c":0.5}}'
    assert json_digest({"b": {"c": 0.5}, "a": (1, None, "\u00e9\udc80")}) == hashlib.sha256(spelt).hexdigest()
