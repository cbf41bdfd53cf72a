"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from ganzoo.plugins import loaded

# A busy machine is no reason to fail: no test here measures time.
settings.register_profile("ganzoo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ganzoo")


@pytest.fixture
def hiccups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The loss of ``hiccup_parts``, which breaks at certain steps, is installed."""
    monkeypatch.setenv("GANZOO_PLUGINS", "hiccup_parts")
    loaded.cache_clear()
    yield
    monkeypatch.undo()
    loaded.cache_clear()
