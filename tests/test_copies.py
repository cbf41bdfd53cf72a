"""Prepared copies: written once, opened at once, the same images to the bit, and refused where they are damaged."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

from ganzoo.api import Spec
from ganzoo.cli import main
from ganzoo.data import ArrayDataset, Dataset, DataStream, copies
from ganzoo.data.copies import check_copy, read_copy
from ganzoo.data.dataset import Pending
from ganzoo.data.naming import data_settings
from ganzoo.data.prepare import from_dataset, prepare
from ganzoo.data.stream import in_turn
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.evaluation.evaluate import build_extractor, evaluate
from ganzoo.evaluation.judge import Judge
from ganzoo.evaluation.reference import Reference
from ganzoo.evaluation.table import metrics_named
from ganzoo.files import json_digest
from ganzoo.registry import build, registry
from ganzoo.training.run import Run
from ganzoo_datasets.prepared import Prepared, PreparedParts

COUNT = 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(COUNT):
        path = tmp_path / "photos" / ("cats", "dogs")[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def opened(name: str, path: Path, **options: Any) -> Dataset:
    choice = registry().choose("dataset", name, {"path": str(path), **options})
    assert choice.component.spec is not None
    found: Dataset = build(choice, choice.component.spec(choice.config))
    return found


def small(tmp_path: Path, shard_bytes: int, count: int = COUNT, labels: bool = True) -> tuple[ArrayDataset, Path]:
    """A data set in memory and its copy."""
    rng = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 256, (count, 3, 8, 8), generator=rng, dtype=torch.uint8)
    spec = Spec((3, 8, 8), 5 if labels else None)
    data = ArrayDataset(samples, torch.arange(count) % 5 if labels else None, spec)
    prepare(from_dataset(data, {"data": "noise"}), tmp_path / "copy", shard_bytes=shard_bytes)
    return data, tmp_path / "copy"


def batches(data: Dataset) -> list[tuple[Any, Any]]:
    stream = DataStream(data, 16, 3)
    return [(batch.x, batch.y) for batch in (stream.next() for _ in range(7))]


def same(one: list[tuple[Any, Any]], other: list[tuple[Any, Any]]) -> bool:
    return all(torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in zip(one, other, strict=True))


def test_a_folder_is_prepared_and_trains_as_it_is(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["data", "prepare", "photos", "copy", "--size", "16", "--shard-size", "1", "--workers", "0"]
    assert main(line) == 0
    assert capsys.readouterr().out == "copy\n"
    copy = read_copy(Path("copy"))
    assert (copy.spec, copy.count, copy.classes) == (Spec((3, 16, 16), 2), COUNT, ("cats", "dogs"))
    assert data_settings("copy") == {"data": "prepared", "data.path": "copy"}
    held, prepared = opened("folder", photos, size=16), opened("prepared", Path("copy"))
    assert same(batches(held), batches(prepared))
    assert main(line) == 0, "the same command finds it done"
    assert main([*line[:4], "--size", "8", "--workers", "0"]) == 2
    assert "copy is there already" in capsys.readouterr().err
    assert main(["data", "show", "copy", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["count"] == COUNT
    assert main(["data", "check", "copy"]) == 0
    small = ["--gen.width", "4", "--disc.width", "4", "--batch-size", "8", "--samples", "4", "--device", "cpu", "-q"]
    weights = []
    for name in ("photos", "copy"):
        size = ["--size", "16"] if name == "photos" else []
        assert main(["run", "--data", name, *size, "--steps", "2", "--out", name + "-run", *small]) == 0
        (path,) = Path(name + "-run").iterdir()
        assert str(Run.open(path).spec) == "3x16x16, 2 classes"
        weights.append(next((path / "checkpoints").glob("*2/model.safetensors")).read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("memory", ["auto", "hold", "stream"])
@pytest.mark.parametrize("shard_bytes", [10**9, 7 * 192, 1])
def test_copies_of_one_file_or_many_give_the_same_batches(tmp_path: Path, memory: str, shard_bytes: int) -> None:
    data, path = small(tmp_path, shard_bytes)
    copy = opened("prepared", path, memory=memory)
    assert isinstance(copy, PreparedParts if shard_bytes < 10**9 and memory != "hold" else Prepared)
    assert same(batches(copy), batches(data))
    assert same(batches(pickle.loads(pickle.dumps(copy))), batches(data))
    assert copy.digest == read_copy(path).digest
    index = torch.tensor([3, COUNT - 1, 3, 0])
    labels = copy.labels_of(index)
    assert labels is not None
    assert labels.tolist() == [3, 4, 3, 0]
    with pytest.raises(IndexError):
        copy.fetch(torch.tensor([COUNT]))


def test_a_copy_can_be_read_with_safetensors_alone(tmp_path: Path) -> None:
    data, path = small(tmp_path, 7 * 192)
    files = sorted(path.glob("images-*.safetensors"))
    assert len(files) == 6
    pixels = np.concatenate([load_file(file)["pixels"] for file in files])
    assert np.array_equal(pixels, data.samples)
    assert load_file(path / "labels.safetensors")["labels"].tolist() == (np.arange(COUNT) % 5).tolist()


@pytest.mark.parametrize("name", ["digits", "ring", "npz"])
def test_other_data_sets_are_copied_or_refused(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("a.npz", x=np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8), y=np.arange(9) % 3)
    source = "a.npz" if name == "npz" else name
    code = main(["data", "prepare", source, "out"])
    if name == "ring":
        assert code == 2
        assert "this data set has points" in capsys.readouterr().err
        return
    assert code == 0
    copy = opened("prepared", Path("out"))
    original = opened("npz", Path("a.npz")) if name == "npz" else build(*_digits())
    assert torch.equal(copy.fetch(torch.arange(9)).x, original.fetch(torch.arange(9)).x)
    assert copy.length == original.length
    assert main(["data", "prepare", source, "bare", "--cond", "off"]) == 0
    assert read_copy(Path("bare")).spec.num_classes is None
    assert main(["data", "prepare", source, "more", "--fit", "pad"]) == 2
    assert "fit" in capsys.readouterr().err


def _digits() -> tuple[Any, Spec]:
    choice = registry().choose("dataset", "digits")
    assert choice.component.spec is not None
    return choice, choice.component.spec(choice.config)


def test_labels_that_are_needed_and_images_that_are_broken(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "photos/cats", "out", "--cond", "on"]) == 2
    assert "photos/cats has no labels" in capsys.readouterr().err
    (photos / "dogs" / "01.png").write_bytes(b"broken")
    line = ["data", "prepare", "photos", "out", "--size", "16", "--workers", "0"]
    assert main(line) == 2
    assert "The image dogs/01.png in" in capsys.readouterr().err
    assert not Path("out").exists()
    assert main([*line, "--on-bad-image", "skip"]) == 0
    copy = opened("prepared", Path("out"))
    held = opened("folder", photos, size=16, on_bad_image="skip")
    assert copy.length == COUNT - 1
    assert same(batches(copy), batches(held))


def test_a_copy_that_was_stopped_goes_on_to_the_same_bytes(photos: Path) -> None:
    line = ["--size", "400", "--shard-size", "2", "--workers", "0"]
    assert main(["data", "prepare", "photos", "whole", *line]) == 0
    program = [sys.executable, "-m", "ganzoo", "data", "prepare", "photos", "parts", *line]
    stopped = subprocess.Popen(program, stderr=subprocess.DEVNULL)
    wait_for(".parts.*.partial/images-00002.safetensors")
    os.kill(stopped.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    stopped.wait()
    assert not Path("parts").exists()
    begun = [file.stat().st_mtime_ns for file in sorted(Path().glob(".parts.*.partial/images-*.safetensors"))]
    assert len(begun) >= 2
    assert main(["data", "prepare", "photos", "parts", *line]) == 0
    files = sorted(Path("parts").iterdir())
    assert [file.name for file in files] == sorted(file.name for file in Path("whole").iterdir())
    assert all(file.read_bytes() == (Path("whole") / file.name).read_bytes() for file in files)
    shards = sorted(Path("parts").glob("images-*.safetensors"))
    assert [file.stat().st_mtime_ns for file in shards[: len(begun) - 1]] == begun[:-1], "what was done was kept"
    assert not list(Path().glob(".parts.*"))


def wait_for(pattern: str, size: int = 0) -> None:
    """Until there is a file of such a name, of that size at least."""
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size >= size for path in Path().glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} came"
        time.sleep(0.01)


@pytest.mark.skipif(os.name == "nt", reason="such signals cannot be sent there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_loses_no_image_of_a_file_that_is_not_full(photos: Path, name: str) -> None:
    many = Path("many")
    many.mkdir()
    for number in range(5000):
        (many / f"{number:04d}.png").hardlink_to(photos / ("cats", "dogs")[number % 2] / f"{number % COUNT:02d}.png")
    line = ["--size", "64", "--workers", "0"]
    assert main(["data", "prepare", "many", "whole", *line]) == 0
    program = [sys.executable, "-m", "ganzoo", "data", "prepare", "many", "parts", *line]
    stopped = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    # Decoding hands over 32 images, 400 kB, at a time: of these, the first must be in the file as a whole.
    wait_for(".parts.*.partial/.images-00000.*.tmp", size=2**20)
    stopped.send_signal(getattr(signal, name))
    said = stopped.communicate()[1]
    assert stopped.returncode == 128 + getattr(signal, name), said
    assert f"{name}: stopped; what is done is kept, and the same command goes on from there." in said
    (part,) = Path().glob(".parts.*.partial/images-00000.part")
    done = np.fromfile(part.with_suffix(".part.numbers"), np.int64)
    assert 0 < len(done) < 5000
    assert done.tolist() == list(range(len(done)))
    before = part.stat().st_ino
    assert main(["data", "prepare", "many", "parts", *line]) == 0
    shard = Path("parts/images-00000.safetensors")
    assert shard.stat().st_ino == before, "what was done was kept"
    assert sorted(file.name for file in Path("parts").iterdir()) == sorted(f.name for f in Path("whole").iterdir())
    assert shard.read_bytes() == (Path("whole") / shard.name).read_bytes()
    assert not list(Path().glob(".parts.*"))


def test_copies_of_one_name_do_not_take_each_others_place(caplog: pytest.LogCaptureFixture) -> None:
    spec, noise = Spec((1, 4, 4)), torch.zeros(9, 1, 4, 4, dtype=torch.uint8)
    first, second = (from_dataset(ArrayDataset(noise + n, None, spec), {"data": "noise"}) for n in range(2))
    with pytest.raises(UsageError, match="stopped"):
        prepare(dataclasses.replace(first, finish=stop), Path("out"))
    prepare(second, Path("out"))
    assert "holds an unfinished copy of other images or with other settings" in caplog.text
    assert opened("prepared", Path("out")).fetch(torch.arange(1)).x[0, 0, 0, 0] == pytest.approx(2 / 255 - 1)
    assert len(list(Path().glob(".out.*.partial/images-00000.part"))) == 1
    with pytest.raises(UsageError, match="out is there already, and was not made from the same images"):
        prepare(first, Path("out"))


def stop() -> None:
    raise UsageError("stopped")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy for tests that put back what they damage."""
    return small(tmp_path_factory.mktemp("damaged"), 7 * 192)[1]


