"""Files: complete or absent, readable by whom the umask says, and every failure a sentence; tensors in safetensors."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.files import atomic_dir, sha256, write_bytes, write_text
from ganzoo.nn.weights import layouts, load_into, load_tensors, save_tensors

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions and limits are those of POSIX")


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
    with (
        pytest.raises(GanzooError, match=r"^Cannot write .*/out: the disk is full; free some space.*\.$"),
        atomic_dir(tmp_path / "out") as draft,
    ):
        (draft / "a").symlink_to("/dev/full")
        (draft / "a").write_bytes(b"x")
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


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    return module


def test_tensors_of_any_kind_come_back(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 2, 2)
    tensors = {
        "channels last": whole.to(memory_format=torch.channels_last),
        "transposed": whole[0, :, 0].T,
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "bf16": torch.ones(3, dtype=torch.bfloat16),
        "bool": torch.tensor([True, False]),
        "tied 1": whole,
        "tied 2": whole,
        "view": whole[0],
        **tied().state_dict(),
    }
    save_tensors(tmp_path / "a.safetensors", tensors, {"b": "2", "a": "1"})
    loaded = load_tensors(tmp_path / "a.safetensors", tensors)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"a": "1", "b": "2"}


def test_equal_tensors_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys, torch, pathlib; from ganzoo.nn.weights import save_tensors;"
        "save_tensors(pathlib.Path(sys.argv[1]), {f't{i}': torch.ones(i) for i in range(9)},"
        "{f'm{i}': str(i) for i in range(9)})"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], check=True)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")


def test_a_type_that_cannot_be_saved_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(GanzooError, match=r"'odd' cannot be saved: safetensors has no type for torch\.complex128"):
        save_tensors(tmp_path / "a.safetensors", {"odd": torch.zeros(1, dtype=torch.complex128)})


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"weight": torch.ones(2, 3)}, "it lacks bias"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "b": torch.ones(1)}, "it has the unknown b"),
        ({"weight": torch.ones(2, 4), "bias": torch.ones(2)}, r"weight \(F32 \[2, 4\] there, F32 \[2, 3\] here\)"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2).half()}, r"bias \(F16 \[2\] there, F32 \[2\] here\)"),
        ({f"k{i}": torch.ones(1) for i in range(5)}, "it lacks weight, bias; it has the unknown k0, k1, k2 and 2 more"),
        ({"weight": torch.full((2, 3), torch.nan), "bias": torch.ones(2)}, "weight holds numbers that are not finite"),
        ({"weight": torch.ones(2, 3), "bias": torch.tensor([1, torch.inf])}, "bias holds numbers that are not finite"),
    ],
)
def test_what_does_not_fit_is_a_sentence(tmp_path: Path, saved: dict[str, torch.Tensor], words: str) -> None:
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    save_tensors(tmp_path / "a.safetensors", {f"gen.{name}": tensor for name, tensor in saved.items()})
    with pytest.raises(GanzooError, match=words):
        load_into(module, tmp_path / "a.safetensors", "gen.")
    assert torch.equal(module.weight, before)


def test_a_prefix_selects(tmp_path: Path) -> None:
    gen, disc = nn.Linear(3, 2), nn.Linear(5, 1)
    tensors = {f"{side}.{key}": t for side, net in (("gen", gen), ("disc", disc)) for key, t in net.state_dict().items()}
    save_tensors(tmp_path / "a.safetensors", tensors)
    copy = nn.Linear(5, 1)
    load_into(copy, tmp_path / "a.safetensors", "disc.")
    assert torch.equal(copy.weight, disc.weight)
    assert layouts(tmp_path / "a.safetensors")["gen.weight"] == ("F32", (2, 3))


@pytest.mark.parametrize("name", ["a.pt", "a.PTH", "a.bin", "a.ckpt", "a.pkl"])
def test_pickles_are_refused_unread(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"is a pickle, which runs whatever code it carries.*safetensors\.torch"):
        load_tensors(tmp_path / name)


def test_damage_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(MissingError, match="There is no file"):
        load_tensors(path)
    save_tensors(path, {"a": torch.ones(100)})
    whole = path.read_bytes()
    for damaged in (b"", b"abc", whole[:-1], whole[:20], whole + b"x", b"PK\x03\x04" + b"0" * 50):
        path.write_bytes(damaged)
        with pytest.raises(GanzooError, match=r"damaged or no safetensors file|no safetensors file, or one with"):
            load_tensors(path)


def test_a_header_of_absurd_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write((90 * 2**20).to_bytes(8, "little"))
        file.truncate(100 * 2**20)
    start = time.perf_counter()
    with pytest.raises(GanzooError, match="absurdly long header"):
        load_tensors(path)
    assert time.perf_counter() - start < 1


def test_a_header_that_claims_more_than_the_file_has(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(GanzooError, match="damaged"):
        load_tensors(path)
