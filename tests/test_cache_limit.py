"""The cache of features takes a limited number of bytes, and what was not used for longest goes first."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganzoo.errors import UsageError
from ganzoo.evaluation.cache import LIMIT_VARIABLE, FeatureCache, cache_key, size_limit

KEYS = [cache_key(number=number) for number in range(12)]
SIZE = 100_000


def tensors(number: int) -> dict[str, Tensor]:
    return {"features": torch.full((SIZE // 4,), float(number))}


def kept(cache: FeatureCache) -> set[int]:
    return {KEYS.index(entry.key) for entry in cache.entries()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureCache:
    """Has room for three sets and some, and the first three are there, used in this order long ago."""
    monkeypatch.setenv(LIMIT_VARIABLE, str(3.5 * SIZE / 1e9))
    cache = FeatureCache(tmp_path)
    for number in range(3):
        assert cache.store("set", KEYS[number], tensors(number))
    for entry in cache.entries():
        os.utime(entry.path, (1e9 + KEYS.index(entry.key),) * 2)
    return cache


def test_what_was_not_used_for_longest_goes(cache: FeatureCache) -> None:
    assert kept(cache) == {0, 1, 2}
    assert cache.load("set", KEYS[0]) is not None  # so it was used just now
    assert cache.store("chunk", KEYS[3], tensors(3))
    assert kept(cache) == {0, 2, 3}
    assert cache.store("set", KEYS[4], tensors(4))
    assert kept(cache) == {0, 3, 4}
    assert sum(entry.size for entry in cache.entries()) <= cache.limit
    assert cache.load("set", KEYS[1]) is None
    found = cache.load("set", KEYS[0])
    assert found is not None
    assert torch.equal(found["features"], tensors(0)["features"])


def test_what_is_larger_than_the_limit_is_not_kept_and_costs_nothing_else(cache: FeatureCache) -> None:
    assert not cache.store("set", KEYS[3], {"features": torch.zeros(SIZE)})
    assert kept(cache) == {0, 1, 2}


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    cache = FeatureCache(tmp_path)
    assert not cache.store("set", KEYS[0], tensors(0))
    assert cache.entries() == []


def test_many_at_once_stay_within_it_and_read_nothing_wrong(tmp_path: Path, cache: FeatureCache) -> None:
    def work(worker: int) -> None:
        mine = FeatureCache(tmp_path)
        for turn in range(12):
            number = (worker + turn) % len(KEYS)
            mine.store("set", KEYS[number], tensors(number))
            for other in (number, (number + 5) % len(KEYS)):
                found = mine.load("set", KEYS[other])
                assert found is None or torch.equal(found["features"], tensors(other)["features"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert 1 <= len(cache.entries()) <= 3


@pytest.mark.parametrize("said", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_a_sentence(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, said)
    with pytest.raises(UsageError, match=f"number of gigabytes.*'{said}'"):
        FeatureCache()


def test_unless_said_it_is_ten_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    assert size_limit() == 10**10