def test_a_flipped_byte_of_pixels_is_found_by_the_check(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = damaged / "images-00003.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    opened("prepared", damaged).fetch(torch.arange(COUNT))  # nothing is hashed here
    assert main(["data", "check", str(damaged)]) == 1
    assert "images-00003.safetensors is damaged" in capsys.readouterr().err
    file.write_bytes(data)
    check_copy(read_copy(damaged))


def broken(path: Path) -> Iterator[str]:
    """Damages a copy in many ways, and mends it."""
    for name in ("images-00002.safetensors", "labels.safetensors", "ganzoo-data.json"):
        file = path / name
        data = file.read_bytes()
        for damage in (None, b"", data[:-2], data + b"\0", data[:20], b"\xff" * 8 + data[8:]):
            file.unlink()
            if damage is not None:
                file.write_bytes(damage)
            yield f"{name} {damage!r:.30}"
            file.write_bytes(data)


def test_what_does_not_fit_is_refused_at_opening(damaged: Path) -> None:
    for what in broken(damaged):
        copies._read.cache_clear()
        with pytest.raises(GanzooError, match=r"damaged|lacks|no prepared copy|cannot be read") as refused:
            opened("prepared", damaged)
        assert isinstance(refused.value, MissingError) == what.endswith("json None"), what
    copies._read.cache_clear()
    assert opened("prepared", damaged).length == COUNT


HOSTILE = st.recursive(
    st.none()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from(["../../etc/passwd", "images-00000.safetensors", "a" * 64, "", "\x1b[2J"])
    | st.floats(allow_nan=False)
    | st.booleans(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["shape", "count", "num_classes", "classes", "labels", "shards", "source", "version"]), HOSTILE)
def test_a_strangers_record_is_refused_in_a_sentence(tmp_path: Path, name: str, value: Any) -> None:
    said = {
        "format": "ganzoo-data",
        "version": 1,
        "shape": [3, 8, 8],
        "count": 2,
        "num_classes": None,
        "classes": [],
        "labels": "",
        "shards": [["images-00000.safetensors", 2, "0" * 64]],
        "source": {},
    }
    said[name] = value
    said["digest"] = json_digest(said)
    (tmp_path / "ganzoo-data.json").write_text(json.dumps(said), encoding="utf-8")
    copies._read.cache_clear()
    try:
        copy = read_copy(tmp_path)
    except GanzooError:
        return
    assert copy.count * copy.spec.numel <= 2**48
    assert all(shard.file.startswith("images-") for shard in copy.shards)


def test_a_record_is_never_followed_out_of_its_folder(damaged: Path) -> None:
    record = damaged / "ganzoo-data.json"
    before = record.read_text(encoding="utf-8")
    said = json.loads(before)
    said.pop("digest")
    said["shards"][0][0] = "../images-00000.safetensors"
    said["digest"] = json_digest(said)
    record.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(GanzooError, match="says what cannot be"):
        read_copy(damaged)
    record.write_text(before, encoding="utf-8")


def test_no_copy_and_later_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(tmp_path)]) == 4
    assert "no prepared copy" in capsys.readouterr().err
    _, path = small(tmp_path, 10**9)
    said = json.loads((path / "ganzoo-data.json").read_text(encoding="utf-8"))
    (path / "ganzoo-data.json").write_text(json.dumps({**said, "version": 2}), encoding="utf-8")
    assert main(["data", "check", str(path)]) == 1
    assert "is of version 2, and this ganzoo reads version 1" in capsys.readouterr().err
    with pytest.raises(UsageError, match="needs the option path"):
        registry().get("dataset", "prepared").component.spec(  # type: ignore[misc]
            registry().choose("dataset", "prepared").config
        )


