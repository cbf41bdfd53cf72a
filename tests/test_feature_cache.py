"""Features: computed once, in chunks, in memory that is bounded; and a cache that never gives what it should not."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from feature_parts import Linear, batches, images
from torch import Tensor

from ganzoo.cli import main
from ganzoo.errors import GanzooError, UsageError
from ganzoo.evaluation import features as module
from ganzoo.evaluation.cache import FeatureCache, cache_key, images_digest
from ganzoo.evaluation.features import FeatureSet, extract, extract_known, in_chunks
from ganzoo.evaluation.shards import CHUNK
from ganzoo.evaluation.statistics import frechet_distance
from ganzoo.nn import Extractor, Features

ALL: Any = frozenset({"moments", "features", "logits"})


@pytest.fixture(autouse=True)
def every_chunk_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick extractors are cached too; otherwise only chunks that took half a second are."""
    monkeypatch.setattr(module, "_WORTH_KEEPING", 0.0)


def run(
    pixels: Tensor, extractor: Extractor | None = None, cache: FeatureCache | None = None, **options: Any
) -> FeatureSet:
    settings: dict[str, Any] = {"total": len(pixels), "device": "cpu", "keep": ALL} | options
    return extract(batches(pixels), extractor or Linear(), cache=cache, **settings)


def same(one: FeatureSet, other: FeatureSet) -> bool:
    assert one.features is not None
    assert other.features is not None
    return torch.equal(one.features, other.features)


@pytest.mark.parametrize("size", [1, 7, 64, 256, 1000])
def test_the_size_of_batches_does_not_change_a_bit(size: int) -> None:
    pixels = images(600, 0)
    whole = run(pixels)
    labels = torch.arange(600) % 4
    parts = extract(batches(pixels, size, labels), Linear(), total=600, device="cpu", keep=ALL)
    assert same(whole, parts)
    assert parts.labels is not None
    assert torch.equal(parts.labels, labels)
    assert whole.labels is None
    assert frechet_distance(whole.gaussian(), parts.gaussian()) < 1e-9


def test_an_order_changes_nothing_beyond_round_off() -> None:
    pixels, other = images(700, 0), images(500, 1, low=30)
    turned = pixels[torch.randperm(700, generator=torch.Generator().manual_seed(0))]
    reference = run(other).gaussian()
    distances = [frechet_distance(run(each).gaussian(), reference) for each in (pixels, turned)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-5)


def test_only_what_is_needed_is_kept() -> None:
    pixels = images(300, 0)
    found = run(pixels, keep={"moments"})
    assert found.moments is not None
    assert found.features is found.logits is None
    few = run(pixels[:20], keep={"moments"})
    assert few.moments is None, "fewer samples than features are their own best statistics"
    assert frechet_distance(few.gaussian(), run(pixels[:20]).gaussian()) == pytest.approx(0, abs=1e-9)
    assert run(pixels, keep={"logits"}).logits is not None


def test_large_features_lie_in_a_file_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = images(300, 0)
    before = run(pixels)
    monkeypatch.setattr(module, "_IN_MEMORY", 0)
    assert same(before, run(pixels))


def test_more_images_than_asked_for_are_left_and_fewer_are_an_error() -> None:
    assert same(run(images(300, 0)[:123]), run(images(300, 0), total=123))
    with pytest.raises(UsageError, match="There are 300 images and 301 are asked for"):
        run(images(300, 0), total=301)
    with pytest.raises(UsageError, match="at least one image"):
        run(images(0, 0), total=0)
    with pytest.raises(UsageError, match="no classes"):
        run(images(30, 0), Linear(classes=None))


def test_what_breaks_the_contract_is_a_sentence() -> None:
    mixed = iter([(images(3, 0), None), (torch.zeros(3, 1, 9, 9, dtype=torch.uint8), None)])
    with pytest.raises(GanzooError, match="one size"):
        extract(mixed, Linear(), total=6, device="cpu", keep={"moments"})
    with pytest.raises(GanzooError, match="uint8 on the CPU"):
        run(images(3, 0).float())

    class Wrong(Linear):
        def forward(self, images: Tensor) -> Features:
            seen = super().forward(images)
            return Features(seen.features[:, 1:], seen.logits)

    class Broken(Linear):
        def forward(self, images: Tensor) -> Features:
            seen = super().forward(images)
            return Features(seen.features / 0, seen.logits)

    with pytest.raises(GanzooError, match=r"Wrong gives features \[3, 23\]"):
        run(images(3, 0), Wrong())
    with pytest.raises(GanzooError, match="Broken gives features that are not finite"):
        run(images(3, 0), Broken())


def test_progress_is_told() -> None:
    heard: list[tuple[int, int]] = []
    run(images(600, 0), on_progress=lambda done, total: heard.append((done, total)))
    assert heard == [(256, 600), (512, 600), (600, 600)]


