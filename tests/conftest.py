"""What all tests share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Done, Ganzoo
from hypothesis import HealthCheck, settings
from installing import installed

from ganzoo import cli

# A busy machine is no reason to fail: no test here measures time.
settings.register_profile("ganzoo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ganzoo")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither rely on the user's cache nor leave anything in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def hiccups() -> Iterator[None]:
    """The loss of ``hiccup_parts``, which breaks at certain steps, is installed."""
    with installed("hiccup_parts"):
        yield


@pytest.fixture
def ganzoo(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ganzoo]:
    """The command line in this process, in an empty folder; plugins that it loads are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*args: str) -> Done:
        code = cli.main(list(args))
        return Done(code, *capsys.readouterr())

    with installed():
        yield run


def _hear_signals() -> None:
    """Undo what ``nohup`` and a background shell do, which the processes that tests start would inherit."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


_hear_signals()