def test_scores_against_a_copy_and_against_streamed_images_read_each_image_once(photos: Path) -> None:
    assert main(["data", "prepare", "photos", "copy", "--size", "32", "--workers", "0"]) == 0
    pixels = np.random.default_rng(5).integers(0, 256, (COUNT, 28, 28), dtype=np.uint8)
    np.savez("fakes.npz", x=pixels, y=np.arange(COUNT) % 2)
    assert main(["data", "prepare", "fakes.npz", "fakes"]) == 0
    scores = [
        evaluate(path, against="fakes", metrics=["fid"], features="digit-cnn", device="cpu")["fid"]
        for path in ("fakes.npz", "fakes")
    ]
    assert scores[0] == scores[1] < 1e-3
    streamed = opened("folder", photos, size=32, memory="stream", workers=0)
    copy = opened("prepared", Path("copy"))
    order = torch.arange(COUNT)
    for one, other in zip(in_turn(streamed, order, 7), in_turn(copy, order, 7), strict=True):
        assert torch.equal(one.x, other.x)
    for data in (streamed, copy):
        seen: list[int] = []

        def counted(index: torch.Tensor, data: Dataset = data, seen: list[int] = seen) -> Pending:
            seen.extend(index.tolist())
            return type(data).begin(data, index)

        data.begin = counted  # type: ignore[method-assign]
        extractor = build_extractor("digit-cnn", {}, data.spec)
        judge = Judge(metrics_named(["fid"]), extractor=extractor, name="", reference=Reference("", data))
        assert seen == order.tolist()
        assert judge.real.shares is not None
        assert judge.real.shares.tolist() == [0.5, 0.5]