def test_a_second_time_nothing_is_computed_and_every_bit_is_equal(tmp_path: Path) -> None:
    cache, pixels = FeatureCache(tmp_path), images(600, 0)
    plain = run(pixels)
    first = run(pixels, cache=cache)
    again = Linear()
    second = run(pixels, again, cache)
    assert again.seen == 0
    assert same(plain, first)
    assert same(first, second)
    assert first.logits is not None
    assert second.logits is not None
    assert torch.equal(first.logits, second.logits)


@pytest.mark.parametrize("keep", [{"moments"}, ALL], ids=["moments", "all"])
def test_a_known_set_is_not_even_read_the_second_time(tmp_path: Path, keep: Any) -> None:
    cache, pixels, labels = FeatureCache(tmp_path), images(600, 0), torch.arange(600) % 4
    settings: dict[str, Any] = {"total": 600, "device": "cpu", "keep": keep, "cache": cache}
    first = extract_known(batches(pixels, 50, labels), Linear(), data={"digest": "a"}, **settings)
    assert [entry.kind for entry in cache.entries()] == ["set"], "chunks are gone once the whole is there"

    def read() -> Any:
        raise AssertionError("it was read")

    def unread() -> Iterator[Any]:
        return (read() for _ in range(1))

    second = extract_known(unread(), Linear(), data={"digest": "a"}, **settings)
    assert first.labels is not None
    assert second.labels is not None
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.gaussian().mean, second.gaussian().mean)
    assert frechet_distance(first.gaussian(), second.gaussian()) == frechet_distance(first.gaussian(), first.gaussian())
    if first.features is not None:
        assert same(first, second)
    changes: list[dict[str, Any]] = [{"data": {"digest": "b"}}, {"total": 599}, {"seed": 2}]
    for change in changes if keep == ALL else [*changes, {"keep": {"logits"}}]:
        asked = {"data": {"digest": "a"}, **settings, **change}
        extractor = Linear(seed=asked.pop("seed", 1))
        with pytest.raises(AssertionError, match="it was read"):
            extract_known(unread(), extractor, **asked)


@pytest.mark.parametrize("total", [600, 20], ids=["moments", "features"])
def test_what_was_kept_for_more_scores_serves_for_fewer(tmp_path: Path, total: int) -> None:
    cache, pixels = FeatureCache(tmp_path), images(total, 0)
    more, less, plain = (Linear() for _ in range(3))
    settings: dict[str, Any] = {"data": {"digest": "a"}, "total": total, "device": "cpu"}
    extract_known(batches(pixels), more, keep={"moments", "features"}, cache=cache, **settings)
    found = extract_known(batches(pixels), less, keep={"moments"}, cache=cache, **settings)
    assert less.seen == 0
    alone = run(pixels, plain, keep={"moments"})
    assert torch.equal(found.gaussian().mean, alone.gaussian().mean)
    assert (found.features is None) == (alone.features is None), "nothing is held that was not asked for"
    if found.moments is not None:
        assert alone.moments is not None
        assert torch.equal(found.moments.covariance, alone.moments.covariance)


def test_a_large_batch_is_not_copied_for_each_chunk() -> None:
    pixels = images(5 * CHUNK + 7, 0)
    whole = pixels.untyped_storage().data_ptr()
    chunks = [chunk for chunk, _ in in_chunks(iter([(pixels, None)]), len(pixels))]
    assert [len(chunk) for chunk in chunks] == [*[CHUNK] * 5, 7]
    assert all(chunk.untyped_storage().data_ptr() == whole for chunk in chunks)


def test_an_interruption_loses_no_finished_chunk(tmp_path: Path) -> None:
    cache, pixels = FeatureCache(tmp_path), images(4 * CHUNK, 0)

    def stop(done: int, total: int) -> None:
        if done >= 2 * CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pixels, cache=cache, on_progress=stop)
    later = Linear()
    found = run(pixels, later, cache)
    assert later.seen == 2 * CHUNK
    assert same(found, run(pixels))


def changed_pixel() -> Iterator[Any]:
    pixels = images(300, 0)
    pixels[299, 0, 7, 7] ^= 1
    yield pixels


@pytest.mark.parametrize(
    ("pixels", "extractor", "computed"),
    [
        (next(changed_pixel()), Linear(), 300 - CHUNK),
        (images(300, 0), Linear(seed=2), 300),
        (images(300, 0)[:299], Linear(), 299 - CHUNK),
        (images(300, 0).flip(0), Linear(), 300),
        (images(300, 0).reshape(300, 1, 4, 16), Linear(), 300),
    ],
    ids=["data", "weights", "count", "order", "shape"],
)
def test_what_changed_is_never_served(tmp_path: Path, pixels: Tensor, extractor: Linear, computed: int) -> None:
    cache = FeatureCache(tmp_path)
    run(images(300, 0), cache=cache)
    found = run(pixels, extractor, cache)
    assert extractor.seen == computed
    assert same(found, run(pixels, extractor))


