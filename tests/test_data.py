"""Streams, the data sets that they draw from, and where data sets are looked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganzoo.api import GanzooError, Spec, UsageError
from ganzoo.data import (
    ArrayDataset,
    Augment,
    DataStream,
    GaussianMixture,
    download_root,
    resize,
    search_roots,
    to_unit,
)
from ganzoo.data.dataset import place
from ganzoo.data.pixels import from_unit
from ganzoo.data.roots import cache_root


def numbered(n: int) -> ArrayDataset:
    """A data set whose sample number i is the point (i,)."""
    return ArrayDataset(torch.arange(n, dtype=torch.float32)[:, None], None, Spec((1,)))


def ids(stream: DataStream, batches: int) -> list[int]:
    """Numbers of the samples in the next batches of a stream over ``numbered``."""
    return [int(i) for _ in range(batches) for i in stream.next().x[:, 0]]


def ring() -> GaussianMixture:
    return GaussianMixture(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 0.1, Spec((2,), 2))


# Streams.


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 23), st.integers(1, 40), st.integers(0, 2**63 - 1))
def test_every_epoch_holds_every_sample_once(n: int, batch: int, seed: int) -> None:
    drawn = ids(DataStream(numbered(n), batch, seed), 3 * n // batch + 1)
    for epoch in range(len(drawn) // n):
        assert sorted(drawn[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_order_depends_on_seed_and_epoch_but_not_on_the_batch_size() -> None:
    n = 50
    drawn = ids(DataStream(numbered(n), 10, 1), 10)
    assert drawn == ids(DataStream(numbered(n), 25, 1), 4)
    assert drawn[:n] != drawn[n:]
    assert drawn != ids(DataStream(numbered(n), 10, 2), 10)


@pytest.mark.parametrize("make", [lambda: numbered(13), ring])
def test_setting_the_position_resumes_to_the_bit(make: Callable[[], ArrayDataset]) -> None:
    whole = DataStream(make(), 5, 3)
    batches = [whole.next().x for _ in range(9)]
    resumed = DataStream(make(), 5, 3)
    resumed.position = 20
    assert all(torch.equal(resumed.next().x, batch) for batch in batches[4:])
    assert resumed.position == whole.position == 45
    resumed.position = 0
    assert torch.equal(resumed.next().x, batches[0])


@pytest.mark.parametrize("world", [2, 3, 6])
def test_ranks_partition_the_global_batch(world: int) -> None:
    whole = DataStream(numbered(20), 6, 0)
    parts = [DataStream(numbered(20), 6, 0, rank=rank, world=world) for rank in range(world)]
    for _ in range(12):
        assert torch.equal(torch.cat([part.next().x for part in parts]), whole.next().x)
    assert {part.position for part in parts} == {whole.position}


def test_ranks_draw_different_samples_of_an_endless_data_set() -> None:
    first, second = (DataStream(ring(), 8, 0, rank=rank, world=2).next() for rank in range(2))
    assert first.x.shape == (4, 2)
    assert not torch.equal(first.x, second.x)


def test_an_uneven_batch_and_a_negative_position_are_refused() -> None:
    with pytest.raises(UsageError, match="A batch of 9 does not divide evenly between 2 processes"):
        DataStream(numbered(4), 9, 0, world=2)
    with pytest.raises(UsageError, match="at least 0, not -1"):
        DataStream(numbered(4), 1, 0).position = -1


# Data sets.


def test_images_come_out_in_unit_range_with_their_labels() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    batch = ArrayDataset(pixels, torch.tensor([3, 2, 1, 0]), Spec((1, 8, 8), 4)).fetch(torch.tensor([3, 0]))
    assert batch.x.dtype == torch.float32
    assert batch.x.max() == 1.0
    assert batch.x.min() == -1.0
    assert batch.y is not None
    assert batch.y.tolist() == [0, 3]
    assert torch.equal(from_unit(batch.x), pixels[[3, 0]])


def test_unit_range_is_exact_at_both_ends() -> None:
    assert to_unit(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


@given(st.floats(-0.999, 0.999))
def test_pixels_come_back_from_the_unit_range(off: float) -> None:
    """All 256 of them, from anywhere within half a level; what lies outside is clamped, and no number is black."""
    pixels = torch.arange(256, dtype=torch.uint8)
    values = to_unit(pixels)
    assert torch.equal(from_unit(values), pixels)
    assert torch.equal(from_unit(values + off / 255), pixels)
    assert torch.equal(values, to_unit(pixels)), "what is converted is left as it is"
    strange = torch.tensor([-1.5, 7.0, torch.inf, -torch.inf, torch.nan])
    assert from_unit(strange).tolist() == [0, 255, 255, 0, 0]


@pytest.mark.parametrize(
    ("samples", "labels", "spec", "words"),
    [
        (torch.zeros(2, 1, 8, 8), None, Spec((1, 8, 8)), "of torch.uint8, not"),
        (torch.zeros(2, 3), None, Spec((2,)), "must hold samples"),
        (torch.zeros(0, 2), None, Spec((2,)), "at least one sample"),
        (torch.zeros(2, 2), None, Spec((2,), 3), "of 2, 3 classes needs labels"),
        (torch.zeros(2, 2), torch.zeros(3, dtype=torch.int64), Spec((2,), 3), r"Labels must be \(2,\)"),
        (torch.zeros(2, 2), torch.tensor([0, 3]), Spec((2,), 3), r"in 0 .. 2, but there are 0 and 3"),
    ],
)
def test_tensors_that_contradict_the_spec_are_refused(
    samples: torch.Tensor, labels: torch.Tensor | None, spec: Spec, words: str
) -> None:
    with pytest.raises(GanzooError, match=words):
        ArrayDataset(samples, labels, spec)


def test_labels_are_forgotten_where_the_spec_has_no_classes() -> None:
    dataset = ArrayDataset(torch.zeros(2, 2), torch.tensor([0, 5]), Spec((2,)))
    assert dataset.labels is None
    assert dataset.fetch(torch.tensor([0])).y is None


# Flips and crops.


def pictures(n: int = 64, side: int = 8) -> torch.Tensor:
    """Images in which every pixel tells where it belongs."""
    ramp = torch.arange(side * side, dtype=torch.uint8).view(1, 1, side, side)
    return ramp.repeat(n, 1, 1, 1)


def augmented(augment: Augment, n: int = 64) -> torch.Tensor:
    x = pictures(n).float()
    return augment(x, torch.Generator().manual_seed(0))


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    x = augmented(Augment(flip=True), 400)
    plain = pictures(1)[0].float()
    mirrored = (x == plain.flip(-1)).flatten(1).all(1)
    same = (x == plain).flatten(1).all(1)
    assert torch.equal(mirrored, ~same)
    assert 0.4 < mirrored.float().mean() < 0.6


def test_a_crop_is_a_window_of_the_mirrored_padding() -> None:
    padded = torch.nn.functional.pad(pictures(1).float(), (2, 2, 2, 2), mode="reflect")[0, 0]
    windows = {(dy, dx): padded[dy : dy + 8, dx : dx + 8] for dy in range(5) for dx in range(5)}
    found = set()
    for image in augmented(Augment(crop=2), 400)[:, 0]:
        matches = [place for place, window in windows.items() if torch.equal(window, image)]
        assert len(matches) == 1
        found.add(matches[0])
    assert found == windows.keys()


def test_augmented_batches_resume_to_the_bit_and_differ_by_rank_and_epoch() -> None:
    def stream(rank: int = 0, world: int = 1) -> DataStream:
        dataset = ArrayDataset(pictures(12), None, Spec((1, 8, 8)), Augment(flip=True, crop=3))
        return DataStream(dataset, 6, 5, rank=rank, world=world)

    whole = stream()
    batches = [whole.next().x for _ in range(6)]
    resumed = stream()
    resumed.position = 18
    assert all(torch.equal(resumed.next().x, batch) for batch in batches[3:])
    assert not torch.equal(batches[0], batches[2])
    assert not torch.equal(stream(0, 2).next().x, stream(1, 2).next().x)
    plain = ArrayDataset(pictures(12), None, Spec((1, 8, 8)), Augment())
    assert plain.augment is None
    assert batches[0].min() >= -1


@pytest.mark.parametrize(
    ("augment", "spec", "words"),
    [
        (Augment(flip=True), Spec((2,)), "are for images, and these are points of 2 numbers"),
        (Augment(crop=8), Spec((1, 8, 9)), "must be less than the sides of the images, which are 1x8x9, not 8"),
    ],
)
def test_what_cannot_be_augmented_is_refused(augment: Augment, spec: Spec, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        augment.check(spec)


def test_finite_and_endless_data_sets_refuse_each_others_verb() -> None:
    with pytest.raises(GanzooError, match="use fetch"):
        numbered(2).draw(1, torch.Generator())
    with pytest.raises(GanzooError, match="use draw"):
        ring().fetch(torch.tensor([0]))


def test_mixture_has_the_modes_and_spread_it_says() -> None:
    mixture = ring()
    batch = mixture.draw(20_000, torch.Generator().manual_seed(0))
    assert batch.y is not None
    apart = batch.x - mixture.modes()[batch.y]
    assert apart.std().item() == pytest.approx(mixture.std, rel=0.02)
    assert batch.y.float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_resize_keeps_constants_and_clamps_overshoot() -> None:
    edge = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    edge[..., 4:] = 255
    large = resize(edge, 16)
    assert large.dtype == torch.uint8
    assert large[0, 0, :, 0].tolist() == [0] * 16
    assert large[0, 0, :, -1].tolist() == [255] * 16
    assert resize(edge, 8) is edge


# Roots and laziness.


def test_roots_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "env"))
    monkeypatch.setattr("ganzoo.data.roots.cache_root", lambda: tmp_path / "cache")
    assert search_roots(tmp_path / "own") == [tmp_path / "own", tmp_path / "env", tmp_path / "cache"]
    assert download_root(tmp_path / "own") == tmp_path / "own"
    assert download_root() == tmp_path / "env"
    (tmp_path / "env").write_text("a file is no place for a download")
    assert download_root() == tmp_path / "cache"
    monkeypatch.delenv("GANZOO_DATA")
    assert search_roots() == [tmp_path / "cache"]


@pytest.mark.parametrize(
    ("platform", "variables", "end"),
    [
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/ganzoo/data"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "HOME/.cache/ganzoo/data"),
        ("darwin", {}, "HOME/Library/Caches/ganzoo/data"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/ganzoo/data"),
        ("win32", {"LOCALAPPDATA": ""}, "HOME/AppData/Local/ganzoo/data"),
    ],
)
def test_the_cache_follows_the_custom_of_the_system(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], end: str
) -> None:
    monkeypatch.setattr("ganzoo.data.roots.sys.platform", platform)
    monkeypatch.delenv("GANZOO_CACHE")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_root().as_posix() == end.replace("HOME", Path.home().as_posix())


def test_listing_and_decoding_need_no_torch() -> None:
    code = (
        "import sys, ganzoo.data as d; d.list_images, d.choose_shape, d.decode_images, d.search_roots;"
        "assert 'torch' not in sys.modules; dir(d)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_mps_cannot_look_up_stays_in_main_memory() -> None:
    cpu, mps = torch.device("cpu"), torch.device("mps")
    assert place(2**31 - 1, cpu, mps)[0] == mps
    where, why = place(2**31, cpu, mps)
    assert where == cpu
    assert "2.15 GB" in why


def test_data_are_moved_to_a_device_once() -> None:
    data = numbered(4)
    assert data.placement[1] == "they have not been moved yet"
    before = data.to("cpu").samples
    assert data.to("cpu").samples is before
    assert data.placement == ("on the device", "samples in memory are the device's own")