def test_the_key_depends_on_every_part() -> None:
    parts: dict[str, Any] = {"data": "ab", "extractor": "cd", "preprocessing": "none", "count": 5, "dtype": "float32"}
    keys = {cache_key(**parts), *(cache_key(**parts | {name: "other"}) for name in parts), cache_key(**parts, also=1)}
    assert len(keys) == 7
    assert cache_key(**dict(reversed(parts.items()))) in keys
    assert images_digest(torch.zeros(2, 3)) != images_digest(torch.zeros(3, 2))
    assert images_digest(torch.zeros(2)) != images_digest(torch.zeros(2, dtype=torch.int32))


def test_a_key_names_the_type_and_the_device_and_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []

    def listened(**parts: Any) -> str:
        told.append(parts)
        return cache_key(**parts | {name: value for name, value in changed.items() if name in parts})

    monkeypatch.setattr("ganzoo.evaluation.features.cache_key", listened)
    pixels, changed = images(CHUNK, 0), dict[str, Any]()
    changes: tuple[dict[str, Any], ...] = ({}, {"dtype": "float64"}, {"device": "cuda"}, {"batch": 1}, {})
    for number, change in enumerate(changes):
        changed.clear()
        changed |= change
        chunk, known = Linear(), Linear()
        run(pixels, chunk, FeatureCache(tmp_path / "chunks"))
        settings: dict[str, Any] = {"total": CHUNK, "device": "cpu", "keep": ["moments"]}
        extract_known(batches(pixels), known, data={}, cache=FeatureCache(tmp_path / "sets"), **settings)
        assert (chunk.seen == 0) == (known.seen == 0) == (number == 4)
    assert all(parts["dtype"] == "float32" and parts["device"] == "cpu" and "batch" in parts for parts in told)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap"])
def test_a_damaged_file_is_told_and_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    cache, pixels = FeatureCache(tmp_path), images(2 * CHUNK, 0)
    before = run(pixels, cache=cache)
    one, two = (entry.path for entry in cache.entries())
    blob = bytearray(one.read_bytes())
    if damage == "flip":
        blob[-9] ^= 64
    one.write_bytes({"flip": bytes(blob), "cut": bytes(blob[:-50]), "empty": b"", "swap": two.read_bytes()}[damage])
    again = Linear()
    with caplog.at_level(logging.WARNING):
        assert same(before, run(pixels, again, cache))
    assert again.seen == CHUNK
    assert "damaged and computed again" in caplog.text
    third = Linear()
    run(pixels, third, cache)
    assert third.seen == 0, "the damaged file was replaced"


def test_it_is_listed_and_cleared(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    assert cache.entries() == []
    assert cache.clear() == 0
    run(images(300, 0), cache=cache)
    cache.store("set", cache_key(data="x"), {"mean": torch.zeros(3)})
    entries = cache.entries()
    assert sorted(entry.kind for entry in entries) == ["chunk", "chunk", "set"]
    assert cache.clear() == sum(entry.size for entry in entries) > 0
    assert cache.entries() == []
    assert cache.load("set", cache_key(data="x")) is None


def test_the_command_line_lists_and_clears_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "500")
    cache, key = FeatureCache(), cache_key(data="x")
    cache.store("set", key, {"mean": torch.zeros(3)})
    (entry,) = cache.entries()
    assert main(["eval", "--cache", "list", "--json"]) == 0
    told = {"kind": "set", "key": key, "bytes": entry.size, "path": str(entry.path)}
    assert json.loads(capsys.readouterr().out) == {"folder": str(cache.root), "entries": [told]}
    assert main(["eval", "--cache", "list"]) == 0
    shown = capsys.readouterr()
    assert shown.out.split()[:3] == ["kind", "key", "bytes"]
    assert shown.out.split()[-3:] == ["set", key, str(entry.size)]
    assert shown.err == f"1 files, {entry.size} bytes, in {cache.root}.\n"
    assert main(["eval", "--cache", "clear"]) == 0
    assert capsys.readouterr().err == f"{entry.size} bytes were removed from {cache.root}.\n"
    assert cache.entries() == []


def test_a_cache_that_cannot_be_written_costs_no_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "features").write_text("a file stands here")
    with caplog.at_level(logging.WARNING):
        found = run(images(300, 0), cache=FeatureCache(tmp_path))
    assert found.count == 300
    assert "not kept for the next time" in caplog.text


def test_it_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "here"))
    assert FeatureCache().root == tmp_path / "here" / "features"


def test_two_processes_write_the_same_key_at_once(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, torch
        from pathlib import Path
        from ganzoo.evaluation.cache import FeatureCache
        cache = FeatureCache(Path(sys.argv[1]))
        value = {"features": torch.arange(200_000, dtype=torch.float32)}
        for turn in range(15):
            assert cache.store("chunk", "ab" * 32, value)
            found = cache.load("chunk", "ab" * 32)
            assert found is not None and torch.equal(found["features"], value["features"]), turn
        """
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=120)[1] == ""
        assert process.returncode == 0
    assert [entry.key for entry in FeatureCache(tmp_path).entries()] == ["ab" * 32]
    assert not list(tmp_path.rglob("*.tmp"))
